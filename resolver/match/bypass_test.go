package match

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/framegate/framegate/resolver/spec"
	"github.com/framegate/framegate/test/routetest"
)

func shownBypasses(all []Bypass) (shown []string) {
	for _, b := range all {
		shown = append(shown, fmt.Sprintf("%s %s > %s %s at %s", b.Route, b.Method, b.Guard, b.Guards, b.Target))
	}
	return shown
}

// A server that ignores the package of a service takes calls of a broad route for those that a stricter one guards.
func TestBypasses_OfRoutesThatReachWhatAnotherGuards(t *testing.T) {
	for name, c := range map[string]struct {
		routes string
		want   []string
	}{
		"catch-all":                   {"guard /echo.Echo/* RULES\nall *", []string{"all * > guard /echo.Echo/* at h:1"}},
		"catch-all, one method":       {"guard /echo.Echo/Say RULES\nall *", []string{"all * > guard /echo.Echo/Say at h:1"}},
		"package":                     {"guard /echo.Echo/* RULES\nother /other.*", []string{"other /other.* > guard /echo.Echo/* at h:1"}},
		"package around it":           {"guard /echo.Echo/* RULES\nwide /echo.*", []string{"wide /echo.* > guard /echo.Echo/* at h:1"}},
		"guarded package":             {"guard /echo.* RULES\nall *", []string{"all * > guard /echo.* at h:1"}},
		"same name, another package":  {"guard /echo.Echo/* RULES\nv2 /echo.v2.Echo/*", []string{"v2 /echo.v2.Echo/* > guard /echo.Echo/* at h:1"}},
		"the same without a package":  {"guard /echo.Echo/* RULES\nv2 /Echo/Say", []string{"v2 /Echo/Say > guard /echo.Echo/* at h:1"}},
		"of a service":                {"guard /echo.Echo/* RULES, backends: [{service: e}]\nall * backends: [{service: e}]", []string{"all * > guard /echo.Echo/* at service e"}},
		"of one of many":              {"guard /e.E/* RULES, backends: [{service: e}, {endpoints: [{address: 'h:2'}]}]\nall * backends: [{endpoints: [{address: 'h:3'}, {address: 'h:2'}]}]", []string{"all * > guard /e.E/* at h:2"}},
		"tags that both may have":     {"guard /e.E/* RULES, backends: [{service: e, tags: {a: b}}]\nall * backends: [{service: e, tags: {c: d}}]", []string{"all * > guard /e.E/* at service e"}},
		"what cannot be decoded goes": {"guard /e.E/* RULES\nall * mode: struct, schema: {name: s}, struct: {on_decode_error: pass}", []string{"all * > guard /e.E/* at h:1"}},
		"struct mode, no schema":      {"guard /e.E/* RULES\nall * mode: struct", []string{"all * > guard /e.E/* at h:1"}},
		"common listener":             {"guard /e.E/* RULES, listeners: [a, b]\nall * listeners: [b, c]", []string{"all * > guard /e.E/* at h:1"}},
		"two guards":                  {"one /e.E/* RULES\ntwo /f.F/* RULES\nall *", []string{"all * > one /e.E/* at h:1", "all * > two /f.F/* at h:1"}},

		"address, IPv4 in IPv6": {routetest.Spelled("127.0.0.1:9000", "[::ffff:127.0.0.1]:9000"), []string{"all * > guard /e.E/* at [::ffff:127.0.0.1]:9000"}},
		"address, IPv6":         {routetest.Spelled("[::1]:9000", "[0:0:0::1]:09000"), []string{"all * > guard /e.E/* at [0:0:0::1]:09000"}},
		"address, dns:///":      {routetest.Spelled("127.0.0.1:9000", "dns:///127.0.0.1:9000"), []string{"all * > guard /e.E/* at dns:///127.0.0.1:9000"}},
		"localhost":             {routetest.Spelled("127.0.0.1:9000", "localhost:9000"), []string{"all * > guard /e.E/* at localhost:9000"}},
		"localhost, IPv6":       {routetest.Spelled("LOCALHOST.:9000", "[::1]:9000"), []string{"all * > guard /e.E/* at [::1]:9000"}},
		"name, dns:///":         {routetest.Spelled("echo.svc:9000", "dns:///echo.svc:9000"), []string{"all * > guard /e.E/* at dns:///echo.svc:9000"}},
		"name, letter case":     {routetest.Spelled("echo.svc:9000", "Echo.SVC:9000"), []string{"all * > guard /e.E/* at Echo.SVC:9000"}},
		"name, absolute":        {routetest.Spelled("echo.svc.:9000", "echo.svc:9000"), []string{"all * > guard /e.E/* at echo.svc:9000"}},
		"port":                  {routetest.Spelled("echo.svc:9000", "echo.svc:09000"), []string{"all * > guard /e.E/* at echo.svc:09000"}},
		"path":                  {routetest.Spelled("unix:/run/a", "unix:/run/../run//a"), []string{"all * > guard /e.E/* at unix:/run/../run//a"}},

		"other port":                    {routetest.Spelled("echo.svc:9000", "echo.svc:9001"), nil},
		"other loopback":                {routetest.Spelled("localhost:9000", "127.0.0.2:9000"), nil},
		"below localhost":               {routetest.Spelled("localhost:9000", "a.localhost:9000"), nil},
		"a service named as an address": {"guard /e.E/* RULES, backends: [{service: 'h:1'}]\nall *", nil},
		"other endpoints":               {"guard /e.E/* RULES\nall * backends: [{endpoints: [{address: 'h:2'}]}]", nil},
		"other service":                 {"guard /e.E/* RULES, backends: [{service: e}]\nall * backends: [{service: f}]", nil},
		"tags that exclude each other":  {"guard /e.E/* RULES, backends: [{service: e, tags: {a: b}}]\nall * backends: [{service: e, tags: {a: c}}]", nil},
		"no rules":                      {"guard /e.E/* mode: struct, schema: {name: s}\nall *", nil},
		"frame mode":                    {"guard /e.E/*\nall *", nil},
		"only what the schema has":      {"guard /e.E/* RULES\nall * mode: struct, schema: {name: s}", nil},
		"other service, by name":        {"guard /e.E/* RULES\nother /o.Other/*", nil},
		"other method of the same name": {"guard /e.E/Say RULES\nother /o.E/Ask", nil},
		"exception by name":             {"guard /e.E/* RULES\nother /e.E/Say", nil},
		"exception from a package":      {"guard /e.* RULES\nother /e.f.*", nil},
		"the rest of a service":         {"guard /e.E/Say RULES\nother /e.E/*", nil},
		"guarded catch-all":             {"guard * RULES\nother /e.*", nil},
		"other listeners":               {"guard /e.E/* RULES, listeners: [a]\nall * listeners: [b]", nil},
	} {
		t.Run(name, func(t *testing.T) {
			routes := routetest.BypassRoutes(t, c.routes)
			last := len(routes) - 1
			require.Equal(t, c.want, shownBypasses(Bypasses(routes[:last], routes[last:])), "the last is put")
			require.Equal(t, c.want, shownBypasses(Bypasses(routes[last:], routes[:last])), "the others are put")
			require.Equal(t, c.want, shownBypasses(Bypasses(nil, routes)), "all are put")
			require.Empty(t, Bypasses(routes, nil), "nothing is put")
			require.Empty(t, Bypasses(routes, routetest.BypassRoutes(t, "elsewhere /x.Y/* backends: [{service: elsewhere}]")), "none of them is put")

			inForce := newTables()
			inForce.Apply("file", routes[last:])
			var got []string
			for _, put := range routes[:last] {
				got = append(got, shownBypasses(Bypasses(inForce.current.Routes(), []*spec.Route{put}))...)
			}
			require.Equal(t, c.want, got, "beside those in force")
		})
	}
}

// The list is bounded, and takes no long time with many routes that share an endpoint.
func TestBypasses_AreBounded(t *testing.T) {
	var guards []*spec.Route
	for i := range 1000 {
		guards = append(guards, routetest.BypassRoutes(t, fmt.Sprintf("guard-%d /e.E%d/* RULES", i, i))...)
	}
	require.Len(t, Bypasses(guards, routetest.BypassRoutes(t, "all *")), maxBypasses)
}
