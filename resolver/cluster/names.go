package cluster

import (
	"github.com/framegate/framegate/resolver/dns"
	"github.com/framegate/framegate/resolver/spec"
)

// nameSubscription is a cluster's subscription to a host name.
type nameSubscription struct {
	cfg  dns.Config
	stop func()
}

// followNames makes the cluster's subscriptions those to the host names among its endpoints. The addresses of a name become
// members once they are known.
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
			c.names = map[string]nameSubscription{}
		}
		at, ok := before[host]
		if !ok || at.cfg != c.settings.dns {
			at = nameSubscription{c.settings.dns, s.names.Subscribe(host, c.settings.dns.WithDefaults().Refresh, func() { s.lookedUp(c) })}
		} else {
			delete(before, host)
		}
		c.names[host] = at
	}
	for _, at := range before { // after the new ones: the answers for a name are forgotten with its last subscriber
		at.stop()
	}
}

// lookedUp is called, without a lock, when the answer for a host name of a cluster has changed. If several names have changed
// by the time that it gets the lock, the first call renews the members for all of them.
func (s *Set) lookedUp(c *Cluster) {
	c.stale.Store(true)
	s.mu.Lock()
	defer s.tracker.unlock()
	if !s.closed && len(c.users) > 0 && c.stale.Load() {
		s.renewMembers(c)
	}
}

// addLookupErrors sets LookupError in the states of endpoints that have a Name.
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
