package resolver

import (
	"fmt"
	"slices"

	"github.com/framegate/framegate/resolver/match"
	"github.com/framegate/framegate/resolver/spec"
)

// Explanation says which route a call gets, and why the match entries that come before the chosen one do not take it.
type Explanation struct {
	Chosen   *match.Considered  `json:"chosen" yaml:"chosen"`     // nil when no route matches
	Stronger []match.Considered `json:"stronger" yaml:"stronger"` // entries that match the method but not the call, strongest first; all of them when nothing is chosen
	Backends []string           `json:"backends" yaml:"backends"` // of the chosen route, for people (see Backend.String)

	// Endpoints says for people which addresses the host names among the endpoints of the chosen route have, and which
	// endpoints get no calls.
	Endpoints []string `json:"endpoints,omitempty" yaml:"endpoints,omitempty"`

	// Builtin says that no route gets the call, because the listener answers it itself; empty for any other call.
	Builtin string `json:"own,omitempty" yaml:"own,omitempty"`

	// Of a chosen route in struct mode or with a schema.
	Mode   spec.Mode `json:"mode,omitempty" yaml:"mode,omitempty"`
	Schema string    `json:"schema,omitempty" yaml:"schema,omitempty"` // where it comes from, see SchemaRef.String
	Rules  []string  `json:"rules,omitempty" yaml:"rules,omitempty"`   // for messages of the method, in order, see Rule.String

	Mirrors []string `json:"mirrors,omitempty" yaml:"mirrors,omitempty"` // of the chosen route, see spec.Mirror.String
	Fanout  string   `json:"fanout,omitempty" yaml:"fanout,omitempty"`   // of the chosen route, see spec.Fanout.String
	Targets []string `json:"targets,omitempty" yaml:"targets,omitempty"` // that the fan-out may go to, by name

	Bypasses []match.Bypass `json:"bypasses,omitempty" yaml:"bypasses,omitempty"` // that the chosen route is part of
}

// Explain says why Resolve chooses as it does. It looks at every match entry, so it is for people, not for calls.
func (r *Resolver) Explain(req spec.Request) Explanation {
	x := Explanation{Backends: []string{}, Builtin: r.builtinReason(&req)}
	e, why := r.current.Load().Explain(&req, x.Builtin)
	if x.Chosen, x.Stronger = why.Chosen, why.Stronger; e == nil {
		return x
	}
	route := e.Route
	for _, b := range route.Backends {
		x.Backends = append(x.Backends, b.String())
	}
	x.Endpoints = e.With.Explain()
	for i := range route.Mirrors {
		x.Mirrors = append(x.Mirrors, route.Mirrors[i].String())
	}
	if route.Fanout != nil {
		x.Fanout, x.Targets = route.Fanout.String(), e.With.Targets()
	}
	if route.Mode == spec.ModeStruct || route.Schema != nil {
		x.Mode, x.Rules = route.Mode, route.RulesFor(req.Method)
	}
	x.Bypasses = r.Bypasses(route)
	if route.Schema != nil {
		x.Schema = route.Schema.String()
	}
	return x
}

// Bypasses returns the bypasses that a route would be part of if it were put beside the routes in force.
func (r *Resolver) Bypasses(put *spec.Route) []match.Bypass {
	return match.Bypasses(r.current.Load().Routes(), []*spec.Route{put})
}

// UnreachableHealth returns the match entries of a route that are for health checks and do not get all of them, because some
// of the route's listeners answer health checks themselves; see SetBuiltinHealth.
func (r *Resolver) UnreachableHealth(route *spec.Route) []match.Unreachable {
	return match.UnreachableHealthWhere([]*spec.Route{route}, func(route *spec.Route) ([]string, bool) {
		var builtin []string
		for _, l := range r.builtinHealth {
			if route.Listens(l) {
				builtin = append(builtin, l)
			}
		}
		return builtin, len(builtin) > 0
	})
}

// builtinReason says for people that the listener answers a call itself; "" if the call goes to a route.
func (r *Resolver) builtinReason(req *spec.Request) string {
	if !match.BuiltinMethod(req.Method) || !slices.Contains(r.builtinHealth, req.Listener) {
		return ""
	}
	return fmt.Sprintf("listener %s answers it itself (health: own)", req.Listener)
}
