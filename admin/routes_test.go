package admin

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/framegate/framegate/resolver"
	"github.com/framegate/framegate/resolver/etcdclient"
	"github.com/framegate/framegate/resolver/etcdstore"
	"github.com/framegate/framegate/resolver/filesource"
	"github.com/framegate/framegate/resolver/match"
	"github.com/framegate/framegate/resolver/spec"
	"github.com/framegate/framegate/test/testlog"
)

const echoRoute = `
name: echo
match: [{method: /echo.Echo/*}]
backends: [{name: stable, endpoints: [{address: "127.0.0.1:9001"}]}]
timeout: 1.5s
`

// slower is the route with another timeout.
func slower(timeout string) string { return strings.ReplaceAll(echoRoute, "1.5s", timeout) }

// seenRoute is a routeAnswer as clients read it.
type seenRoute struct {
	Name           string          `json:"name"`
	Source         string          `json:"source"`
	Status         string          `json:"status"`
	Revision       int64           `json:"revision"`
	LatestRevision int64           `json:"latest_revision"`
	Error          string          `json:"error"`
	Route          json.RawMessage `json:"route"`
}

func (c *client) getRoute(name string) (seenRoute, answer) {
	c.t.Helper()
	a := c.do("GET", "/v1/routes/"+name, "")
	require.Equal(c.t, 200, a.code, a.body)
	var seen seenRoute
	a.into(c.t, &seen)
	return seen, a
}

func (c *client) untilInForce(name string) seenRoute {
	c.t.Helper()
	var seen seenRoute
	eventually(c.t, "route "+name+" in force", func() bool {
		seen, _ = c.getRoute(name)
		return seen.Status == statusInForce
	})
	return seen
}

func TestRoutes_PutGetListDelete(t *testing.T) {
	t.Parallel()
	var log testlog.Buffer
	c := startAPI(t, Config{Control: startEtcd(t).control(), Log: log.Logger()})
	require.Equal(t, "route echo: not found", c.fails(404, reasonNotFound, "GET", "/v1/routes/echo", ""))

	a := c.do("PUT", "/v1/routes/echo", echoRoute)
	require.Equal(t, 201, a.code, a.body)
	var put putAnswer
	a.into(t, &put)
	require.Equal(t, putAnswer{Name: "echo", Outcome: match.Created, Revision: put.Revision}, put)
	require.Equal(t, fmt.Sprintf("%q", fmt.Sprint(put.Revision)), a.header.Get("ETag"))
	require.Contains(t, log.String(), "admin: route put")

	seen, got := c.getRoute("echo")
	require.Equal(t, put.Revision, seen.LatestRevision, "what was put is there at once")
	require.Contains(t, []string{statusInForce, statusPending}, seen.Status)
	require.Equal(t, a.header.Get("ETag"), got.header.Get("ETag"))
	seen = c.untilInForce("echo")
	require.Equal(t, put.Revision, seen.Revision)
	require.JSONEq(t, `{"name":"echo","match":[{"method":"/echo.Echo/*"}],"mode":"frame","backends":[{"name":"stable","endpoints":[{"address":"127.0.0.1:9001"}]}],"timeout":"1.5s"}`, string(seen.Route))

	again := c.do("PUT", "/v1/routes/echo", string(seen.Route), header("Content-Type", "application/json; charset=utf-8"))
	require.Equal(t, 200, again.code, again.body)
	again.into(t, &put)
	require.Equal(t, match.Unchanged, put.Outcome, "what GET shows can be put")

	for _, media := range []string{"application/yaml", "text/yaml"} {
		require.Equal(t, 200, c.do("PUT", "/v1/routes/echo", echoRoute, header("Content-Type", media)).code)
	}
	var list struct {
		Source *sourceAnswer `json:"source"`
		Routes []seenRoute   `json:"routes"`
	}
	c.do("GET", "/v1/routes", "").into(t, &list)
	require.Equal(t, []seenRoute{seen}, list.Routes)
	require.False(t, list.Source.Stale)
	require.GreaterOrEqual(t, list.Source.Revision, seen.Revision)
	require.NotNil(t, list.Source.Confirmed)

	require.Equal(t, 204, c.do("DELETE", "/v1/routes/echo", "").code)
	require.Equal(t, "route echo: not found in etcd", c.fails(404, reasonNotFound, "DELETE", "/v1/routes/echo", ""))
	c.fails(404, reasonNotFound, "GET", "/v1/routes/echo", "")
	eventually(t, "no route", func() bool {
		return strings.Contains(c.do("GET", "/v1/routes", "").body, `"routes":[]`)
	})
}

