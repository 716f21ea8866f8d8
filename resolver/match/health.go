package match

import (
	"fmt"
	"slices"
	"strings"

	"github.com/framegate/framegate/resolver/spec"
)

// builtinHealth is the prefix of the service whose calls a listener answers itself, unless its configuration says otherwise.
const builtinHealth = "/grpc.health.v1.Health/"

// builtinMethods are the methods that such a listener answers.
var builtinMethods = []string{builtinHealth + "Check", builtinHealth + "Watch"}

// BuiltinMethod reports whether a listener that answers health checks itself answers the method.
func BuiltinMethod(method string) bool { return slices.Contains(builtinMethods, method) }

// Unreachable is a match entry for health checks that gets none from some listeners, because they answer them themselves.
type Unreachable struct {
	Route     string   `json:"route" yaml:"route"`
	Match     string   `json:"match" yaml:"match"`                             // see Match.String
	Listeners []string `json:"listeners,omitempty" yaml:"listeners,omitempty"` // that answer health checks themselves; empty if they are not known
}

// String returns the entry as a warning.
func (u Unreachable) String() string {
	who := "a listener whose configuration does not say health: routed"
	if len(u.Listeners) > 0 {
		who = "listener " + strings.Join(u.Listeners, ", ")
	}
	return fmt.Sprintf("route %s gets no health checks by %s from %s, which answers Check and Watch of grpc.health.v1.Health itself", u.Route, u.Match, who)
}

// UnreachableHealth returns the match entries of routes that are for health checks. It is for callers that do not know which
// listeners answer health checks themselves.
func UnreachableHealth(routes []*spec.Route) []Unreachable {
	return UnreachableHealthWhere(routes, func(*spec.Route) ([]string, bool) { return nil, true })
}

// UnreachableHealthWhere returns the match entries that are for health checks, of those routes for which answering returns
// true, with the listeners that it returns.
func UnreachableHealthWhere(routes []*spec.Route, answering func(*spec.Route) (listeners []string, some bool)) []Unreachable {
	found := []Unreachable{}
	for _, route := range routes {
		listeners, some := answering(route)
		if !some {
			continue
		}
		for _, m := range route.Match {
			if p, err := spec.ParsePattern(m.Method); err == nil && isForHealth(p) {
				found = append(found, Unreachable{Route: route.Name, Match: m.String(), Listeners: listeners})
			}
		}
	}
	return found
}

// isForHealth reports whether a pattern is meant for health checks. A broader one is not: it gets the other calls that it is
// meant for.
func isForHealth(p spec.Pattern) bool {
	switch p.Kind {
	case spec.KindExact:
		return BuiltinMethod(p.Prefix)
	case spec.KindService:
		return p.Prefix == builtinHealth
	case spec.KindPackage:
		return p.Prefix == "/grpc.health.v1."
	}
	return false
}
