package cluster

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/framegate/framegate/resolver/spec"
	"github.com/framegate/framegate/test/routetest"
	"github.com/framegate/framegate/test/testlog"
)

const (
	lostLine = "the last usable endpoint is lost"
	backLine = "an endpoint is usable again"
)

var errRefused = errors.New("connection refused")

// logged returns a Resolver and its log.
func logged(t *testing.T) (*router, *testlog.Buffer) {
	t.Helper()
	r, log := newRouter(), &testlog.Buffer{}
	t.Cleanup(r.Close)
	r.SetLog(log.Logger())
	return r, log
}

func TestGroup_LogsThatAServiceLosesItsLastEndpointAndGetsOneBack(t *testing.T) {
	r, log := logged(t)
	r.Apply("file", []*spec.Route{routetest.MustRoute(t, `{name: r, match: [{method: "*"}], backends: [{service: echo}]}`)})
	r.SetInstances("echo", nil)
	require.Zero(t, log.Count(lostLine), "there was none")
	r.SetInstances("echo", instances("a:1", "a:2"))
	require.Zero(t, log.Count(backLine), "none was lost")
	r.SetInstances("echo", instances("a:2"))
	require.Empty(t, log.String())
	r.SetInstances("echo", nil)
	require.Equal(t, 1, log.Count(lostLine), log.String())
	require.Contains(t, log.String(), "level=WARN")
	require.Contains(t, log.String(), "service=echo")
	r.SetInstances("echo", nil)
	r.Apply("other", []*spec.Route{routetest.MustRoute(t, `{name: s, match: [{method: "*"}], backends: [{service: echo}]}`)})
	require.Equal(t, 1, log.Count(lostLine))
	r.SetInstances("echo", instances("a:3"))
	require.Equal(t, 1, log.Count(backLine), log.String())
	r.SetInstances("echo", []spec.Instance{{Address: "a:3", Weight: 0}})
	require.Equal(t, 2, log.Count(lostLine), "an endpoint that takes no calls is none")
}

func TestGroup_LogsThatABackendLosesItsLastEndpointHoweverItDoes(t *testing.T) {
	two := routetest.Doc("r", "*", routetest.Backend("name: main, ejection: {max_percent: 100, base_time: 10s}", "a:1", "a:2", "a:3 0"))
	synctest.Test(t, func(t *testing.T) {
		r, log := newRouter(), &testlog.Buffer{}
		defer r.Close()
		r.SetLog(log.Logger())
		r.Apply("file", []*spec.Route{routetest.MustRoute(t, two)})
		r.SetReachable("a:1", errRefused)
		r.SetReachable("a:3", nil)
		require.Zero(t, log.Count(lostLine))
		fail(t, r, "a:2", 5)
		require.Equal(t, 1, log.Count(lostLine), log.String())
		require.Contains(t, log.String(), "route=r backend=main")
		require.Contains(t, log.String(), "endpoints=2 unhealthy=0 ejected=1 unreachable=1")
		time.Sleep(10 * time.Second)
		synctest.Wait()
		require.Equal(t, 1, log.Count(backLine), log.String())
		require.Contains(t, log.String(), "usable=1 of=2 lost_for=10s")
		r.SetReachable("a:2", errRefused)
		require.Equal(t, 2, log.Count(lostLine))
		r.SetReachable("a:2", errors.New("no route to host"))
		r.SetReachable("a:1", errRefused)
		require.Equal(t, 2, log.Count(lostLine), "told once")
		r.SetReachable("a:1", nil)
		require.Equal(t, 2, log.Count(backLine))
		r.Apply("file", nil)
		require.Equal(t, 2, log.Count(lostLine), "a route that goes loses nothing")
	})
}

func TestReach_IsKnownOfEveryEndpointWithThatAddress(t *testing.T) {
	r, log := logged(t)
	route := func(name, backend string) *spec.Route {
		return routetest.MustRoute(t, `{name: `+name+`, match: [{method: "*"}], backends: [{name: `+backend+`, endpoints: [{address: "a:1"}]}]}`)
	}
	unreachable := func() (n int) {
		for _, e := range r.Endpoints() {
			if e.Unreachable != nil {
				require.Equal(t, errRefused, e.Unreachable)
				require.False(t, e.Usable)
				n++
			}
		}
		return n
	}
	a, b := route("a", "x"), route("b", "x")
	r.SetReachable("a:1", errRefused) // of no endpoint
	r.Apply("file", []*spec.Route{a, b})
	require.Zero(t, unreachable())
	r.SetReachable("a:1", errRefused)
	require.Equal(t, 2, unreachable())
	r.Apply("other", []*spec.Route{route("c", "x")})
	require.Equal(t, 3, unreachable(), "one that comes later")
	r.Update("file", []*spec.Route{a}, []*spec.Route{route("a", "y")})
	require.Equal(t, 3, unreachable(), "another backend in its place")
	r.SetReachable("a:1", nil)
	require.Zero(t, unreachable())
	require.NotZero(t, log.Count(backLine))
	r.SetReachable("a:1", errRefused)
	r.Apply("file", nil)
	r.Apply("other", nil)
	r.Apply("file", []*spec.Route{a})
	require.Zero(t, unreachable(), "it was away")
	r.Close()
	r.SetReachable("a:1", errRefused)
	require.Zero(t, unreachable())
}

func TestReach_AnEndpointOfManyBackendsIsLostInFewLines(t *testing.T) {
	r, log := logged(t)
	var all []*spec.Route
	for i := range 100 {
		all = append(all, routetest.MustRoute(t, fmt.Sprintf(`{name: r%d, match: [{method: "/a.S/M%d"}], backends: [{endpoints: [{address: "a:1"}]}]}`, i, i)))
	}
	r.Apply("file", all)
	r.SetReachable("a:1", errRefused)
	require.Equal(t, maxReachLines+1, log.Count(lostLine), log.String())
	require.Contains(t, log.String(), "endpoint=a:1 further=90")
	r.SetReachable("a:1", nil)
	require.Equal(t, maxReachLines+1, log.Count(backLine), log.String())
}
