package resolver

import (
	"cmp"
	"slices"

	"github.com/framegate/framegate/resolver/cluster"
)

// Loads returns the loads of all routes in force, sorted by route and source. It looks at all routes, so it is for people and
// metrics.
func (r *Resolver) Loads() []cluster.RouteLoad {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []cluster.RouteLoad
	for _, routes := range r.sources {
		for _, e := range routes {
			all = append(all, e.With.Load())
		}
	}
	slices.SortFunc(all, func(a, b cluster.RouteLoad) int {
		return cmp.Or(cmp.Compare(a.Route, b.Route), cmp.Compare(a.Source, b.Source))
	})
	return all
}