func TestRoutes_BadDocumentsAreNotStored(t *testing.T) {
	t.Parallel()
	e := startEtcd(t)
	c := startAPI(t, Config{Control: e.control()})
	for doc, want := range map[string]string{
		"":           `name: ""`,
		"nmae: echo": "line 1: nmae: unknown key",
		"{":          "did not find",
		echoRoute + "mode: struct\nschema: {name: nowhere}\n":  `schema.name: "nowhere" is not in etcd`,
		echoRoute + "schema: {files: [echo.proto]}\n":          `schema.files: ["echo.proto"], want name or reflection`,
		strings.ReplaceAll(echoRoute, "1.5s", "soon"):          `timeout: "soon", want a duration such as 1.5s or 200ms`,
		strings.ReplaceAll(echoRoute, "name: echo", "name: b"): `name: "b", want "echo" as in the path`,
		strings.ReplaceAll(echoRoute, "/echo.Echo/*", "echo"):  `match[0].method: "echo", want /pkg.Service/Method`,
	} {
		require.Contains(t, c.fails(400, reasonBadDocument, "PUT", "/v1/routes/echo", doc), want)
		require.Contains(t, c.fails(400, reasonBadDocument, "PUT", "/v1/routes/echo?dry_run=true", doc), want)
	}
	require.Equal(t, `dry_run: "perhaps", want true or false`, c.fails(400, reasonBadParameter, "PUT", "/v1/routes/echo?dry_run=perhaps", echoRoute))
	c.fails(400, reasonBadParameter, "DELETE", "/v1/routes/echo?dry_run=true", "")
	routes, bad, err := e.routes.List(t.Context())
	require.NoError(t, err)
	require.Empty(t, routes)
	require.Empty(t, bad)
}

func TestRoutes_ChangesOnlyTheRevisionThatWasSeen(t *testing.T) {
	t.Parallel()
	c := startAPI(t, Config{Control: startEtcd(t).control()})
	none, any := header("If-None-Match", "*"), header("If-Match", "*")
	require.Contains(t, c.fails(412, reasonConflict, "PUT", "/v1/routes/echo", echoRoute, any), "not found")
	require.Contains(t, c.fails(412, reasonConflict, "PUT", "/v1/routes/echo", echoRoute, header("If-Match", `"1"`)), "does not exist, want revision 1")
	first := c.do("PUT", "/v1/routes/echo", echoRoute, none)
	require.Equal(t, 201, first.code, first.body)
	require.Contains(t, c.fails(412, reasonConflict, "PUT", "/v1/routes/echo", slower("2s"), none), "want that it does not exist")

	old := header("If-Match", first.header.Get("ETag"))
	second := c.do("PUT", "/v1/routes/echo", slower("2s"), old)
	require.Equal(t, 200, second.code, second.body)
	require.NotEqual(t, first.header.Get("ETag"), second.header.Get("ETag"))
	require.Contains(t, c.fails(412, reasonConflict, "PUT", "/v1/routes/echo", slower("3s"), old), "somebody changed it")
	require.Contains(t, c.fails(412, reasonConflict, "DELETE", "/v1/routes/echo", "", old), "somebody changed it")
	require.Equal(t, 200, c.do("PUT", "/v1/routes/echo", slower("4s"), any).code)

	for _, bad := range []edit{header("If-Match", "1"), header("If-Match", `W/"1"`), header("If-Match", `"1", "2"`), header("If-Match", `"-1"`), header("If-None-Match", `"1"`)} {
		c.fails(400, reasonBadParameter, "PUT", "/v1/routes/echo", echoRoute, bad)
	}
	c.fails(400, reasonBadParameter, "PUT", "/v1/routes/echo", echoRoute, none, any)
	c.fails(400, reasonBadParameter, "DELETE", "/v1/routes/echo", "", none)
	_, got := c.getRoute("echo")
	require.Equal(t, 204, c.do("DELETE", "/v1/routes/echo", "", header("If-Match", got.header.Get("ETag"))).code)
	c.fails(412, reasonConflict, "DELETE", "/v1/routes/echo", "", any)
}

