package resolver

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/framegate/framegate/resolver/cluster"
	"github.com/framegate/framegate/resolver/match"
	"github.com/framegate/framegate/resolver/spec"
	"github.com/framegate/framegate/test/routetest"
)

// resolve returns the target of a call.
func resolve(r *Resolver, req spec.Request) (t cluster.Target, ok bool) {
	ok = r.Resolve(&t, req)
	return t, ok
}

func TestResolve_PrefersPriorityThenSpecificityThenName(t *testing.T) {
	r := New()
	r.Apply("file", bound(
		routetest.Route("any", "*", 0),
		routetest.Route("pkg", "/a.*", 0),
		routetest.Route("longer-pkg", "/a.b.*", 0),
		routetest.Route("service", "/a.b.S/*", 0),
		routetest.Route("exact", "/a.b.S/M", 0),
		routetest.Route("exact-2", "/a.b.S/M", 0),
		routetest.Route("urgent-pkg", "/x.*", 5),
		routetest.Route("exact-x", "/x.S/M", 0),
		routetest.Route("lowest", "/y.S/M", -1),
		routetest.Route("only-edge", "/a.b.S/M", 0, "edge"),
		routetest.Route("edge-first", "/a.b.S/N", 1, "edge"),
	))
	for _, c := range []struct{ listener, method, want string }{
		{"main", "/a.b.S/M", "exact"},
		{"main", "/a.b.S/N", "service"},
		{"edge", "/a.b.S/N", "edge-first"},
		{"edge", "/a.b.S/M", "exact"},
		{"main", "/a.b.T/M", "longer-pkg"},
		{"main", "/a.b.c.d.T/M", "longer-pkg"},
		{"main", "/a.T/M", "pkg"},
		{"main", "/ab.T/M", "any"},
		{"main", "/T/M", "any"},
		{"main", "odd", "any"},
		{"main", "", "any"},
		{"main", "/x.S/M", "urgent-pkg"},
		{"main", "/y.S/M", "any"},
	} {
		got, ok := resolve(r, spec.Request{Listener: c.listener, Method: c.method})
		require.True(t, ok, c.method)
		require.Equal(t, c.want, got.Route, "%s on %s", c.method, c.listener)
	}
	r.Apply("file", nil)
	_, ok := resolve(r, spec.Request{Listener: "main", Method: "/a.b.S/M"})
	require.False(t, ok)
}

func TestResolve_SplitsByWeight(t *testing.T) {
	r := New()
	r.Apply("file", bound(routetest.MustRoute(t, `
name: split
match: [{method: "*"}]
backends:
- {name: a, weight: 3, endpoints: [{address: "a:1", weight: 9}, {address: "a:2"}, {address: "a:3", weight: 0}]}
- {name: b, endpoints: [{address: "b:1"}]}
- {name: none, weight: 0, endpoints: [{address: "n:1"}]}
`)))
	const calls = 100_000
	got := map[string]int{}
	for range calls {
		target, _ := r.Preview(spec.Request{Listener: "main", Method: "/s/m"})
		got[target.Backend+" "+target.Address]++
	}
	want := map[string]float64{"a a:1": 0.675, "a a:2": 0.075, "b b:1": 0.25}
	require.Len(t, got, len(want))
	for k, share := range want {
		require.InDelta(t, share, float64(got[k])/calls, 0.01, k)
	}
}

func TestResolve_WithoutUsableEndpointKeepsTheRoute(t *testing.T) {
	r := New()
	r.Apply("file", bound(routetest.MustRoute(t, `{name: off, match: [{method: "*"}], backends: [{weight: 0, endpoints: [{address: "a:1"}]}]}`)))
	target, ok := resolve(r, spec.Request{Listener: "main", Method: "/s/m"})
	require.True(t, ok)
	require.Equal(t, "off", target.Route)
	_, err := target.Pick(time.Now())
	require.ErrorIs(t, err, cluster.ErrNoEndpoint)
}

