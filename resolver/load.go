package resolver

import (
	"cmp"
	"slices"
)

// RouteLoad is what is under way of the calls of a route, as its limits and its retry budget count it. It is that of one
// moment only as far as nothing changes meanwhile.
type RouteLoad struct {
	Source, Route string
	Calls         int  // admitted
	Pending       int  // of these, calls that wait for a connection or a stream, if limits.pending is set somewhere
	Budget        bool // the route has a retry budget
	Budgeted      int  // calls that it counts
	Retries       int  // further attempts, of retry or hedge, that wait for their answers
	Backends      []BackendLoad
}

// BackendLoad is the part of a RouteLoad at one backend.
type BackendLoad struct {
	Backend        string // its name, or #0 and so on by its place in the route
	Calls, Pending int
}

// Loads returns those of all routes in force. It is for people and metrics: it looks at all routes.
func (r *Resolver) Loads() []RouteLoad {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []RouteLoad
	for source, routes := range r.sources {
		for route, e := range routes {
			load := RouteLoad{Source: source, Route: route.Name, Calls: e.standing.route.concurrent.Active(), Pending: e.standing.route.pending.Active()}
			if b := e.standing.budget.Load(); b != nil {
				load.Budget = true
				load.Budgeted, load.Retries = b.Active()
			}
			for i := range route.Backends {
				l := e.balancer.all[i].limits
				load.Backends = append(load.Backends, BackendLoad{route.Backends[i].key(i), l.concurrent.Active(), l.pending.Active()})
			}
			all = append(all, load)
		}
	}
	slices.SortFunc(all, func(a, b RouteLoad) int {
		return cmp.Or(cmp.Compare(a.Route, b.Route), cmp.Compare(a.Source, b.Source))
	})
	return all
}
