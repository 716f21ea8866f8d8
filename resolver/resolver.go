package resolver

import (
	"cmp"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/framegate/framegate/resolver/health"
)

// Resolver holds the routes in force and the instances of services. Resolve may be called by any number of goroutines
// while sources change both; a change swaps what it concerns, and calls keep the answer they got.
type Resolver struct {
	current atomic.Pointer[table]

	mu        sync.Mutex                   // guards what follows, and the order of swaps
	sources   map[string]map[*Route]*entry // by the name of the source
	groups    *groups
	standings standings

	listeners []string // set once; see New
	ownHealth []string // set once; see SetOwnHealth
}

// New returns a Resolver without routes that is asked about the named listeners; none stands for whatever routes name,
// which costs a table for each.
func New(listeners ...string) *Resolver {
	r := &Resolver{sources: map[string]map[*Route]*entry{}, standings: standings{}, listeners: listeners}
	r.groups = newGroups(&r.mu, health.NewChecker(nil))
	r.current.Store(newTable(nil, listeners))
	return r
}

// SetLog says where it is logged that endpoints become unhealthy, are ejected and come back; without it, nowhere. It comes
// before the first route.
func (r *Resolver) SetLog(log *slog.Logger) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.groups.checker, r.groups.log, r.groups.guard.log = health.NewChecker(log), log, log
}

// SetOwnHealth names the listeners that answer health checks themselves, for explanations and warnings. It comes before the
// first route.
func (r *Resolver) SetOwnHealth(listeners ...string) { r.ownHealth = listeners }

// SetDepartures says who hears of endpoints that leave. It comes before the first route.
func (r *Resolver) SetDepartures(d Departures) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.groups.presence.hears = d
}

// SetGrace changes Departures.Grace, for endpoints that leave from now on. It may be called at any time.
func (r *Resolver) SetGrace(d time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.groups.presence.hears.Grace = d
}

// Close ends health checks, look-ups and timers, and waits for those under way and for Departures. Routes stay in force with their
// endpoints as they are; Apply, Update and SetInstances do nothing any more. It may be called more than once.
func (r *Resolver) Close() {
	r.mu.Lock()
	r.groups.close()
	r.mu.Unlock()
	r.groups.presence.telling.Wait()
	r.groups.checker.Close()
	if r.groups.names != nil {
		r.groups.names.Close()
	}
}

// Resolve returns the target of a call, and false if no route matches. It neither blocks nor, except in regular
// expressions, allocates.
func (r *Resolver) Resolve(req Request) (Target, bool) {
	c := r.current.Load().lookup(&req)
	if c == nil {
		return Target{}, false
	}
	e := c.entry
	route := e.route
	t := Target{
		Route: route.Name, Pattern: c.method, Mode: route.Mode, Authority: route.Authority,
		Timeout: route.Timeout, IdleTimeout: route.IdleTimeout, MaxStreamAge: route.MaxStreamAge,
		Retry: route.Retry, Hedge: route.Hedge, Program: route.program,
		balancer: e.balancer, standing: e.standing,
	}
	if route.Balancer != nil && route.Balancer.Hash != nil {
		t.key = route.Balancer.Hash.hash(&req)
	}
	return t, true
}

// Preview is Resolve for people: the target has an Address that the call may get, which is empty if no endpoint may be
// used. Nothing is counted.
func (r *Resolver) Preview(req Request) (Target, bool) {
	t, ok := r.Resolve(req)
	if ok {
		t.Address, t.Name, _ = t.Probe()
	}
	return t, ok
}

// Apply replaces the routes of one source, named by the caller ("file", "etcd"), and leaves those of others. The routes
// must be valid (ParseRoute) and not be changed afterwards. Where two sources have a route of one name, both are in force;
// where they match alike, that of the source whose name sorts first wins.
func (r *Resolver) Apply(source string, routes []*Route) {
	r.mu.Lock()
	defer r.groups.presence.unlock()
	if r.groups.closed {
		return
	}
	before := r.sources[source]
	now := make(map[*Route]*entry, len(routes))
	for _, route := range routes {
		e := before[route]
		if e == nil {
			e = r.newEntry(route, source)
		}
		now[route] = e
	}
	r.sources[source] = now
	r.rebuildLocked()
	for route, e := range before { // after the others are made: what both use stays
		if now[route] == nil {
			r.release(e)
		}
	}
}