func TestResolve_RegexesAreNotTriedOnLongValues(t *testing.T) {
	r := New()
	r.Apply("file", bound(routetest.MustRoute(t, `{name: a, match: [{method: "*", headers: [{name: x-a, regex: "a+"}]}], backends: [{endpoints: [{address: "h:1"}]}]}`)))
	for length, want := range map[int]bool{1: true, match.MaxRegexValue: true, match.MaxRegexValue + 1: false} {
		_, ok := resolve(r, spec.Request{Method: "/a/b", Header: spec.Header{"x-a": {strings.Repeat("a", length)}}})
		require.Equal(t, want, ok, length)
	}
}

func TestResolve_KnowsItsListenersOnly(t *testing.T) {
	r := New("main", "edge")
	r.Apply("file", bound(
		routetest.Route("other", "/a.S/M", 1, "other", "else"), routetest.Route("edge", "/a.S/M", 0, "edge"), routetest.Route("all", "*", 0),
	))
	for listener, want := range map[string]string{"main": "all", "edge": "edge"} {
		got, _ := resolve(r, spec.Request{Listener: listener, Method: "/a.S/M"})
		require.Equal(t, want, got.Route)
	}
}

func TestResolve_TagsAreNotConfused(t *testing.T) {
	r := New()
	r.SetInstances("s", []spec.Instance{{Address: "s:1", Weight: 1, Tags: map[string]string{"a": "b", "c": "d"}}})
	odd := routetest.MustRoute(t, `{name: odd, match: [{method: /odd/*}], backends: [{service: s, tags: {a: "b\0c\0d"}}]}`)
	good := routetest.MustRoute(t, `{name: good, match: [{method: /good/*}], backends: [{service: s, tags: {a: b, c: d}}]}`)
	r.Apply("file", bound(odd, good))
	got, _ := r.Preview(spec.Request{Method: "/good/M"})
	require.Equal(t, "s:1", got.Address)
	got, _ = r.Preview(spec.Request{Method: "/odd/M"})
	require.Empty(t, got.Address)
}

func TestSetInstances_OneAddressCountsOnce(t *testing.T) {
	r := New()
	r.SetInstances("s", []spec.Instance{{Address: "s:1", Weight: 1}, {Address: "s:2", Weight: 5}, {Address: "s:1", Weight: 7}})
	require.Equal(t, []spec.Instance{{Address: "s:1", Weight: 7}, {Address: "s:2", Weight: 5}}, r.Instances()["s"])
}

func TestResolve_BackendsOfServicesFollowTheirInstances(t *testing.T) {
	r := New()
	r.SetInstances("echo", []spec.Instance{{Address: "e:1", Weight: 30, Tags: map[string]string{"cluster": "a"}}, {Address: "e:2", Weight: 10}})
	r.Apply("file", bound(
		routetest.MustRoute(t, `{name: all, match: [{method: /all/*}], backends: [{service: echo}]}`),
		routetest.MustRoute(t, `{name: tagged, match: [{method: /tagged/*}], backends: [{service: echo, tags: {cluster: a}}]}`),
		routetest.MustRoute(t, `{name: split, match: [{method: /split/*}], backends: [{name: found, weight: 90, service: echo, tags: {cluster: b}}, {name: fixed, weight: 10, endpoints: [{address: "f:1"}]}]}`),
	))
	share := func(method string) map[string]float64 {
		const calls = 20_000
		got := map[string]float64{}
		for range calls {
			target, ok := r.Preview(spec.Request{Method: method})
			require.True(t, ok)
			got[target.Address] += 1.0 / calls
		}
		return got
	}
	got := share("/all/M")
	require.InDelta(t, 0.75, got["e:1"], 0.02)
	require.InDelta(t, 0.25, got["e:2"], 0.02)
	require.InDelta(t, 1, share("/tagged/M")["e:1"], 1e-6)
	require.InDelta(t, 1, share("/split/M")["f:1"], 1e-6, "a backend without endpoints leaves its share to the others")

	r.SetInstances("echo", []spec.Instance{{Address: "e:3", Weight: 10, Tags: map[string]string{"cluster": "b", "zone": "z"}}})
	require.InDelta(t, 1, share("/all/M")["e:3"], 1e-6)
	require.InDelta(t, 1, share("/tagged/M")[""], 1e-6)
	require.InDelta(t, 0.9, share("/split/M")["e:3"], 0.02)

	r.SetInstances("echo", nil)
	require.InDelta(t, 1, share("/all/M")[""], 1e-6)
	require.Empty(t, r.Instances())
	r.Apply("file", nil)
}

