package match

import (
	"fmt"
	"slices"
	"strings"

	"github.com/framegate/framegate/resolver/spec"
)

// ownHealth is the service that a listener answers itself unless its configuration says otherwise, and its methods.
const ownHealth = "/grpc.health.v1.Health/"

var ownMethods = []string{ownHealth + "Check", ownHealth + "Watch"}

// OwnMethod reports whether a listener that answers health checks itself answers the method.
func OwnMethod(method string) bool { return slices.Contains(ownMethods, method) }

// Unreachable is a match entry that gets no call of some methods, since listeners answer them themselves.
type Unreachable struct {
	Route     string   `json:"route" yaml:"route"`
	Match     string   `json:"match" yaml:"match"`                             // see Match.String
	Listeners []string `json:"listeners,omitempty" yaml:"listeners,omitempty"` // that do; none if it is not known which
}

// String is the entry as a warning.
func (u Unreachable) String() string {
	who := "a listener whose configuration does not say health: routed"
	if len(u.Listeners) > 0 {
		who = "listener " + strings.Join(u.Listeners, ", ")
	}
	return fmt.Sprintf("route %s gets no health checks by %s from %s, which answers Check and Watch of grpc.health.v1.Health itself", u.Route, u.Match, who)
}

// UnreachableHealth returns the match entries of routes that are for health checks, for a set of routes of which nobody knows what
// listeners do.
func UnreachableHealth(routes []*spec.Route) []Unreachable {
	return UnreachableHealthWhere(routes, func(*spec.Route) ([]string, bool) { return nil, true })
}

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

// isForHealth reports whether nearly all that the pattern matches is health checks: broader ones are for other calls, which
// they get.
func isForHealth(p spec.Pattern) bool {
	switch p.Kind {
	case spec.KindExact:
		return OwnMethod(p.Prefix)
	case spec.KindService:
		return p.Prefix == ownHealth
	case spec.KindPackage:
		return p.Prefix == "/grpc.health.v1."
	}
	return false
}
