package resolver

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/framegate/framegate/pool/policy"
	"github.com/framegate/framegate/resolver/match"
	"github.com/framegate/framegate/resolver/spec"
	"github.com/framegate/framegate/test/routetest"
)

const gone = "backends: [{service: nobody}]"

func TestServiceHealth_IsThatOfTheRoutesThatTakeItsCalls(t *testing.T) {
	const there = `backends: [{endpoints: [{address: "127.0.0.1:1"}]}]`
	for name, c := range map[string]struct {
		routes         string
		known, serving bool
	}{
		"no route":                    {"[]", false, false},
		"of another service":          {"[{name: a, match: [{method: /s.Other/*}], " + there + "}]", false, false},
		"of the service":              {"[{name: a, match: [{method: /s.S/*}], " + there + "}]", true, true},
		"without an endpoint":         {"[{name: a, match: [{method: /s.S/*}], " + gone + "}]", true, false},
		"of its package":              {"[{name: a, match: [{method: /s.*}], " + there + "}]", true, true},
		"of all":                      {"[{name: a, match: [{method: '*'}], " + there + "}]", true, true},
		"the narrower one":            {"[{name: a, match: [{method: '*'}], " + there + "}, {name: b, match: [{method: /s.S/*}], " + gone + "}]", true, false},
		"not one for a single method": {"[{name: a, match: [{method: /s.S/*}], " + there + "}, {name: b, match: [{method: /s.S/M}], " + gone + "}]", true, true},
		"of single methods":           {"[{name: a, match: [{method: /s.S/M}, {method: /s.S/N}], " + there + "}]", true, true},
		"of single methods, one gone": {"[{name: a, match: [{method: /s.S/M}], " + there + "}, {name: b, match: [{method: /s.S/N}], " + gone + "}]", true, false},
		"of another listener":         {"[{name: a, listeners: [other], match: [{method: /s.S/*}], " + there + "}]", false, false},
		"with the caller's header":    {"[{name: a, match: [{method: /s.S/*, headers: [{name: x-tier, exact: gold}]}], " + there + "}]", true, true},
		"with another header":         {"[{name: a, match: [{method: /s.S/*, headers: [{name: x-tier, exact: tin}]}], " + there + "}]", false, false},
		"with the authority":          {"[{name: a, match: [{method: /s.S/*, authority: '*.example.com'}], " + there + "}]", true, true},
		"one backend of two":          {`[{name: a, match: [{method: /s.S/*}], backends: [{service: nobody}, {endpoints: [{address: "127.0.0.1:1"}]}]}]`, true, true},
		"a backend that takes none":   {`[{name: a, match: [{method: /s.S/*}], backends: [{service: nobody}, {name: b, weight: 0, endpoints: [{address: "127.0.0.1:1"}]}]}]`, true, false},
	} {
		t.Run(name, func(t *testing.T) {
			r := New("main", "other")
			t.Cleanup(r.Close)
			routes, err := spec.ParseRoutes([]byte("routes: " + c.routes))
			require.NoError(t, err)
			r.Apply("test", bound(routes...))
			req := spec.Request{Listener: "main", Authority: "a.example.com:1", Header: spec.Header{"x-tier": {"gold"}}}
			h := r.ServiceHealth("s.S", req, ServiceHealth{})
			require.Equal(t, []bool{c.known, c.serving}, []bool{h.Known(), h.Serving()})
		})
	}
	r := New()
	t.Cleanup(r.Close)
	all, err := spec.ParseRoutes([]byte("routes: [{name: a, match: [{method: '*'}], " + there + "}]"))
	require.NoError(t, err)
	r.Apply("test", bound(all...))
	for _, service := range []string{"", "/", "s.S/", "s.S/M", "a b", "*", "..", "\x00"} {
		require.False(t, r.ServiceHealth(service, spec.Request{}, ServiceHealth{}).Known(), "%q is no service", service)
	}
}

func TestServiceHealth_FollowsInstancesAndRoutes(t *testing.T) {
	r := New()
	t.Cleanup(r.Close)
	routes, err := spec.ParseRoutes([]byte("routes: [{name: a, match: [{method: /s.S/*}], " + gone + "}]"))
	require.NoError(t, err)
	r.Apply("test", bound(routes...))
	h := r.ServiceHealth("s.S", spec.Request{}, ServiceHealth{})
	require.False(t, h.Serving())
	r.SetInstances("nobody", []spec.Instance{{Address: "127.0.0.1:1", Weight: 1}})
	require.True(t, h.Serving())
	require.Equal(t, h, r.ServiceHealth("s.S", spec.Request{}, h))
	r.Apply("test", nil)
	h = r.ServiceHealth("s.S", spec.Request{}, h)
	require.False(t, h.Known())
}

