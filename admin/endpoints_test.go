package admin

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	grpccodes "google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/framegate/framegate/handler"
	"github.com/framegate/framegate/handler/handlertest"
	"github.com/framegate/framegate/handler/stream"
	"github.com/framegate/framegate/pool"
	"github.com/framegate/framegate/pool/kitexconn"
	"github.com/framegate/framegate/resolver"
	"github.com/framegate/framegate/resolver/cluster"
	"github.com/framegate/framegate/resolver/filesource"
	"github.com/framegate/framegate/resolver/spec"
)

// endpointsAnswer is the body of GET /v1/endpoints.
type endpointsAnswer struct {
	Endpoints []EndpointStatus `json:"endpoints"`
	Groups    []groupAnswer    `json:"groups"`
}

// failing is a framegate with a route whose backend has an endpoint in each state, and another for a service.
type failing struct {
	resolver                         *resolver.Resolver
	api                              *client
	metrics                          *Metrics
	conn                             *grpc.ClientConn
	good, bad, other, dead, off, own string
}

// startFailing returns when the dead endpoint is known to be dead.
func startFailing(t *testing.T) *failing {
	t.Helper()
	refuse := func(grpc.ServerStream) error { return status.Error(grpccodes.Unavailable, "not now") }
	f := &failing{
		good: handlertest.Backend(t, handlertest.Echo), own: handlertest.Backend(t, handlertest.Echo),
		bad: handlertest.Backend(t, refuse), other: handlertest.Backend(t, refuse), off: handlertest.Backend(t, handlertest.Echo), dead: nobody(t),
	}
	f.resolver = routed(t, fmt.Sprintf(`routes:
- name: shop
  match: [{method: /shop.*}]
  backends:
  - name: main
    endpoints: [{address: %q}, {address: %q}, {address: %q}, {address: %q}, {address: %q, weight: 0}]
    health: {type: tcp, interval: 100ms, fall: 1}
    ejection: {consecutive_failures: 1, base_time: 1h, max_percent: 25}
    panic_percent: 0
- name: panicky
  match: [{method: /panicky.*}]
  backends:
  - endpoints: [{address: %q, weight: 1000000}, {address: %q}]
    health: {type: tcp, interval: 100ms, fall: 1}
    panic_percent: 100
- {name: echo, match: [{method: /echo.*}], backends: [{service: echo, tags: {zone: a}}]}
- {name: echo2, match: [{method: /echo2.*}], backends: [{service: echo, tags: {zone: a}, panic_percent: 10}]}
`, f.good, f.bad, f.other, f.dead, f.off, f.good, f.dead))
	f.resolver.SetInstances("echo", []spec.Instance{
		{Address: f.own, Weight: 7, Tags: map[string]string{"zone": "a"}}, {Address: f.good, Weight: 1, Tags: map[string]string{"zone": "b"}},
	})
	pl := pool.New(pool.Config{}, kitexconn.Dialer{}, slog.New(slog.DiscardHandler))
	t.Cleanup(pl.Close)
	groups := func() ([]cluster.State, []cluster.EndpointState) {
		return f.resolver.Clusters(), f.resolver.Endpoints()
	}
	f.metrics = NewMetrics(MetricsConfig{Clusters: groups})
	f.api = startAPI(t, Config{Metrics: f.metrics.Handler(), Control: Control{Clusters: groups, Endpoints: func() (all []EndpointStatus) {
		for _, e := range pl.Endpoints() {
			all = append(all, EndpointStatus{Address: e.Address, Connections: e.Connections, Streams: e.Streams})
		}
		return all
	}}})
	_, f.conn = handlertest.Start(t, handler.Config{Router: f.resolver, Pool: stream.From(pl.Default())})
	eventually(t, "the dead endpoint is known to be dead", func() bool {
		return f.states(t, "shop")[f.dead].State == StateUnhealthy && f.states(t, "panicky")[f.dead].State == StateUnhealthy
	})
	return f
}

// group returns the group of a route's backend.
func (f *failing) group(t *testing.T, route string) groupAnswer {
	t.Helper()
	var a endpointsAnswer
	f.api.do("GET", "/v1/endpoints", "").into(t, &a)
	for _, g := range a.Groups {
		if g.Route == route {
			return g
		}
	}
	t.Fatalf("no group of route %s in %v", route, a.Groups)
	return groupAnswer{}
}

