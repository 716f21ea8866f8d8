package cluster

import (
	"cmp"
	"maps"
	"slices"
	"sync"

	"github.com/framegate/framegate/resolver/match"
	"github.com/framegate/framegate/resolver/spec"
)

// router is a set of clusters with the routes that lead to them: as much of a Resolver as the tests here need.
type router struct {
	*Set

	mu     sync.Mutex
	routes map[string]map[*spec.Route]*Backends // by source
	table  match.Table[*Backends]
}

func newRouter() *router {
	r := &router{Set: NewSet(), routes: map[string]map[*spec.Route]*Backends{}}
	r.rebuild()
	return r
}

func (r *router) Apply(source string, routes []*spec.Route) {
	r.mu.Lock()
	gone := slices.Collect(maps.Keys(r.routes[source]))
	r.mu.Unlock()
	gone = slices.DeleteFunc(gone, func(old *spec.Route) bool { return slices.Contains(routes, old) })
	r.Update(source, gone, slices.DeleteFunc(slices.Clone(routes), func(now *spec.Route) bool { return r.routes[source][now] != nil }))
}

func (r *router) Update(source string, gone, added []*spec.Route) {
	use := r.Begin()
	if use == nil {
		return
	}
	defer use.End()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.routes[source] == nil {
		r.routes[source] = map[*spec.Route]*Backends{}
	}
	of := r.routes[source]
	var old []*Backends
	for _, route := range gone {
		old = append(old, of[route])
		delete(of, route)
	}
	for _, route := range added {
		of[route] = use.Acquire(route, source, nil)
	}
	for _, b := range old {
		use.Release(b)
	}
	r.rebuild()
}

func (r *router) rebuild() {
	var entries []*match.Entry[*Backends]
	for source, routes := range r.routes {
		for route, b := range routes {
			entries = append(entries, match.NewEntry(route, source, b))
		}
	}
	r.table = match.NewTable(entries, nil)
}

func (r *router) Resolve(req spec.Request) (t Target, ok bool) {
	r.mu.Lock()
	e, pattern := r.table.Lookup(&req)
	r.mu.Unlock()
	if e != nil {
		e.With.Aim(&t, pattern, &req)
	}
	return t, e != nil
}

// backends returns those of a route.
func (r *router) backends(source string, route *spec.Route) *Backends {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.routes[source][route]
}

// Clusters returns the states of all clusters.
func (r *router) Clusters() (all []State) {
	r.mu.Lock()
	defer r.mu.Unlock()
	names := map[*Cluster][]string{}
	for _, routes := range r.routes {
		for route, b := range routes {
			for _, c := range b.Clusters() {
				names[c] = append(names[c], route.Name)
			}
		}
	}
	for c, routes := range names {
		slices.Sort(routes)
		s := c.State()
		s.Routes = slices.Compact(routes)
		all = append(all, s)
	}
	slices.SortFunc(all, func(a, b State) int {
		return cmp.Or(a.ID.Compare(b.ID), slices.Compare(a.Routes, b.Routes))
	})
	return all
}

// explain returns what Explain says of the backends that a call goes to.
func (r *router) explain(req spec.Request) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	e, _ := r.table.Lookup(&req)
	return e.With.Explain()
}
