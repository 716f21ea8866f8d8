package admin

import (
	"net/url"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/framegate/framegate/resolver/etcdclient"
	"github.com/framegate/framegate/resolver/etcdsource"
	"github.com/framegate/framegate/resolver/match"
	"github.com/framegate/framegate/resolver/spec"
)

func instancePath(service, address string) string {
	return "/v1/services/" + url.PathEscape(service) + "/instances/" + url.PathEscape(address)
}

func (c *client) beat(service, address, body string) (int, heartbeatAnswer) {
	c.t.Helper()
	a := c.do("PUT", instancePath(service, address), body)
	require.Less(c.t, a.code, 300, a.body)
	var hb heartbeatAnswer
	a.into(c.t, &hb)
	return a.code, hb
}

func TestServices_HeartbeatRegistersAndKeeps(t *testing.T) {
	t.Parallel()
	e := startEtcd(t)
	c := startAPI(t, Config{Control: e.control()})
	// The route makes the service one that this framegate looks for.
	require.Equal(t, 201, c.do("PUT", "/v1/routes/echo", "{name: echo, match: [{method: '*'}], backends: [{service: echo}]}").code)
	c.fails(404, reasonNotFound, "GET", "/v1/services/echo", "")

	code, first := c.beat("echo", "127.0.0.1:9001", "")
	require.Equal(t, 201, code)
	require.Equal(t, heartbeatAnswer{Service: "echo", Address: "127.0.0.1:9001", Outcome: match.Created, Revision: first.Revision, Lease: first.Lease, TTL: "10s"}, first)
	code, again := c.beat("echo", "127.0.0.1:9001", `{"weight": 10, "ttl": "10s"}`)
	require.Equal(t, 200, code)
	first.Outcome = match.Unchanged
	require.Equal(t, first, again, "the same again changes nothing")

	_, changed := c.beat("echo", "127.0.0.1:9001", "{weight: 5, tags: {cluster: a}, ttl: 1m}")
	require.Equal(t, match.Updated, changed.Outcome)
	require.Equal(t, "1m0s", changed.TTL)
	cli, err := etcdclient.New(etcdclient.Config{Endpoints: []string{e.server.Endpoint()}})
	require.NoError(t, err)
	defer cli.Close()
	lease, err := strconv.ParseInt(changed.Lease, 16, 64)
	require.NoError(t, err)
	left, err := cli.TimeToLive(t.Context(), clientv3.LeaseID(lease), clientv3.WithAttachedKeys())
	require.NoError(t, err)
	require.EqualValues(t, 60, left.GrantedTTL)
	require.Len(t, left.Keys, 1)

	_, unix := c.beat("echo", "unix:/tmp/echo.sock", "{}")
	require.Equal(t, "unix:/tmp/echo.sock", unix.Address)
	want := serviceAnswer{"echo", []instanceAnswer{
		{Instance: spec.Instance{Address: "127.0.0.1:9001", Weight: 5, Tags: map[string]string{"cluster": "a"}}},
		{Instance: spec.Instance{Address: "unix:/tmp/echo.sock", Weight: 10}},
	}}
	var got serviceAnswer
	eventually(t, "both instances", func() bool {
		a := c.do("GET", "/v1/services/echo", "")
		if a.code != 200 {
			return false
		}
		got = serviceAnswer{}
		a.into(t, &got)
		return len(got.Instances) == 2 && got.Instances[0].Weight == 5
	})
	require.Equal(t, want, got)
	var list struct {
		Services []serviceAnswer `json:"services"`
	}
	c.do("GET", "/v1/services", "").into(t, &list)
	require.Equal(t, []serviceAnswer{want}, list.Services)

	for _, address := range []string{"127.0.0.1:9001", "unix:/tmp/echo.sock"} {
		require.Equal(t, 204, c.do("DELETE", instancePath("echo", address), "").code)
		require.Equal(t, "instance "+address+" of service echo: not found", c.fails(404, reasonNotFound, "DELETE", instancePath("echo", address), ""))
	}
	eventually(t, "no instance", func() bool { return c.do("GET", "/v1/services", "").body == "{\"services\":[]}\n" })
}

func TestServices_RefusesWhatIsNoInstance(t *testing.T) {
	t.Parallel()
	e := startEtcd(t)
	c := startAPI(t, Config{Control: e.control()})
	good := "127.0.0.1:9001"
	for _, k := range []struct{ service, address, body, want string }{
		{"echo", "9001", "", `address: "9001", want host:port or unix:/path`},
		{"a/b", good, "", `service: "a/b", want`},
		{"echo", good, "weight: 0", "weight: 0, want 1 to 1000000"},
		{"echo", good, "weight: heavy", `weight: "heavy", want a whole number`},
		{"echo", good, "ttl: 5", `ttl: "5", want a duration`},
		{"echo", good, "ttl: 500ms", "ttl: 500ms, want whole seconds from 1s to 24h0m0s"},
		{"echo", good, "wieght: 1", "wieght: unknown key, want one of: weight, tags, ttl"},
		{"echo", "9001", "{weight: -1, ttl: 48h}", "weight: -1, want 1 to 1000000\nttl: 48h0m0s, want"},
	} {
		require.Contains(t, c.fails(400, reasonBadDocument, "PUT", instancePath(k.service, k.address), k.body), k.want)
	}
	services, bad, err := e.services.List(t.Context())
	require.NoError(t, err)
	require.Empty(t, services)
	require.Empty(t, bad)
}

func TestServices_WhileEtcdIsAway(t *testing.T) {
	t.Parallel()
	c := startAPI(t, Config{Control: follow(t, nobody(t)).control()})
	c.fails(503, reasonEtcdUnavailable, "PUT", instancePath("echo", "127.0.0.1:1"), "")
}

// What is kept though it is registered no more looks like any other instance, but for the time at which it goes.
func TestServices_KeptInstancesAreMarked(t *testing.T) {
	until := time.Unix(1_700_000_000, 0).UTC()
	c := startAPI(t, Config{Control: Control{
		Instances: func() map[string][]spec.Instance {
			return map[string][]spec.Instance{"echo": {{Address: "h:1", Weight: 1}, {Address: "h:2", Weight: 2}}, "other": {{Address: "h:1", Weight: 3}}}
		},
		Kept: func() []etcdsource.KeptInstance {
			return []etcdsource.KeptInstance{{Service: "echo", Address: "h:1", Until: until}}
		},
	}})
	echo := `{"name":"echo","instances":[{"address":"h:1","weight":1,"kept_until":"2023-11-14T22:13:20Z"},{"address":"h:2","weight":2}]}`
	require.JSONEq(t, echo, c.do("GET", "/v1/services/echo", "").body)
	require.JSONEq(t, `{"services":[`+echo+`,{"name":"other","instances":[{"address":"h:1","weight":3}]}]}`, c.do("GET", "/v1/services", "").body)
}
