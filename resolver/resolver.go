package resolver

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Resolver holds the routes in force. Resolve may be called by any number of goroutines while sources change routes;
// a change swaps the whole table, and calls keep the answer they got.
type Resolver struct {
	current atomic.Pointer[table]

	mu      sync.Mutex          // guards sources and the order of swaps
	sources map[string][]*Route // by the name of the source
}

// New returns a Resolver without routes.
func New() *Resolver {
	r := &Resolver{sources: map[string][]*Route{}}
	r.current.Store(newTable(nil))
	return r
}

// Target is where a call goes. It is a value: it shares nothing with later tables.
type Target struct {
	Route     string        // name of the route
	Mode      Mode          // of the route
	Backend   string        // name of the backend, may be empty
	Address   string        // of the endpoint: host:port or unix:/path; empty when no endpoint may be used
	Authority string        // to send instead of the client's; empty keeps it
	Timeout   time.Duration // of the whole call; 0 for none
}

// Resolve returns the target of a call of the full method name ("/pkg.Service/Method") that came in through the named
// listener, and false if no route matches. A target without an Address has a route but no endpoint that may be used.
// It neither blocks nor allocates.
func (r *Resolver) Resolve(listener, method string) (Target, bool) {
	e := r.current.Load().lookup(listener, method)
	if e == nil {
		return Target{}, false
	}
	t := Target{Route: e.route.Name, Mode: e.route.Mode, Authority: e.route.Authority, Timeout: e.route.Timeout}
	t.Backend, t.Address, _ = e.balancer.pick()
	return t, true
}

// Apply replaces the routes of one source, named by the caller ("file", "etcd"), and leaves those of others. The routes
// must be valid (ParseRoute) and not be changed afterwards. Where two sources have a route of one name, both are in
// force; where they match alike, that of the source whose name sorts first wins.
func (r *Resolver) Apply(source string, routes []*Route) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sources[source] = slices.Clone(routes)
	r.current.Store(newTable(r.allLocked()))
}

// Routes returns the routes in force, by name. The caller must not change them.
func (r *Resolver) Routes() []*Route {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := r.allLocked()
	slices.SortStableFunc(all, func(a, b *Route) int { return strings.Compare(a.Name, b.Name) })
	return all
}

func (r *Resolver) allLocked() []*Route {
	var all []*Route
	for _, source := range slices.Sorted(maps.Keys(r.sources)) {
		all = append(all, r.sources[source]...)
	}
	return all
}

// Summary says in one line what a route does, for people.
func (r *Route) Summary() string {
	var methods, addresses []string
	for _, m := range r.Match {
		methods = append(methods, m.Method)
	}
	for _, b := range r.Backends {
		for _, e := range b.Endpoints {
			addresses = append(addresses, e.Address)
		}
	}
	return fmt.Sprintf("%s -> %s", strings.Join(methods, ", "), strings.Join(addresses, ", "))
}
