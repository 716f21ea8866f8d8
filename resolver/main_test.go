package resolver

import (
	"sync"
	"testing"

	"github.com/framegate/framegate/resolver/spec"
	"github.com/framegate/framegate/test/leak"
)

func TestMain(m *testing.M) { leak.Main(m, 8) }

// bindings of routes without programs, by route.
var boundRoutes sync.Map

// bound returns what comes into force of routes, the same for one route whenever it is asked for.
func bound(routes ...*spec.Route) (all []*Route) {
	for _, r := range routes {
		b, _ := boundRoutes.LoadOrStore(r, &Route{Route: r})
		all = append(all, b.(*Route))
	}
	return all
}