// states returns the endpoints of a route's backend, by address.
func (f *failing) states(t *testing.T, route string) map[string]groupEndpointAnswer {
	t.Helper()
	all := map[string]groupEndpointAnswer{}
	for _, e := range f.group(t, route).Endpoints {
		all[e.Address] = e
	}
	return all
}

func (f *failing) call(t *testing.T, method string) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	_, err := handlertest.Unary(ctx, f.conn, method, []byte("hello"))
	return err
}

func TestEndpoints_SayWhichGetCallsAndWhyNot(t *testing.T) {
	f := startFailing(t)
	began := time.Now()
	eventually(t, "one is ejected, and another is not for the share that may be", func() bool {
		_ = f.call(t, "/shop.Shop/Price")
		g := f.group(t, "shop")
		return g.Ejections == 1 && g.EjectionsPrevented == 1
	})
	eventually(t, "a call is good", func() bool { return f.call(t, "/shop.Shop/Price") == nil })
	g := f.group(t, "shop")
	require.Equal(t, []any{"file", "main", []string{"shop"}, 2, false}, []any{g.Source, g.Backend, g.Routes, g.Usable, g.Panic})
	all := f.states(t, "shop")
	require.Len(t, all, 5)
	out, held := all[f.bad], all[f.other]
	if out.State != StateEjected {
		out, held = held, out
	}
	require.Equal(t, StateEjected, out.State)
	require.False(t, out.Usable)
	require.True(t, out.Healthy)
	require.WithinRange(t, *out.EjectedUntil, began.Add(time.Hour), time.Now().Add(time.Hour))
	require.Equal(t, StateUsable, held.State)
	require.Nil(t, held.EjectedUntil)

	good, dead := all[f.good], all[f.dead]
	require.Equal(t, []any{StateUsable, 1, true, true, "", 1}, []any{good.State, good.Weight, good.Usable, good.Healthy, good.HealthError, good.Connections})
	require.WithinRange(t, *good.Checked, began.Add(-time.Minute), time.Now())
	require.Equal(t, []any{false, false, 0}, []any{dead.Usable, dead.Healthy, dead.Connections})
	require.Contains(t, dead.HealthError, "refused")
	require.Equal(t, []any{StateOff, 0}, []any{all[f.off].State, all[f.off].Weight})

	s, err := handlertest.Open(t.Context(), f.conn, "/echo.Echo/Chat")
	require.NoError(t, err)
	msg := []byte("hello")
	require.NoError(t, s.SendMsg(&msg))
	require.NoError(t, s.RecvMsg(&msg))
	var a endpointsAnswer
	f.api.do("GET", "/v1/endpoints", "").into(t, &a)
	echo := a.Groups[len(a.Groups)-1]
	require.Equal(t, []any{"echo", "zone=a", []string{"echo", "echo2"}, ""}, []any{echo.Service, echo.Tags, echo.Routes, echo.Route})
	active := 0
	for _, e := range echo.Endpoints {
		require.Equal(t, []any{f.own, 7, 1}, []any{e.Address, e.Weight, e.Connections})
		active += e.Active
	}
	require.Equal(t, 1, active)
	require.NoError(t, s.CloseSend())
}

