package cluster

import (
	"github.com/framegate/framegate/resolver/dns"
	"github.com/framegate/framegate/resolver/spec"
)

// nameWatch is a name that a group has looked up.
type nameWatch struct {
	how  dns.Config
	stop func()
}

// followNames has the names among the endpoints of a group looked up, and no others. Their addresses become members when
// they are known.
func (s *Set) followNames(g *Cluster) {
	if s.names == nil {
		return
	}
	before := g.names
	g.names = nil
	for _, w := range g.written {
		if !w.at.IsName() {
			continue
		}
		host := w.at.Host
		if _, ok := g.names[host]; ok {
			continue
		}
		if g.names == nil {
			g.names = map[string]nameWatch{}
		}
		at, ok := before[host]
		if !ok || at.how != g.settings.dns {
			at = nameWatch{g.settings.dns, s.names.Watch(host, g.settings.dns.WithDefaults().Refresh, func() { s.lookedUp(g) })}
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
func (g *Cluster) forgetNames() {
	for _, at := range g.names {
		at.stop()
	}
	g.names = nil
}

// lookedUp hears that something else is known of a name of a group. No lock is held. Of many names that are looked up at
// once, one does for all.
func (s *Set) lookedUp(g *Cluster) {
	g.stale.Store(true)
	s.mu.Lock()
	defer s.tracker.unlock()
	if !s.closed && len(g.users) > 0 && g.stale.Load() {
		s.renewMembers(g)
	}
}

func (s *Set) addLookupErrors(all []EndpointState) {
	errs := map[string]error{} // by name
	for i := range all {
		e := &all[i]
		if e.Name == "" || e.Exclusion != "" {
			continue
		}
		err, ok := errs[e.Name]
		if !ok {
			at, _ := spec.ParseAddress(e.Name)
			err = s.names.Known(at.Host).Err
			errs[e.Name] = err
		}
		e.LookupError = err
	}
}
