package etcdstore

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/framegate/framegate/resolver/etcdclient"
	"github.com/framegate/framegate/resolver/match"
	"github.com/framegate/framegate/resolver/spec"
	"github.com/framegate/framegate/test/etcdtest"
	"github.com/framegate/framegate/test/routetest"
)

func linesOf(all []match.Bypass) (lines []string) {
	for _, b := range all {
		lines = append(lines, fmt.Sprintf("%s %s > %s %s at %s", b.Route, b.Method, b.Guard, b.Guards, b.Target))
	}
	return lines
}

func outcomesOf(p *match.Plan) (all []string) {
	for _, r := range p.Routes {
		all = append(all, fmt.Sprintf("%s %s %v", r.Name, r.Outcome, r.Keys))
	}
	return all
}

func TestStore_PlanDoesWhatPutWould(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	echo, err := s.Put(t.Context(), routetest.Route("echo", "/a.S/M", 0))
	require.NoError(t, err)
	for name, doc := range map[string]string{"bad": "colour: red", "byhand": "{name: byhand, match: [{method: /b.S/M}], backends: [{endpoints: [{address: 'h:1'}]}]}"} {
		_, err = s.cli.Put(t.Context(), s.keys+name, doc)
		require.NoError(t, err)
	}
	byHand, err := s.Get(t.Context(), "byhand")
	require.NoError(t, err)
	change := match.Change{
		Put:    []*spec.Route{routetest.Route("echo", "/a.S/M", 0), routetest.Route("bad", "/a.S/M", 0), byHand.Route, routetest.Route("new", "/a.S/M", 0)},
		Delete: []string{"none"},
	}
	p, err := s.Plan(t.Context(), change)
	require.NoError(t, err)
	require.Equal(t, []string{"echo unchanged []", "bad updated []", "byhand updated []", "new created []", "none not found []"}, outcomesOf(p))
	require.Equal(t, echo.Revision, p.Routes[0].Revision)
	require.NotZero(t, p.Routes[1].Revision)
	results, err := s.PutAll(t.Context(), change.Put)
	require.NoError(t, err)
	for i, r := range results {
		require.Equal(t, p.Routes[i].Outcome, r.Outcome, r.Name)
	}

	_, err = s.cli.Put(t.Context(), s.keys+"bad", "colour: red")
	require.NoError(t, err)
	p, err = s.Plan(t.Context(), match.Change{Delete: []string{"bad"}})
	require.NoError(t, err)
	require.Equal(t, []string{"bad deleted []"}, outcomesOf(p))

	_, err = s.Plan(t.Context(), match.Change{Put: []*spec.Route{routetest.Route("echo", "/a.S/N", 0)}}, IfRevision(echo.Revision+99))
	require.ErrorIs(t, err, etcdclient.ErrConflict)
	_, err = s.Plan(t.Context(), match.Change{Put: []*spec.Route{routetest.Route("x", "nowhere", 0)}})
	require.ErrorContains(t, err, `route x: match[0].method: "nowhere"`)
	p, err = s.Plan(t.Context(), match.Change{Put: []*spec.Route{routetest.Route("echo", "/a.S/N", 0)}}, IfRevision(echo.Revision))
	require.NoError(t, err)
	require.Equal(t, []string{"echo updated [match]"}, outcomesOf(p))
}

func TestBypasses_OfRoutesInEtcd(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	put := routetest.BypassRoutes(t, "all *\nother /o.Other/* backends: [{service: elsewhere}]")
	_, err := s.PutAll(t.Context(), put)
	require.NoError(t, err)
	got, err := s.Bypasses(t.Context(), routetest.BypassRoutes(t, "guard /e.E/* RULES"))
	require.NoError(t, err)
	require.Equal(t, []string{"all * > guard /e.E/* at h:1"}, linesOf(got))
	got, err = s.Bypasses(t.Context(), routetest.BypassRoutes(t, "guard /e.E/* RULES\nall * backends: [{service: elsewhere}]"))
	require.NoError(t, err)
	require.Empty(t, got, "the new version of a route is what counts")
}

// Documents that have nothing in common with those put are not even parsed. That must not be said of other spellings.
func TestBypasses_OfRoutesInEtcdWithOtherSpellings(t *testing.T) {
	t.Parallel()
	cli := newStore(t).cli
	for _, c := range [][2]string{
		{"127.0.0.1:9000", "[::ffff:127.0.0.1]:9000"}, {"127.0.0.1:9000", "[::FFFF:7f00:1]:09000"}, {"127.0.0.1:9000", "LocalHost:9000"},
		{"[::1]:9000", "localhost:9000"}, {"[::1]:9000", "[0::1]:9000"}, {"echo.svc:9000", "dns:///Echo.svc:9000"},
		{"echo.svc:9000", "echo.svc.:09000"}, {"unix:/run/App", "unix:/run//App"},
	} {
		for _, c := range [][2]string{c, {c[1], c[0]}} {
			routes := routetest.BypassRoutes(t, routetest.Spelled(c[0], c[1]))
			s := NewRoutes(cli, etcdtest.Shared(t).Prefix, nil)
			_, err := s.Put(t.Context(), routes[1])
			require.NoError(t, err)
			got, err := s.Bypasses(t.Context(), routes[:1])
			require.NoError(t, err)
			require.Equal(t, []string{"all * > guard /e.E/* at " + c[1]}, linesOf(got))
		}
	}
	doc := []byte(`{"backends":[{"endpoints":[{"address":"h\u0031:\u0039000"}]}]}`)
	for target := range match.DestinationsOf(&spec.Backend{Endpoints: []spec.Endpoint{{Address: "h1:9000"}}}) {
		require.True(t, target.MayBeIn(doc))
		require.False(t, target.MayBeIn([]byte(`{"address":"h1:1"}`)))
		require.False(t, target.MayBeIn([]byte(`{"address":"h2:9000"}`)))
	}
}