func BenchmarkResolve(b *testing.B) {
	for _, n := range []int{1, 1000, 10_000} {
		b.Run(fmt.Sprintf("routes=%d", n), func(b *testing.B) {
			routes := make([]*spec.Route, n)
			for i := range routes {
				routes[i] = routetest.Route(fmt.Sprintf("r%d", i), fmt.Sprintf("/pkg%d.Service/Method", i), 0)
			}
			r := New()
			r.Apply("file", bound(routes...))
			b.ReportAllocs()
			for b.Loop() {
				if _, ok := resolve(r, spec.Request{Listener: "main", Method: "/pkg0.Service/Method"}); !ok {
					b.Fatal("no route")
				}
			}
		})
	}
}

func TestResolve_DoesNotAllocate(t *testing.T) {
	r := New()
	routes := []*spec.Route{routetest.Route("a", "/a.b.S/*", 0), routetest.Route("b", "/a.*", 0, "edge")}
	for i := range 100 { // one bucket with an index
		routes = append(routes, routetest.MustRoute(t, fmt.Sprintf(`
name: i%d
match:
- {method: /i.S/*, authority: "*.h%d.example.com"}
- {method: /i.S/*, authority: "h%d.example.com:80"}
- {method: /i.S/*, headers: [{name: x-tenant, exact: t%d}]}
backends: [{service: s}, {endpoints: [{address: "a:1"}, {address: "a:2"}]}]`, i, i, i, i)))
	}
	r.Apply("file", bound(routes...))
	r.SetInstances("s", []spec.Instance{{Address: "s:1", Weight: 10}, {Address: "s:2", Weight: 10}})
	for _, req := range []spec.Request{
		{Method: "/a.b.S/M"}, {Method: "/a.c.S/M"}, {Method: "/x/y"},
		{Method: "/i.S/M", Authority: "a.b.H7.Example.com:81"},
		{Method: "/i.S/M", Authority: "H7.example.com:80"},
		{Method: "/i.S/M", Authority: "none", Header: spec.Header{"x-tenant": {"t9"}}},
	} {
		req.Listener = "edge"
		_, ok := resolve(r, req)
		require.Equal(t, req.Method != "/x/y", ok, req)
		require.Zero(t, testing.AllocsPerRun(100, func() { resolve(r, req) }), req)
	}
}

// A match entry of ten thousand that differ by a header's value, or by the authority, is found as fast as one of ten.
func BenchmarkResolve_Conditions(b *testing.B) {
	for _, n := range []int{1, 10_000} {
		var routes []*spec.Route
		for i := range n {
			routes = append(routes, routetest.MustRoute(b, fmt.Sprintf(`
name: r%d
match: [{method: /a.S/M, headers: [{name: x-tenant, exact: t%d}]}, {method: /a.S/M, authority: "*.h%d.com"}]
backends: [{endpoints: [{address: "a:1"}]}]`, i, i, i)))
		}
		r := New()
		r.Apply("file", bound(routes...))
		for name, req := range map[string]spec.Request{
			"header":    {Method: "/a.S/M", Header: spec.Header{"x-tenant": {"t0"}}},
			"authority": {Method: "/a.S/M", Authority: "x.h0.com"},
		} {
			b.Run(fmt.Sprintf("%s/routes=%d", name, n), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if _, ok := resolve(r, req); !ok {
						b.Fatal("no route")
					}
				}
			})
		}
	}
}

