package resolver

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

func mustRoute(t testing.TB, doc string) *Route {
	t.Helper()
	r, err := ParseRoute([]byte(doc))
	require.NoError(t, err, doc)
	return r
}

func route(name, method string, priority int, listeners ...string) *Route {
	return &Route{
		Name: name, Listeners: listeners, Match: []Match{{Method: method}}, Priority: priority, Mode: ModeFrame,
		Backends: []Backend{{Endpoints: []Endpoint{{Address: "127.0.0.1:1"}}}},
	}
}

func TestResolve_PrefersPriorityThenSpecificityThenName(t *testing.T) {
	r := New()
	r.Apply("file", []*Route{
		route("any", "*", 0),
		route("pkg", "/a.*", 0),
		route("longer-pkg", "/a.b.*", 0),
		route("service", "/a.b.S/*", 0),
		route("exact", "/a.b.S/M", 0),
		route("exact-2", "/a.b.S/M", 0),
		route("urgent-pkg", "/x.*", 5),
		route("exact-x", "/x.S/M", 0),
		route("lowest", "/y.S/M", -1),
		route("only-edge", "/a.b.S/M", 0, "edge"),
		route("edge-first", "/a.b.S/N", 1, "edge"),
	})
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
		got, ok := r.Resolve(c.listener, c.method)
		require.True(t, ok, c.method)
		require.Equal(t, c.want, got.Route, "%s on %s", c.method, c.listener)
	}
	r.Apply("file", nil)
	_, ok := r.Resolve("main", "/a.b.S/M")
	require.False(t, ok)
}

// slowResolve is the definition of precedence, written down without any table.
func slowResolve(routes []*Route, listener, method string) string {
	var best candidate
	for _, r := range routes {
		if !listens(r, listener) {
			continue
		}
		for _, m := range r.Match {
			p, _ := ParsePattern(m.Method)
			c := candidate{pattern: p, entry: &entry{route: r}}
			if p.Match(method) && (best.entry == nil || compareCandidates(c, best) < 0) {
				best = c
			}
		}
	}
	if best.entry == nil {
		return ""
	}
	return best.entry.route.Name
}

func TestResolve_AgreesWithItsDefinition(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	parts := []string{"a", "b", "c"}
	pick := func() string { return parts[rnd.IntN(len(parts))] }
	service := func() string {
		s := pick()
		for range rnd.IntN(3) {
			s += "." + pick()
		}
		return s
	}
	pattern := func() string {
		switch rnd.IntN(8) {
		case 0:
			return "*"
		case 1, 2, 3:
			return "/" + service() + ".*"
		case 4, 5:
			return "/" + service() + "/*"
		}
		return "/" + service() + "/" + pick()
	}
	for range 3000 {
		var routes []*Route
		for i := range rnd.IntN(12) {
			r := route(fmt.Sprintf("r%02d", i), pattern(), rnd.IntN(3))
			r.Match = append(r.Match, Match{Method: pattern()})
			if rnd.IntN(3) == 0 {
				r.Listeners = []string{pick()}
			}
			routes = append(routes, r)
		}
		table := newTable(routes)
		for range 20 {
			listener, method := pick(), "/"+service()+"/"+pick()
			got := ""
			if e := table.lookup(listener, method); e != nil {
				got = e.route.Name
			}
			require.Equal(t, slowResolve(routes, listener, method), got, "%s on %s of %d routes", method, listener, len(routes))
		}
	}
}

func TestResolve_SplitsByWeight(t *testing.T) {
	r := New()
	r.Apply("file", []*Route{mustRoute(t, `
name: split
match: [{method: "*"}]
backends:
- {name: a, weight: 3, endpoints: [{address: "a:1", weight: 9}, {address: "a:2"}, {address: "a:3", weight: 0}]}
- {name: b, endpoints: [{address: "b:1"}]}
- {name: none, weight: 0, endpoints: [{address: "n:1"}]}
`)})
	const calls = 100_000
	got := map[string]int{}
	for range calls {
		target, _ := r.Resolve("main", "/s/m")
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
	r.Apply("file", []*Route{mustRoute(t, `{name: off, match: [{method: "*"}], backends: [{weight: 0, endpoints: [{address: "a:1"}]}]}`)})
	target, ok := r.Resolve("main", "/s/m")
	require.True(t, ok)
	require.Equal(t, Target{Route: "off", Mode: ModeFrame}, target)
}

func BenchmarkResolve(b *testing.B) {
	for _, n := range []int{1, 1000, 10_000} {
		b.Run(fmt.Sprintf("routes=%d", n), func(b *testing.B) {
			routes := make([]*Route, n)
			for i := range routes {
				routes[i] = route(fmt.Sprintf("r%d", i), fmt.Sprintf("/pkg%d.Service/Method", i), 0)
			}
			r := New()
			r.Apply("file", routes)
			b.ReportAllocs()
			for b.Loop() {
				if _, ok := r.Resolve("main", "/pkg0.Service/Method"); !ok {
					b.Fatal("no route")
				}
			}
		})
	}
}

func TestResolve_DoesNotAllocate(t *testing.T) {
	r := New()
	r.Apply("file", []*Route{route("a", "/a.b.S/*", 0), route("b", "/a.*", 0, "edge")})
	for _, method := range []string{"/a.b.S/M", "/a.c.S/M", "/x/y"} {
		require.Zero(t, testing.AllocsPerRun(100, func() { r.Resolve("edge", method) }), method)
	}
}
