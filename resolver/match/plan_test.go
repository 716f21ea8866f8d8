package match

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/framegate/framegate/resolver/spec"
	"github.com/framegate/framegate/test/race"
	"github.com/framegate/framegate/test/routetest"
)

// lines are the calls of a plan as people read them.
func (p *Plan) lines() []string {
	var out []string
	for _, c := range p.Calls {
		line := c.Method + ":"
		for _, t := range c.Now {
			line += " " + t.String()
		}
		line += " ->"
		for _, t := range c.Then {
			line += " " + t.String()
		}
		out = append(out, line)
	}
	return out
}

func withHeader(r *spec.Route, name, exact string) *spec.Route {
	r.Match[0].Headers = append(r.Match[0].Headers, spec.HeaderMatch{Name: name, Exact: &exact})
	return r
}

func (p *Plan) outcomes() []string {
	var out []string
	for _, r := range p.Routes {
		out = append(out, fmt.Sprintf("%s %s %v", r.Name, r.Outcome, r.Keys))
	}
	return out
}

func TestPlan_SaysWhoTakesTheCallsNowAndThen(t *testing.T) {
	echo := routetest.Route("echo", "/echo.Echo/*", 0)
	echo.Backends[0].Endpoints[0].Address = "127.0.0.1:9001"
	split := routetest.Route("echo", "/echo.Echo/*", 0)
	ninety, ten := 90, 10
	split.Backends = []spec.Backend{
		{Weight: &ninety, Endpoints: []spec.Endpoint{{Address: "127.0.0.1:9001"}}}, {Weight: &ten, Service: "canary"},
	}
	gold := withHeader(routetest.Route("echo-gold", "/echo.Echo/Say", 0, "main"), "x-tenant", "gold")
	p := NewPlan([]*spec.Route{echo, routetest.Route("other", "/other.S/M", 0), gold}, Change{Put: []*spec.Route{split, gold}, Delete: []string{"other", "none"}})
	require.Equal(t, []string{"echo updated [backends]", "echo-gold unchanged []", "other deleted []", "none not found []"}, p.outcomes())
	require.Equal(t, []string{
		"/echo.Echo/*: echo (127.0.0.1:9001) -> echo (90 x 127.0.0.1:9001, 10 x service canary)",
		"/other.S/M: other (127.0.0.1:1) ->",
	}, p.lines())
	require.Empty(t, p.Unreached)

	p = NewPlan([]*spec.Route{echo}, Change{Put: []*spec.Route{gold}})
	require.Equal(t, []string{"/echo.Echo/Say: echo (127.0.0.1:9001) -> " +
		"echo-gold [x-tenant=gold listener=main] (127.0.0.1:1) echo (127.0.0.1:9001)"}, p.lines())
}

func TestPlan_ShowsNarrowerMethodsThatGetOtherRoutes(t *testing.T) {
	now := []*spec.Route{
		routetest.Route("exact", "/a.S/M", 0),
		withHeader(routetest.Route("gold", "/a.S/Gold", 0), "x-tenant", "gold"),
		routetest.Route("service", "/a.S/*", 0),
		routetest.Route("urgent", "/a.S/Now", 9),
		routetest.Route("elsewhere", "/b.S/M", 0),
	}
	p := NewPlan(now, Change{Put: []*spec.Route{routetest.Route("all", "/a.*", 5)}})
	require.Equal(t, []string{
		"/a.*: -> all (127.0.0.1:1)",
		"/a.S/*: service (127.0.0.1:1) -> all (127.0.0.1:1)",
		"/a.S/Gold: gold [x-tenant=gold] (127.0.0.1:1) service (127.0.0.1:1) -> all (127.0.0.1:1)",
		"/a.S/M: exact (127.0.0.1:1) -> all (127.0.0.1:1)",
	}, p.lines(), "urgent is stronger, elsewhere is not concerned")
	var lost []string
	for _, u := range p.Unreached {
		require.Equal(t, "all", u.By.Route)
		lost = append(lost, u.Route)
	}
	require.Equal(t, []string{"service", "gold", "exact"}, lost)

	p = NewPlan(now, Change{Put: []*spec.Route{routetest.Route("rest", "*", 0)}})
	require.Equal(t, []string{"*: -> rest (127.0.0.1:1)"}, p.lines(), "whatever has a route keeps it")
	require.Empty(t, p.Unreached)
}