func BenchmarkApply(b *testing.B) {
	routes := make([]*spec.Route, 10_000)
	for i := range routes {
		routes[i] = routetest.Route(fmt.Sprintf("r%d", i), fmt.Sprintf("/pkg%d.Service/Method", i), 0)
	}
	r := New()
	r.Apply("file", bound(routes...))
	for b.Loop() {
		routes[5000] = routetest.Route("r5000", "/pkg5000.Service/Method", 0)
		r.Apply("file", bound(routes...))
	}
}

func BenchmarkSetInstances(b *testing.B) {
	r := New()
	services := make([][]spec.Instance, 100)
	var routes []*spec.Route
	for s := range services {
		for i := range 100 {
			services[s] = append(services[s], spec.Instance{Address: fmt.Sprintf("10.0.%d.%d:80", s, i), Weight: 10})
		}
		routes = append(routes, routetest.MustRoute(b, fmt.Sprintf("{name: r%d, match: [{method: /s%d.S/*}], backends: [{service: s%d}]}", s, s, s)))
		r.SetInstances(fmt.Sprintf("s%d", s), services[s])
	}
	r.Apply("file", bound(routes...))
	for b.Loop() {
		r.SetInstances("s50", services[50][:99])
	}
}

func BenchmarkUpdate(b *testing.B) {
	routes := make([]*spec.Route, 10_000)
	for i := range routes {
		routes[i] = routetest.Route(fmt.Sprintf("r%d", i), fmt.Sprintf("/pkg%d.Service/Method", i), 0)
	}
	r := New()
	r.Apply("file", bound(routes...))
	for b.Loop() {
		now := routetest.Route("r5000", "/pkg5000.Service/Method", 0)
		r.Update("file", bound(routes[5000:5001]...), bound(now))
		routes[5000] = now
	}
}

func TestTarget_ToTakesAnyBackendOfTheRoute(t *testing.T) {
	r := New()
	doc, err := Compiler(routetest.CompileForTest).Bind(routetest.MustRoute(t, `name: shop
match: [{method: /shop.Shop/*}]
mode: struct
authority: shop.example
backends:
- {name: main, endpoints: [{address: "main:1"}]}
- {name: canary, weight: 0, endpoints: [{address: "canary:1"}]}
- {name: resting, weight: 0, endpoints: [{address: "resting:1", weight: 0}]}
- {name: found, weight: 0, service: shop}
`), nil)
	require.NoError(t, err)
	r.Apply("file", []*Route{doc})
	target, ok := r.Preview(spec.Request{Method: "/shop.Shop/Add"})
	require.True(t, ok)
	require.Equal(t, "main:1", target.Address)
	addresses := func() map[string]string {
		got := map[string]string{}
		for _, name := range []string{"main", "canary", "resting", "found"} {
			to, _ := resolve(r, spec.Request{Method: "/shop.Shop/Add"})
			to.UseBackend(name)
			require.Equal(t, name, to.Backend)
			require.Equal(t, "shop.example", to.Authority, "all else stays")
			got[name], _, _ = to.Probe()
		}
		return got
	}
	require.Equal(t, map[string]string{"main": "main:1", "canary": "canary:1", "resting": "", "found": ""}, addresses())
	r.SetInstances("shop", []spec.Instance{{Address: "found:1", Weight: 10}})
	require.Equal(t, "found:1", addresses()["found"])
	for range 100 {
		target, _ = r.Preview(spec.Request{Method: "/shop.Shop/Add"})
		require.Equal(t, "main:1", target.Address, "a backend of weight 0 takes calls of rules only")
	}
}

func TestTarget_ToABackendThatTheRouteHasNotChangesNothing(t *testing.T) {
	r := New()
	r.Apply("file", bound(routetest.Route("echo", "/a.S/M", 0)))
	target, _ := resolve(r, spec.Request{Method: "/a.S/M"})
	target.UseBackend("unknown")
	address, _, err := target.Probe()
	require.NoError(t, err)
	require.Equal(t, "127.0.0.1:1", address)
}