// Update is Apply for a change of some of a source's routes: it removes those that are in force and gone, and adds others.
// It costs little however many routes there are.
func (r *Resolver) Update(source string, gone, added []*Route) {
	r.mu.Lock()
	defer r.groups.presence.unlock()
	if r.groups.closed {
		return
	}
	routes := r.sources[source]
	if routes == nil {
		routes = map[*Route]*entry{}
		r.sources[source] = routes
	}
	removed := map[*entry]bool{}
	for _, route := range gone {
		if e := routes[route]; e != nil {
			removed[e] = true
			delete(routes, route)
		}
	}
	var candidates []*candidate
	rebuild := false
	current := r.current.Load()
	for _, route := range added {
		e := r.newEntry(route, source)
		routes[route] = e
		candidates = append(candidates, e.candidates...)
		for _, l := range route.Listeners { // one that no route named before needs a table of its own
			if current.listeners[l] == nil && (len(r.listeners) == 0 || slices.Contains(r.listeners, l)) {
				rebuild = true
			}
		}
	}
	for e := range removed { // after the others are made: what both use stays
		r.release(e)
	}
	slices.SortFunc(candidates, compareCandidates)
	if !rebuild {
		if next := current.updated(removed, candidates); next != nil {
			r.current.Store(next)
			return
		}
	}
	r.rebuildLocked()
}

// rebuildLocked puts a new table of all routes in force.
func (r *Resolver) rebuildLocked() {
	var entries []*entry
	for _, routes := range r.sources {
		entries = slices.AppendSeq(entries, maps.Values(routes))
	}
	r.current.Store(newTable(entries, r.listeners))
}

// SetInstances replaces the instances of a service; none means that it has none. Of several with one address, that of the
// greatest weight counts. The instances must be valid (ParseInstance) and not be changed afterwards.
func (r *Resolver) SetInstances(service string, instances []Instance) {
	sorted := slices.SortedFunc(slices.Values(instances), func(a, b Instance) int {
		return cmp.Or(cmp.Compare(a.Address, b.Address), cmp.Compare(b.Weight, a.Weight))
	})
	sorted = slices.CompactFunc(sorted, func(a, b Instance) bool { return a.Address == b.Address })
	r.mu.Lock()
	defer r.groups.presence.unlock()
	if !r.groups.closed {
		r.groups.setInstances(service, sorted)
	}
}

// Instances returns the instances of every service that has any. The caller must not change them.
func (r *Resolver) Instances() map[string][]Instance {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := make(map[string][]Instance, len(r.groups.services))
	for name, s := range r.groups.services {
		if len(s.instances) > 0 {
			all[name] = s.instances
		}
	}
	return all
}

// Documents counts the routes and instances in force.
func (r *Resolver) Documents() (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, routes := range r.sources {
		n += len(routes)
	}
	for _, s := range r.groups.services {
		n += len(s.instances)
	}
	return n
}

// Routes returns the routes in force, by name. The caller must not change them.
func (r *Resolver) Routes() []*Route {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []*Route
	for _, source := range slices.Sorted(maps.Keys(r.sources)) {
		all = slices.AppendSeq(all, maps.Keys(r.sources[source]))
	}
	slices.SortStableFunc(all, func(a, b *Route) int { return strings.Compare(a.Name, b.Name) })
	return all
}

// Summary says in one line what a route does, for people.
func (r *Route) Summary() string {
	var matches, backends []string
	for _, m := range r.Match {
		matches = append(matches, m.String())
	}
	for _, b := range r.Backends {
		backends = append(backends, b.String())
	}
	return fmt.Sprintf("%s -> %s", strings.Join(matches, ", "), strings.Join(backends, ", "))
}

// String is the backend on one line, for people: its endpoints or its service, and its weight unless that is 1.
func (b Backend) String() string {
	var parts []string
	if b.Weight != nil && *b.Weight != 1 {
		parts = append(parts, fmt.Sprintf("%d x", *b.Weight))
	}
	if b.Service != "" {
		parts = append(parts, "service "+b.Service)
		for _, k := range slices.Sorted(maps.Keys(b.Tags)) {
			parts = append(parts, k+"="+b.Tags[k])
		}
	}
	for _, e := range b.Endpoints {
		parts = append(parts, e.Address)
	}
	return strings.Join(parts, " ")
}
