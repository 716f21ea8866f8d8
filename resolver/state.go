package resolver

import (
	"cmp"
	"slices"

	"github.com/framegate/framegate/resolver/cluster"
)

// Clusters returns the states of the clusters of all routes in force, sorted by ID. It looks at all routes, so it is for people
// and metrics.
func (r *Resolver) Clusters() []cluster.State {
	r.mu.Lock()
	defer r.mu.Unlock()
	routes := map[*cluster.Cluster][]string{}
	for _, entries := range r.sources {
		for route, e := range entries {
			for _, g := range e.With.Clusters() {
				routes[g] = append(routes[g], route.Name)
			}
		}
	}
	all := make([]cluster.State, 0, len(routes))
	for g, names := range routes {
		slices.Sort(names)
		state := g.State()
		state.Routes = slices.Compact(names) // two sources may have a route of one name
		all = append(all, state)
	}
	slices.SortFunc(all, func(a, b cluster.State) int {
		return cmp.Or(a.ID.Compare(b.ID), slices.Compare(a.Routes, b.Routes))
	})
	return all
}

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