func TestPlan_PointsOutARouteThatWouldNeverBeReached(t *testing.T) {
	yes := true
	present := routetest.Route("present", "/a.S/*", 3)
	present.Match[0].Headers = []spec.HeaderMatch{{Name: "x-tenant", Present: &yes}}
	wild := routetest.Route("wild", "/a.S/*", 2)
	wild.Match[0].Authority = "*.example.com"
	now := []*spec.Route{present, wild, routetest.Route("edge", "/a.S/*", 1, "edge", "main")}

	gold := withHeader(routetest.Route("gold", "/a.S/M", 0), "x-tenant", "gold")
	www := routetest.Route("www", "/a.S/M", 0)
	www.Match[0].Authority = "www.Example.com:443"
	com := routetest.Route("com", "/a.S/M", 0)
	com.Match[0].Authority = "*.Example.com"
	twice := routetest.Route("twice", "/b.S/M", 0)
	twice.Match = append(twice.Match, twice.Match[0])
	free := withHeader(routetest.Route("free", "/a.S/M", 0), "x-plan", "free")
	p := NewPlan(now, Change{Put: []*spec.Route{gold, www, com, twice, free, routetest.Route("main", "/a.S/M", 0, "main")}})
	var lost []string
	for _, u := range p.Unreached {
		lost = append(lost, fmt.Sprintf("%s %s by %s", u.Route, u.Match, u.By))
	}
	require.Equal(t, []string{
		"com /a.S/M authority=*.Example.com by wild [authority=*.example.com] (127.0.0.1:1)",
		"gold /a.S/M x-tenant=gold by present [x-tenant] (127.0.0.1:1)",
		"www /a.S/M authority=www.Example.com:443 by wild [authority=*.example.com] (127.0.0.1:1)",
		"main /a.S/M by edge [listener=edge|main] (127.0.0.1:1)",
		"twice /b.S/M by twice (127.0.0.1:1)",
	}, lost)

	same := NewPlan(append(now, gold), Change{Put: []*spec.Route{gold}})
	require.Equal(t, Unchanged, same.Routes[0].Outcome)
	require.Len(t, same.Unreached, 1, "also when it is so already")
	require.Empty(t, same.Calls)
}

// What a plan says of coverage must be what calls get: the first of them whose conditions a call meets is the one that
// takes it, and an entry out of reach takes none.
func TestCoverage_AgreesWithTheTable(t *testing.T) {
	w := world{rand.New(rand.NewPCG(3, 4))}
	matched, idles := 0, 0
	sets := race.Choose(10_000, 2_000)
	for range sets {
		routes := w.routes(6 + 30*(w.IntN(8)/7))
		r := newTables()
		r.Apply("a", routes)
		all := newCoverage(routes)
		idle := map[string]idleCandidate{}
		for p := range all.byPattern {
			_, list := all.of(p)
			for _, c := range list {
				idle[fmt.Sprintf("%s/%d", c.route.Name, c.index)] = c
			}
		}
		idles += len(idle)
		for range 5 {
			req := w.request()
			p, err := spec.ParsePattern(req.Method)
			if err != nil || p.Kind != spec.KindExact {
				continue
			}
			got, want := "", ""
			if c := r.current.lookup(&req); c != nil {
				want = fmt.Sprintf("%s/%d", c.route.Name, c.index)
				matched++
			}
			taking, _ := all.of(p)
			if i := slices.IndexFunc(taking, func(c *candidate) bool { return c.mismatch(&req) == "" }); i >= 0 {
				got = fmt.Sprintf("%s/%d", taking[i].route.Name, taking[i].index)
			}
			if got != want {
				t.Fatalf("got %q, want %q for %+v of:\n%s", got, want, req, show(routes))
			}
			if c, ok := idle[want]; ok {
				t.Fatalf("%s takes %+v, was out of reach by %s, of:\n%s", want, req, c.by.describe(), show(routes))
			}
		}
	}
	require.Greater(t, matched, sets)
	require.Greater(t, idles, sets/4)
}
