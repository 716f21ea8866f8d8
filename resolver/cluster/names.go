package cluster

import (
	"github.com/framegate/framegate/resolver/dns"
	"github.com/framegate/framegate/resolver/spec"
)

// nameWatch is a name that a cluster has looked up.
type nameWatch struct {
	how  dns.Config
	stop func()
}

// followNames has the names among the endpoints of a cluster looked up, and no others. Their addresses become members when
// they are known.
func (s *Set) followNames(c *Cluster) {
	if s.names == nil {
		return
	}
	before := c.names
	c.names = nil
	for _, w := range c.written {
		if !w.at.IsName() {
			continue
		}
		host := w.at.Host
		if _, ok := c.names[host]; ok {
			continue
		}
		if c.names == nil {
			c.names = map[string]nameWatch{}
		}
		at, ok := before[host]
		if !ok || at.how != c.settings.dns {
			at = nameWatch{c.settings.dns, s.names.Watch(host, c.settings.dns.WithDefaults().Refresh, func() { s.lookedUp(c) })}
		} else {
			delete(before, host)
		}
		c.names[host] = at
	}
	for _, at := range before { // after the others: what is known of a name goes with who watches it last
		at.stop()
	}
}

// forgetNames ends all look-ups for a cluster.
func (c *Cluster) forgetNames() {
	for _, at := range c.names {
		at.stop()
	}
	c.names = nil
}

// lookedUp hears that something else is known of a name of a cluster. No lock is held. Of many names that are looked up at
// once, one does for all.
func (s *Set) lookedUp(c *Cluster) {
	c.stale.Store(true)
	s.mu.Lock()
	defer s.tracker.unlock()
	if !s.closed && len(c.users) > 0 && c.stale.Load() {
		s.renewMembers(c)
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