func TestMetrics_CountEndpointsByStateAndWhatBecameOfThem(t *testing.T) {
	f := startFailing(t)
	eventually(t, "one is ejected, and another is not for the share that may be", func() bool {
		_ = f.call(t, "/shop.Shop/Price")
		g := f.group(t, "shop")
		return g.Ejections == 1 && g.EjectionsPrevented == 1
	})
	for range 3 {
		require.NoError(t, f.call(t, "/panicky.P/M"))
	}
	s := scrapeOf(t, f.metrics)
	shop := []string{"service", "", "tags", "", "route", "shop", "backend", "main"}
	panicky := []string{"service", "", "tags", "", "route", "panicky", "backend", ""}
	echo := []string{"service", "echo", "tags", "zone=a", "route", "", "backend", ""}
	for _, c := range []struct {
		group                           []string
		usable, unhealthy, ejected, off int
		panic                           int
		panicked, ejections, notEjected int
	}{
		{group: shop, usable: 2, unhealthy: 1, ejected: 1, off: 1, ejections: 1, notEjected: 1},
		{group: panicky, usable: 1, unhealthy: 1, panic: 1, panicked: 3},
		{group: echo, usable: 1}, // once, though two routes have groups of their own
	} {
		for state, n := range map[State]int{StateUsable: c.usable, StateUnhealthy: c.unhealthy, StateEjected: c.ejected, StateOff: c.off} {
			require.EqualValues(t, n, s.value("framegate_endpoints", append(c.group[:8:8], "state", string(state))...), "%s %s", c.group, state)
		}
		require.EqualValues(t, c.panic, s.value("framegate_endpoints_panic", c.group...), "%s", c.group)
		require.EqualValues(t, c.panicked, s.value("framegate_panic_attempts_total", c.group...), "%s", c.group)
		require.EqualValues(t, c.ejections, s.value("framegate_ejections_total", c.group...), "%s", c.group)
		require.EqualValues(t, c.notEjected, s.value("framegate_ejections_prevented_total", c.group...), "%s", c.group)
	}
	require.Len(t, s["framegate_endpoints"].Metric, 3*len(states))

	f.resolver.Apply(filesource.Name, nil)
	require.NotContains(t, scrapeOf(t, f.metrics), "framegate_endpoints", "no route is in force")
}

func TestMetrics_OneAddressInSeveralGroupsOfAServiceCountsOnceInItsWorstState(t *testing.T) {
	name := cluster.ID{Service: "echo"}
	endpoint := func(healthy bool, until time.Time) cluster.EndpointState {
		return cluster.EndpointState{ID: name, Address: "127.0.0.1:1", Weight: 1, Healthy: healthy, EjectedUntil: until}
	}
	for want, all := range map[State][]cluster.EndpointState{
		StateUsable:    {endpoint(true, time.Time{}), endpoint(true, time.Time{})},
		StateEjected:   {endpoint(true, time.Now()), endpoint(true, time.Time{})},
		StateUnhealthy: {endpoint(true, time.Time{}), endpoint(true, time.Now()), endpoint(false, time.Time{})},
	} {
		count := countStates(all)[groupLabels{service: "echo"}]
		for _, s := range states {
			n := 0
			if s == want {
				n = 1
			}
			require.Equal(t, n, count[s], "%s: %s", want, s)
		}
	}
}

func TestMetrics_OfGroupsWhoseNamesAreAlike(t *testing.T) {
	one := cluster.State{ID: cluster.ID{Source: "etcd", Route: "r", Backend: "#0"}, Ejections: 1}
	two := cluster.State{ID: cluster.ID{Source: "file", Route: "r", Backend: "#1"}, Ejections: 2, Panic: true}
	odd := cluster.State{ID: cluster.ID{Service: "a\xff", Tags: "b\xfe=c"}}
	m := NewMetrics(MetricsConfig{Clusters: func() ([]cluster.State, []cluster.EndpointState) {
		return []cluster.State{one, two, odd}, nil
	}})
	s := scrapeOf(t, m)
	both := []string{"service", "", "tags", "", "route", "r", "backend", ""}
	require.EqualValues(t, 3, s.value("framegate_ejections_total", both...))
	require.EqualValues(t, 1, s.value("framegate_endpoints_panic", both...))
	require.EqualValues(t, 0, s.value("framegate_ejections_total", "service", "a\uFFFD", "tags", "b\uFFFD=c", "route", "", "backend", ""))
}

func BenchmarkScrape10000Endpoints(b *testing.B) {
	var groups []cluster.State
	var endpoints []cluster.EndpointState
	for i := range 100 {
		n := cluster.ID{Service: fmt.Sprintf("s%d", i)}
		groups = append(groups, cluster.State{ID: n, Endpoints: 100})
		for j := range 100 {
			endpoints = append(endpoints, cluster.EndpointState{ID: n, Address: fmt.Sprintf("127.0.0.1:%d", j), Weight: 1, Healthy: true})
		}
	}
	m := NewMetrics(MetricsConfig{Clusters: func() ([]cluster.State, []cluster.EndpointState) { return groups, endpoints }})
	for b.Loop() {
		scrapeOf(b, m)
	}
}