// One that refuses connections takes no calls, whatever health checks there are. Who asks has it tried again.
func TestServiceHealth_IsNotThatOfWhatCannotBeConnectedTo(t *testing.T) {
	r := New()
	t.Cleanup(r.Close)
	backend := routetest.Backend("pool: {connections: {max: 2}}", "127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3 0")
	routes, err := spec.ParseRoutes([]byte("routes: [" + routetest.Doc("a", "/s.S/*", backend) + "]"))
	require.NoError(t, err)
	r.Apply("test", bound(routes...))
	h := r.ServiceHealth("s.S", spec.Request{}, ServiceHealth{})
	tried := func() (all []string) {
		h.Unreachable(func(p *policy.Policy, address string) {
			require.Equal(t, routes[0].Backends[0].Pool, p)
			all = append(all, address)
		})
		return all
	}
	require.Empty(t, tried())
	r.SetReachable("127.0.0.1:1", errors.New("connection refused"))
	r.SetReachable("127.0.0.1:3", errors.New("connection refused"))
	require.True(t, h.Serving(), "there is another")
	require.Equal(t, 1, r.Clusters()[0].Usable)
	r.SetReachable("127.0.0.1:2", errors.New("connection refused"))
	require.False(t, h.Serving())
	require.Zero(t, r.Clusters()[0].Usable)
	require.Equal(t, []string{"127.0.0.1:1", "127.0.0.1:2"}, tried())
	r.SetReachable("127.0.0.1:1", nil)
	require.True(t, h.Serving())
}

func TestUnreachableHealth_NamesEntriesThatGetNoHealthChecks(t *testing.T) {
	const backends = `backends: [{endpoints: [{address: "127.0.0.1:1"}]}]`
	r := New("main", "side")
	t.Cleanup(r.Close)
	r.SetBuiltinHealth("main")
	for pattern, want := range map[string]bool{
		"/grpc.health.v1.Health/Check": true, "/grpc.health.v1.Health/Watch": true, "/grpc.health.v1.Health/*": true, "/grpc.health.v1.*": true,
		"/grpc.health.v1.Health/List": false, "/grpc.*": false, "*": false, "/my.Health/*": false, "/my.Health/Check": false,
	} {
		for listeners, answering := range map[string][]string{"": {"main"}, "listeners: [main, side], ": {"main"}, "listeners: [side], ": nil} {
			routes, err := spec.ParseRoutes([]byte("{name: hc, " + listeners + "match: [{method: '" + pattern + "'}, {method: /s.S/*}], " + backends + "}"))
			require.NoError(t, err)
			all := match.UnreachableHealth(routes)
			here := r.UnreachableHealth(routes[0])
			if !want {
				require.Empty(t, all, pattern)
				require.Empty(t, here, pattern)
				continue
			}
			require.Equal(t, []match.Unreachable{{Route: "hc", Match: pattern}}, all)
			require.Contains(t, all[0].String(), "health: routed")
			if answering == nil {
				require.Empty(t, here, pattern)
				continue
			}
			require.Equal(t, []match.Unreachable{{Route: "hc", Match: pattern, Listeners: answering}}, here)
			require.Contains(t, here[0].String(), "listener main,")
		}
	}
}

func TestExplain_SaysThatAListenerAnswersHealthChecksItself(t *testing.T) {
	r := New("main", "side")
	t.Cleanup(r.Close)
	r.SetBuiltinHealth("main")
	routes, err := spec.ParseRoutes([]byte(`routes: [{name: all, match: [{method: '*'}], backends: [{endpoints: [{address: "127.0.0.1:1"}]}]}]`))
	require.NoError(t, err)
	r.Apply("test", bound(routes...))
	x := r.Explain(spec.Request{Listener: "main", Method: "/grpc.health.v1.Health/Check"})
	require.Nil(t, x.Chosen)
	require.Equal(t, "listener main answers it itself (health: own)", x.Builtin)
	require.Len(t, x.Stronger, 1)
	require.Equal(t, x.Builtin, x.Stronger[0].Reason)
	for _, req := range []spec.Request{{Listener: "side", Method: "/grpc.health.v1.Health/Check"}, {Listener: "main", Method: "/grpc.health.v1.Health/List"}, {Listener: "main", Method: "/s.S/M"}} {
		x = r.Explain(req)
		require.NotNil(t, x.Chosen, req)
		require.Empty(t, x.Builtin)
	}
}
