package cluster

import (
	"cmp"
	"log/slog"
	"maps"
	"net"
	"slices"
	"time"

	"github.com/framegate/framegate/resolver/dns"
	"github.com/framegate/framegate/resolver/health"
	"github.com/framegate/framegate/resolver/spec"
)

// SetLog gives the log of endpoints that become unhealthy, are ejected and come back; without it they are not logged. It is
// called before the first route is applied.
func (s *Set) SetLog(log *slog.Logger) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.checker, s.log, s.guard.log = health.NewChecker(log), log, log
}

// SetEndpointHooks gives the functions to call when endpoints leave. It is called before the first route is applied.
func (s *Set) SetEndpointHooks(d EndpointHooks) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tracker.hooks = d
}

// SetGrace changes EndpointHooks.Grace, for endpoints that leave from now on. It may be called at any time.
func (s *Set) SetGrace(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tracker.hooks.Grace = d
}

// SetNames gives the Names that look up the host names of endpoints. Without it a host name is one endpoint, which the
// connection's dialer looks up. Close closes names, too. SetNames is called before the first route is applied.
func (s *Set) SetNames(names *dns.Names) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.names = names
}

// Close ends health checks, look-ups and timers, and waits for those under way and for hooks. Endpoints stay as they are
// then. It may be called more than once.
func (s *Set) Close() {
	s.mu.Lock()
	s.close()
	s.mu.Unlock()
	s.tracker.telling.Wait()
	s.checker.Close()
	if s.names != nil {
		s.names.Close()
	}
}

// Use is a change of the clusters that routes use. Acquire and Release are parts of it.
type Use struct{ set *Set }

// Begin begins a change, and holds the set's lock until the caller calls its End. It returns nil if the set is closed.
func (s *Set) Begin() *Use {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	return &Use{s}
}

// End ends a change, and calls the EndpointHooks for endpoints that have left by it.
func (u *Use) End() { u.set.tracker.unlock() }

// SetInstances replaces the instances of a service; an empty slice means that it has none. Of several instances with one
// address, the one with the greatest weight counts. The instances must be valid (ParseInstance) and not be changed
// afterwards.
func (s *Set) SetInstances(service string, instances []spec.Instance) {
	sorted := slices.SortedFunc(slices.Values(instances), func(a, b spec.Instance) int {
		return cmp.Or(cmp.Compare(a.Address, b.Address), cmp.Compare(b.Weight, a.Weight))
	})
	sorted = slices.CompactFunc(sorted, func(a, b spec.Instance) bool { return a.Address == b.Address })
	if use := s.Begin(); use != nil {
		defer use.End()
		s.setInstances(service, sorted)
	}
}

// Instances returns the instances of every service that has any. The caller must not change them.
func (s *Set) Instances() map[string][]spec.Instance {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make(map[string][]spec.Instance, len(s.services))
	for name, sv := range s.services {
		if len(sv.instances) > 0 {
			all[name] = sv.instances
		}
	}
	return all
}

// Own notes that this process listens at an address, which gets no calls as an endpoint from then on. what names the listener
// for people, such as "listener main". Own may be called at any time, and should be called before clients can connect.
func (s *Set) Own(what string, addr net.Addr) {
	s.mu.Lock()
	defer s.tracker.unlock()
	if s.guard.add(what, addr) && !s.closed {
		s.recheck()
		s.recheckLater()
	}
}

// SetAllow changes the addresses at which instances of services may be; without it they may be at any. It may be called at
// any time.
func (s *Set) SetAllow(allow Allow) {
	s.mu.Lock()
	defer s.tracker.unlock()
	s.guard.allow = &allow
	if !s.closed {
		s.recheck()
	}
}

// Refusal returns why an instance at an address gets no calls; "" if it may get some.
func (s *Set) Refusal(addr string) string {
	a, err := spec.ParseAddress(addr)
	if err != nil {
		return err.Error()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.guard.refusal(a, true)
}

// Refused returns the registered instances that get no calls: by service and address, the reason.
func (s *Set) Refused() map[string]map[string]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := map[string]map[string]string{}
	for name, sv := range s.services {
		if len(sv.refused) > 0 {
			all[name] = maps.Clone(sv.refused)
		}
	}
	return all
}

// SetReachable notes that no connection could be made to an endpoint, and why, or with nil that one was made. It is for
// people, see EndpointState.Unreachable; calls still try the endpoint, as far as the pool lets them.
func (s *Set) SetReachable(address string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.setReachable(address, err)
}

// Endpoints returns what is known of the endpoints of all routes in force, sorted by cluster and address.
func (s *Set) Endpoints() []EndpointState {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []EndpointState
	for _, c := range s.byKey {
		all = c.appendEndpoints(all)
	}
	if s.names != nil {
		s.addLookupErrors(all)
	}
	slices.SortStableFunc(all, func(a, b EndpointState) int {
		return cmp.Or(a.ID.Compare(b.ID), cmp.Compare(a.Address, b.Address))
	})
	return all
}

// Names returns the Names that look up host names, nil if there are none, and the host names among addresses, each once.
func (s *Set) Names(addresses []string) (names *dns.Names, hosts []string) {
	s.mu.Lock()
	names = s.names
	s.mu.Unlock()
	if names == nil {
		return nil, nil
	}
	for _, a := range addresses {
		if at, err := spec.ParseAddress(a); err == nil && at.IsName() {
			hosts = append(hosts, at.Host)
		}
	}
	slices.Sort(hosts)
	return names, slices.Compact(hosts)
}

// Lookups counts the look-ups of names: how many gave addresses, how many said that there are none, and how many failed.
func (s *Set) Lookups() (answered, absent, failed uint64) {
	names, _ := s.Names(nil)
	if names == nil {
		return 0, 0, 0
	}
	return names.Counts()
}

// NamesWait bounds how long routes and instances wait for their host names to be looked up.
const NamesWait = time.Second

// AwaitNames returns when the host names among addresses were looked up, or after NamesWait. It is called before routes or
// instances with these addresses come into force, so that their first calls find endpoints. The caller calls release once
// they are in force; until then the answers are kept.
func (s *Set) AwaitNames(addresses []string) (release func()) {
	names, hosts := s.Names(addresses)
	if len(hosts) == 0 {
		return func() {}
	}
	return names.Await(hosts, NamesWait)
}