func TestRoutes_OneOfManyWritersWins(t *testing.T) {
	t.Parallel()
	c := startAPI(t, Config{Control: startEtcd(t).control()})
	tag := c.do("PUT", "/v1/routes/echo", echoRoute).header.Get("ETag")
	var won, lost atomic.Int32
	var writers sync.WaitGroup
	for i := range 8 {
		writers.Go(func() {
			switch a := c.do("PUT", "/v1/routes/echo", slower(fmt.Sprintf("%dms", 10+i)), header("If-Match", tag)); a.code {
			case 200:
				won.Add(1)
			case 412:
				lost.Add(1)
			}
		})
	}
	writers.Wait()
	require.EqualValues(t, 1, won.Load())
	require.EqualValues(t, 7, lost.Load())
}

// A PUT tells of calls that get past the rules of another route.
func TestRoutes_PutTellsOfBypasses(t *testing.T) {
	t.Parallel()
	c := startAPI(t, Config{Control: startEtcd(t).control()})
	const all = `{name: all, match: [{method: "*"}], backends: [{service: e}]}`
	guard := `{name: guard, match: [{method: /e.E/*}], mode: struct, schema: {reflection: true}, struct: {rules: [{on: request, action: reject}]}, backends: [{service: e}]}`
	require.Equal(t, 201, c.do("PUT", "/v1/routes/guard", guard).code)
	c.untilInForce("guard")
	want := []match.Bypass{{Route: "all", Method: "*", Guard: "guard", Guards: "/e.E/*", Target: "service e"}}
	var dry, put, other putAnswer
	c.do("PUT", "/v1/routes/all?dry_run=1", all).into(t, &dry)
	require.Equal(t, want, dry.Plan.Bypasses)
	c.do("PUT", "/v1/routes/all", all).into(t, &put)
	require.Equal(t, want, put.Bypasses)
	c.untilInForce("all")
	var x explainAnswer
	c.do("GET", "/v1/explain?method=/x.E/Say", "").into(t, &x)
	require.Equal(t, want, x.Bypasses)
	c.do("PUT", "/v1/routes/all", strings.Replace(all, "service: e", "service: other", 1)).into(t, &other)
	require.Empty(t, other.Bypasses)
}

func TestRoutes_DryRunTellsAndWritesNothing(t *testing.T) {
	t.Parallel()
	e := startEtcd(t)
	c := startAPI(t, Config{Control: e.control()})
	dry := func(doc string, edits ...edit) putAnswer {
		a := c.do("PUT", "/v1/routes/echo?dry_run=true", doc, edits...)
		require.Equal(t, 200, a.code, a.body)
		var put putAnswer
		a.into(t, &put)
		require.True(t, put.DryRun)
		require.Len(t, put.Plan.Routes, 1)
		return put
	}
	require.Equal(t, match.Created, dry(echoRoute).Outcome)
	_, err := e.routes.Get(t.Context(), "echo")
	require.ErrorIs(t, err, etcdstore.ErrNotFound)

	tag := c.do("PUT", "/v1/routes/echo", echoRoute).header.Get("ETag")
	require.Equal(t, match.Unchanged, dry(echoRoute).Outcome)
	changed := dry(strings.ReplaceAll(slower("2s"), "/echo.Echo/*", "/echo.Echo/Say"), header("If-Match", tag))
	require.Equal(t, match.Updated, changed.Outcome)
	require.Equal(t, []string{"match", "timeout"}, changed.Plan.Routes[0].Keys)
	require.Equal(t, tag, etag(changed.Revision))
	require.NotEmpty(t, changed.Plan.Calls)
	c.fails(412, reasonConflict, "PUT", "/v1/routes/echo?dry_run=true", echoRoute, header("If-None-Match", "*"))

	without := startAPI(t, Config{})
	a := without.do("PUT", "/v1/routes/echo?dry_run=1", echoRoute)
	require.JSONEq(t, `{"name":"echo","outcome":"valid","dry_run":true}`, a.body, "validating wants no etcd")
}

