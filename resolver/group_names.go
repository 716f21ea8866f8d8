package resolver

import (
	"slices"
	"time"

	"github.com/framegate/framegate/resolver/dns"
)

// nameWatch is a name that a group has looked up.
type nameWatch struct {
	how  dns.Config
	stop func()
}

// followNames has the names among the endpoints of a group looked up, and no others. Their addresses become members when
// they are known.
func (s *groups) followNames(g *group) {
	if s.names == nil {
		return
	}
	before := g.names
	g.names = nil
	for _, w := range g.written {
		if !w.at.isName() {
			continue
		}
		host := w.at.host
		if _, ok := g.names[host]; ok {
			continue
		}
		if g.names == nil {
			g.names = map[string]nameWatch{}
		}
		at, ok := before[host]
		if !ok || at.how != g.spec.dns {
			at = nameWatch{g.spec.dns, s.names.Watch(host, g.spec.dns.WithDefaults().Refresh, func() { s.lookedUp(g) })}
		} else {
			delete(before, host)
		}
		g.names[host] = at
	}
	for _, at := range before { // after the others: what is known of a name goes with who watches it last
		at.stop()
	}
}

// forgetNames ends all look-ups for a group.
func (g *group) forgetNames() {
	for _, at := range g.names {
		at.stop()
	}
	g.names = nil
}

// lookedUp hears that something else is known of a name of a group. No lock is held. Of many names that are looked up at
// once, one does for all.
func (s *groups) lookedUp(g *group) {
	g.stale.Store(true)
	s.presence.mu.Lock()
	defer s.presence.unlock()
	if !s.closed && len(g.users) > 0 && g.stale.Load() {
		s.renewMembers(g)
	}
}

// SetNames says who looks up the names of endpoints; without it a name is one endpoint, which is looked up by whoever
// connects to it. The Resolver closes names with itself. It comes before the first route.
func (r *Resolver) SetNames(names *dns.Names) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.groups.names = names
}

// namesWait bounds how long a route waits for its names.
const namesWait = time.Second

// awaitRoutes returns when the names among the endpoints of routes that are about to come into force were looked up, or
// after a moment: their first calls are to find endpoints. release is called when the routes are in force. It is for routes
// that come into force together; see waitingRoutes.
func (r *Resolver) awaitRoutes(routes []*Route) (release func()) {
	var addresses []string
	for _, route := range routes {
		addresses = append(addresses, route.addresses()...)
	}
	return r.awaitNames(addresses)
}

func (r *Resolver) awaitNames(addresses []string) (release func()) {
	names, hosts := r.hosts(addresses)
	if len(hosts) == 0 {
		return func() {}
	}
	return names.Await(hosts, namesWait)
}

// hosts returns the names that are looked up among addresses, each once, and who does that.
func (r *Resolver) hosts(addresses []string) (names *dns.Names, hosts []string) {
	r.mu.Lock()
	names = r.groups.names
	r.mu.Unlock()
	if names == nil {
		return nil, nil
	}
	for _, a := range addresses {
		if at, err := parseAddress(a); err == nil && at.isName() {
			hosts = append(hosts, at.host)
		}
	}
	slices.Sort(hosts)
	return names, slices.Compact(hosts)
}

// addresses returns the addresses of the endpoints that the route lists.
func (r *Route) addresses() (all []string) {
	for _, b := range r.Backends {
		for _, e := range b.Endpoints {
			all = append(all, e.Address)
		}
	}
	return all
}

func (s *groups) addLookupErrors(all []EndpointState) {
	errs := map[string]error{} // by name
	for i := range all {
		e := &all[i]
		if e.Name == "" || e.Bar != "" {
			continue
		}
		err, ok := errs[e.Name]
		if !ok {
			at, _ := parseAddress(e.Name)
			err = s.names.Known(at.host).Err
			errs[e.Name] = err
		}
		e.LookupError = err
	}
}

// Lookups counts the look-ups of names: how many gave addresses, how many said that there are none, and how many failed.
func (r *Resolver) Lookups() (answered, absent, failed uint64) {
	r.mu.Lock()
	names := r.groups.names
	r.mu.Unlock()
	if names == nil {
		return 0, 0, 0
	}
	return names.Counts()
}
