package resolver

import (
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/framegate/framegate/resolver/cluster"
	"github.com/framegate/framegate/resolver/match"
	"github.com/framegate/framegate/resolver/spec"
)

// Resolver has the routes in force, and the clusters of endpoints that their calls go to. Resolve may be called by any number
// of goroutines while sources change both. A change swaps a table or a choice; calls keep the answers that they got.
type Resolver struct {
	*cluster.Set

	current atomic.Pointer[match.Table[*cluster.Backends]]

	mu      sync.Mutex                                            // guards sources and stores to current; taken after the set's lock, see Set.Begin
	sources map[string]map[*Route]*match.Entry[*cluster.Backends] // by the name of the source

	listeners     []string // set once; see New
	follower      Follower // set once; see Follow
	builtinHealth []string // set once; see SetBuiltinHealth
}

// New returns a Resolver without routes, for calls of the named listeners; without names, for calls of every listener that a
// route names, which costs a table for each. The caller closes it: routes then stay in force with their endpoints as they
// are, and Apply, Update and SetInstances do nothing any more.
func New(listeners ...string) *Resolver {
	r := &Resolver{Set: cluster.NewSet(), sources: map[string]map[*Route]*match.Entry[*cluster.Backends]{}, listeners: listeners}
	r.rebuildLocked()
	return r
}

// Follower is told of the versions of routes that are put in force. It must neither block nor call the Resolver.
type Follower interface {
	// Come is called before calls meet a version of a source's route, and before Gone for the version that it replaces.
	Come(source string, route *spec.Route)
	// Gone is called when calls meet the version no more. Calls under way may still use it.
	Gone(source string, route *spec.Route)
}

// Follow makes f the Follower. It is called before the first route is applied.
func (r *Resolver) Follow(f Follower) { r.follower = f }

func (r *Resolver) come(source string, route *Route) {
	if r.follower != nil {
		r.follower.Come(source, route.Route)
	}
}

func (r *Resolver) gone(source string, route *Route) {
	if r.follower != nil {
		r.follower.Gone(source, route.Route)
	}
}

// SetBuiltinHealth names the listeners that answer health checks themselves, for explanations and warnings. It is called before
// the first route is applied.
func (r *Resolver) SetBuiltinHealth(listeners ...string) { r.builtinHealth = listeners }

// Resolve sets t, which is zero, to the target of a call. It returns false if no route matches. It neither blocks nor, except in
// regular expressions, allocates.
func (r *Resolver) Resolve(t *cluster.Target, req spec.Request) bool {
	e, pattern := r.current.Load().Lookup(&req)
	if e != nil {
		e.With.Aim(t, pattern, &req)
	}
	return e != nil
}

// Preview is Resolve for people: the target has an Address that the call could get, which is empty if no endpoint may be
// used. It counts nothing.
func (r *Resolver) Preview(req spec.Request) (t cluster.Target, ok bool) {
	if ok = r.Resolve(&t, req); ok {
		t.Address, t.Name, _ = t.Probe()
	}
	return t, ok
}

// Apply replaces the routes of one source, which the caller names ("file", "etcd"), and leaves those of others. The routes
// must be valid (ParseRoute) and not be changed afterwards. If two sources have a route of one name, both are in force; for
// calls that both match alike, the route of the source whose name sorts first wins.
func (r *Resolver) Apply(source string, routes []*Route) {
	use := r.Begin()
	if use == nil {
		return
	}
	defer use.End()
	r.mu.Lock()
	defer r.mu.Unlock()
	before := r.sources[source]
	now := make(map[*Route]*match.Entry[*cluster.Backends], len(routes))
	for _, route := range routes {
		e := before[route]
		if e == nil {
			r.come(source, route)
			e = match.NewEntry(route.Route, source, use.Acquire(route.Route, source, route.Program))
		}
		now[route] = e
	}
	r.sources[source] = now
	r.rebuildLocked()
	for route, e := range before { // after the new ones are made, so that clusters that both use stay
		if now[route] == nil {
			use.Release(e.With)
			r.gone(source, route)
		}
	}
}

// Update changes some of a source's routes: it removes the ones in gone that are in force, and adds others. Unlike Apply it
// costs little, however many routes there are.
func (r *Resolver) Update(source string, gone, added []*Route) {
	use := r.Begin()
	if use == nil {
		return
	}
	defer use.End()
	r.mu.Lock()
	defer r.mu.Unlock()
	routes := r.sources[source]
	if routes == nil {
		routes = map[*Route]*match.Entry[*cluster.Backends]{}
		r.sources[source] = routes
	}
	var removed, come []*match.Entry[*cluster.Backends]
	var forgotten []*Route
	for _, route := range gone {
		if e := routes[route]; e != nil {
			removed = append(removed, e)
			forgotten = append(forgotten, route)
			delete(routes, route)
		}
	}
	for _, route := range added {
		r.come(source, route)
		e := match.NewEntry(route.Route, source, use.Acquire(route.Route, source, route.Program))
		routes[route] = e
		come = append(come, e)
	}
	for _, e := range removed { // after the new ones are made, so that clusters that both use stay
		use.Release(e.With)
	}
	if next, ok := r.current.Load().Updated(removed, come); ok {
		r.current.Store(&next)
	} else {
		r.rebuildLocked()
	}
	for _, route := range forgotten {
		r.gone(source, route)
	}
}

// rebuildLocked puts a new table of all routes in force.
func (r *Resolver) rebuildLocked() {
	var entries []*match.Entry[*cluster.Backends]
	for _, routes := range r.sources {
		entries = slices.AppendSeq(entries, maps.Values(routes))
	}
	next := match.NewTable(entries, r.listeners)
	r.current.Store(&next)
}

// Routes returns the routes in force, by name. The caller must not change them.
func (r *Resolver) Routes() []*spec.Route {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []*spec.Route
	for _, source := range slices.Sorted(maps.Keys(r.sources)) {
		for route := range r.sources[source] {
			all = append(all, route.Route)
		}
	}
	slices.SortStableFunc(all, func(a, b *spec.Route) int { return strings.Compare(a.Name, b.Name) })
	return all
}