func TestRoutes_ShowsBadDocumentsOfOthers(t *testing.T) {
	t.Parallel()
	e := startEtcd(t)
	c := startAPI(t, Config{Control: e.control()})
	cli, err := etcdclient.New(etcdclient.Config{Endpoints: []string{e.server.Endpoint()}})
	require.NoError(t, err)
	defer cli.Close()
	require.Equal(t, 201, c.do("PUT", "/v1/routes/echo", echoRoute).code)
	good := c.untilInForce("echo")
	for _, name := range []string{"echo", "other"} {
		_, err := cli.Put(t.Context(), etcdstore.DefaultPrefix+"/routes/"+name, "name: "+name, clientv3.WithPrevKV())
		require.NoError(t, err)
	}
	seen, got := c.getRoute("echo")
	require.Equal(t, seenRoute{Name: "echo", Source: "etcd", Status: statusLastGood, Revision: good.Revision, LatestRevision: seen.LatestRevision, Error: seen.Error, Route: good.Route}, seen)
	require.Contains(t, seen.Error, "match: empty, want at least one entry")
	require.Greater(t, seen.LatestRevision, good.Revision)
	other, _ := c.getRoute("other")
	require.Equal(t, statusRejected, other.Status)
	require.Empty(t, other.Route)
	var list struct {
		Source sourceAnswer `json:"source"`
		Routes []seenRoute  `json:"routes"`
	}
	eventually(t, "both rejected", func() bool {
		c.do("GET", "/v1/routes", "").into(t, &list)
		return list.Source.Rejected == 2
	})
	require.Equal(t, []seenRoute{seen, other}, list.Routes)
	require.Equal(t, 200, c.do("PUT", "/v1/routes/echo", echoRoute, header("If-Match", got.header.Get("ETag"))).code, "a good document takes its place")
	require.Equal(t, 200, c.do("PUT", "/v1/routes/other", strings.ReplaceAll(echoRoute, "name: echo", "name: other"), header("If-Match", "*")).code)
	c.untilInForce("echo")
	c.untilInForce("other")
}

func TestRoutes_OfAFileAreShownAndNotChanged(t *testing.T) {
	route, err := spec.ParseRoute([]byte(echoRoute))
	require.NoError(t, err)
	c := startAPI(t, Config{Control: Control{
		Routes: func() []resolver.RouteStatus {
			return []resolver.RouteStatus{{Name: "echo", Source: filesource.Name, Route: route}}
		},
		RouteStore: func() (*etcdstore.Routes, error) { return nil, fmt.Errorf("etcd.endpoints: none: %w", ErrNoEtcd) },
	}})
	seen, a := c.getRoute("echo")
	require.Equal(t, statusInForce, seen.Status)
	require.Equal(t, "file", seen.Source)
	require.Empty(t, a.header.Get("ETag"))
	c.fails(404, reasonNotFound, "GET", "/v1/routes/other", "")
	c.fails(501, reasonNoEtcd, "PUT", "/v1/routes/echo", echoRoute)
	c.fails(501, reasonNoEtcd, "DELETE", "/v1/routes/echo", "")
	require.Contains(t, c.do("GET", "/v1/routes", "").body, `"source":"file"`)
}

func TestRoutes_WhileEtcdIsAway(t *testing.T) {
	t.Parallel()
	e := startEtcd(t)
	c := startAPI(t, Config{Control: e.control()})
	require.Equal(t, 201, c.do("PUT", "/v1/routes/echo", echoRoute).code)
	before := c.untilInForce("echo")
	require.NoError(t, e.server.Close())
	require.Contains(t, c.fails(503, reasonEtcdUnavailable, "PUT", "/v1/routes/echo", slower("2s")), "put route echo")
	eventually(t, "stale", func() bool { return e.source.Status().Stale })
	c.fails(503, reasonEtcdUnavailable, "GET", "/v1/routes/other", "")
	seen, _ := c.getRoute("echo")
	require.Equal(t, before, seen, "from memory")
	require.Contains(t, c.do("GET", "/v1/routes", "").body, `"stale":true`)
}

func TestRoutes_NoClientOfEtcdYet(t *testing.T) {
	c := startAPI(t, Config{Control: Control{
		Routes:       func() []resolver.RouteStatus { return nil },
		RouteStore:   func() (*etcdstore.Routes, error) { return nil, errors.New("etcd: no token yet") },
		ServiceStore: func() (ServiceStore, error) { return nil, errors.New("etcd: no token yet") },
	}})
	for _, path := range []string{"/v1/routes/echo", "/v1/services/echo/instances/127.0.0.1:1"} {
		require.Equal(t, "etcd: no token yet", c.fails(503, reasonEtcdUnavailable, "DELETE", path, ""))
	}
}
