package cluster

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/framegate/framegate/resolver/dns"
	"github.com/framegate/framegate/resolver/spec"
)

// Exclusion says why an endpoint that is written down, or registered, gets no call.
type Exclusion string

// The exclusions.
const (
	ExcludedRefused    Exclusion = "refused"    // it may not be an endpoint: see EndpointState.Reason
	ExcludedUnresolved Exclusion = "unresolved" // it is a host name for which no address is known
)

// excluded is an endpoint that gets no call, whatever its health is.
type excluded struct {
	weighted
	as     Exclusion
	reason string
	more   int // it stands for so many addresses of its host name; 0 for one endpoint
}

// why returns the reason, for people.
func (b excluded) why() string {
	if b.more > 0 {
		return fmt.Sprintf("%d more addresses: %s", b.more, b.reason)
	}
	return b.reason
}

// written is an endpoint as it is written in a document or registered: an address, or a host name that has any number of
// addresses.
type written struct {
	weighted
	at  spec.Address
	err error // why the address cannot be parsed; nil as a rule, since documents are checked
}

// setMembers gives a cluster its endpoints as they are written.
func (s *Set) setMembers(c *Cluster, all []weighted) {
	c.written = make([]written, len(all))
	for i, w := range all {
		w.address = strings.TrimPrefix(w.address, spec.DNSPrefix)
		at, err := spec.ParseAddress(w.address)
		c.written[i] = written{w, at, err}
	}
	s.followNames(c)
	s.renewMembers(c)
}

// renewMembers makes the members of a cluster from its endpoints as they are written, with what is known now of their host
// names and of the addresses that the guard refuses.
func (s *Set) renewMembers(c *Cluster) {
	c.stale.Store(false)
	m := membership{members: make([]weighted, 0, len(c.written)), place: make(map[string]int, len(c.written)), registered: c.Service != ""}
	for _, w := range c.written {
		if s.names == nil || !w.at.IsName() {
			one, at := w.weighted, s.guard.narrowed(w.at, m.registered)
			if at != w.at {
				one.address, one.name = at.HostPort(), w.address
			}
			m.add(s.guard, one, at, w.err)
			continue
		}
		m.addName(s.guard, w, s.names.Known(w.at.Host))
	}
	if m.beyond != nil {
		m.excluded = append(m.excluded, *m.beyond)
	}
	came, gone := c.setMembers(m.members, s.tracker.unreachable)
	c.setExcluded(m.excluded)
	s.tracker.came(came)
	s.tracker.gone(gone)
}

// unresolved returns why a host name has no addresses, for people.
func unresolved(a dns.Answer) string {
	if a.Err != nil {
		return a.Err.Error()
	}
	return "not looked up yet"
}

// membership is the members of a cluster in the making.
type membership struct {
	members    []weighted
	place      map[string]int // by address: its index in members
	excluded   []excluded
	beyond     *excluded // the addresses beyond spec.MaxEndpoints; nil if there are none
	registered bool      // they are instances of a service
}

// maxRefused is how many refused addresses of a name are listed one by one.
const maxRefused = 10

// addName adds the addresses of a host name, up to spec.MaxEndpoints of the cluster.
func (m *membership) addName(guard *addressGuard, w written, a dns.Answer) {
	name := func(bar Exclusion, reason string, more int) excluded {
		return excluded{weighted{address: w.address, weight: w.weight, name: w.address}, bar, reason, more}
	}
	if len(a.Addresses) == 0 {
		m.excluded = append(m.excluded, name(ExcludedUnresolved, unresolved(a), 0))
		return
	}
	before, refused := len(m.excluded), 0
	for i, ip := range a.Addresses {
		if len(m.members) >= spec.MaxEndpoints {
			if m.beyond == nil {
				beyond := name(ExcludedRefused, fmt.Sprintf("a backend has at most %d endpoints", spec.MaxEndpoints), 0)
				m.beyond = &beyond
			}
			m.beyond.more += len(a.Addresses) - i + a.Omitted
			a.Omitted = 0
			break
		}
		at := spec.Address{IP: ip, Port: w.at.Port}
		one := weighted{address: at.HostPort(), weight: w.weight, name: w.address, node: w.node}
		var err error
		if !spec.Callable(ip) {
			err = fmt.Errorf("%s is the address of no host or of many", ip)
		}
		m.add(guard, one, at, err)
		if len(m.excluded) > before+maxRefused {
			m.excluded = m.excluded[:before+maxRefused]
			refused++
		}
	}
	if refused > 0 {
		m.excluded = append(m.excluded, name(ExcludedRefused, "refused too", refused))
	}
	if a.Omitted > 0 {
		m.excluded = append(m.excluded, name(ExcludedRefused, fmt.Sprintf("a name has at most %d endpoints", dns.MaxAddresses), a.Omitted))
	}
}

// add adds an endpoint to the members or, with an error or if the guard refuses it, to those that get no calls.
func (m *membership) add(guard *addressGuard, w weighted, at spec.Address, err error) {
	reason := ""
	if err != nil {
		reason = err.Error()
	} else {
		reason = guard.refusal(at, m.registered)
	}
	if reason != "" {
		m.excluded = append(m.excluded, excluded{w, ExcludedRefused, reason, 0})
		return
	}
	i, ok := m.place[w.address]
	switch {
	case !ok:
		m.place[w.address] = len(m.members)
		m.members = append(m.members, w)
	case m.registered: // several instances with one address
		m.members[i].weight = max(m.members[i].weight, w.weight)
	default: // endpoints that are listed twice
		m.members[i].weight += w.weight
	}
}

// setExcluded replaces the endpoints that get no calls, and logs the ones that are new. It does not log instances that are
// refused: refuse does, once for all clusters of their service.
func (c *Cluster) setExcluded(off []excluded) {
	c.mu.Lock()
	defer c.unlock()
	known := make(map[excluded]bool, len(c.excluded))
	for _, b := range c.excluded {
		b.more = 0
		known[b] = true
	}
	c.excluded = off
	for _, b := range off {
		more := b.more
		b.more = 0
		if b.as != ExcludedRefused || c.Service != "" && b.name == "" || known[b] {
			continue
		}
		args := []any{"endpoint", b.address, "reason", b.reason}
		if more > 0 {
			args = append(args, "addresses", more)
		}
		c.news = append(c.news, news{c.log.Warn, "endpoint refused: it gets no calls", args})
	}
}

// refuse notes which instances of a service the guard refuses, and logs the ones that are new.
func (s *Set) refuse(name string, sv *service) {
	before := sv.refused
	sv.refused = nil
	for _, in := range sv.instances {
		a, err := spec.ParseAddress(in.Address)
		if err != nil {
			continue // instances are valid
		}
		reason := s.guard.refusal(a, true)
		if reason == "" {
			continue
		}
		if sv.refused == nil {
			sv.refused = map[string]string{}
		}
		sv.refused[in.Address] = reason
		if before[in.Address] != reason {
			s.log.Warn("instance refused: it gets no calls", "service", name, "address", in.Address, "reason", reason)
		}
	}
}

// recheck has the guard judge every endpoint again.
func (s *Set) recheck() {
	s.guard.changed = false
	for _, name := range slices.Sorted(maps.Keys(s.services)) {
		s.refuse(name, s.services[name])
	}
	for _, c := range s.byKey {
		s.renewMembers(c)
	}
}

// recheckInterval is how often the machine is asked for its addresses: an address may move here without any other change.
const recheckInterval = time.Minute

// recheckLater begins to check every recheckEvery whether the addresses of this machine have changed, and to recheck if so.
// It does nothing if they do not matter.
func (s *Set) recheckLater() {
	if s.rechecks != nil || !s.guard.isEverywhere() {
		return
	}
	s.rechecks = time.AfterFunc(s.recheckEvery, func() {
		s.mu.Lock()
		defer s.tracker.unlock()
		if s.closed {
			return
		}
		if s.guard.ask(); s.guard.changed {
			s.recheck()
		}
		s.rechecks.Reset(s.recheckEvery)
	})
}

// setReachable notes in all clusters that no connection could be made to an address, and why, or with nil that one was made,
// and logs what changes by that.
func (s *Set) setReachable(address string, err error) {
	p := s.tracker
	if s.closed || p.clusters[address] == 0 || err == nil && p.unreachable[address] == nil {
		return
	}
	if delete(p.unreachable, address); err != nil {
		p.unreachable[address] = err
	}
	told := map[string]int{} // how many clusters logged a line, by its text
	var last news
	for _, c := range s.byKey {
		for _, n := range c.setReachable(address, err) {
			if last = n; told[n.text] < maxReachLines {
				n.log(n.text, append(n.args, c.args()...)...)
			}
			told[n.text]++
		}
	}
	if more := told[last.text] - maxReachLines; more > 0 { // one change of one address gives all clusters the same text
		last.log(last.text+": so it is of further services and backends", "endpoint", address, "further", more)
	}
}

// maxReachLines is how many clusters are named in the log when an address that they share is lost, or is back.
const maxReachLines = 10

// setReachable does Set.setReachable for one cluster, which need not have the address. The set's mu is held. It returns what
// is to be logged.
func (c *Cluster) setReachable(address string, err error) (all []news) {
	c.mu.Lock()
	defer c.mu.Unlock()
	i, ok := slices.BinarySearchFunc(c.members, address, func(m *member, address string) int { return strings.Compare(m.host.Address(), address) })
	if ok {
		c.members[i].unreachable = err
		c.countLocked(time.Now())
	}
	all, c.news = c.news, nil
	return all
}

// countLocked counts the endpoints that work as far as is known, and adds to the news when the cluster loses the last one and
// when it has one again.
func (c *Cluster) countLocked(now time.Time) {
	if c.closed {
		return
	}
	var taking, working, unhealthy, ejected, unreachable int
	for _, m := range c.members {
		if m.weight == 0 {
			continue
		}
		taking++
		switch {
		case !m.check.Healthy:
			unhealthy++
		case !m.usable:
			ejected++
		case m.unreachable != nil:
			unreachable++
		default:
			working++
		}
	}
	switch {
	case working > 0 && !c.lost.IsZero():
		c.news = append(c.news, news{c.log.Info, "an endpoint is usable again", []any{"usable", working, "of", taking, "lost_for", now.Sub(c.lost).Round(time.Millisecond)}})
		c.lost = time.Time{}
	case working == 0 && c.had && c.lost.IsZero():
		c.news = append(c.news, news{c.log.Warn, "the last usable endpoint is lost", []any{"endpoints", taking, "unhealthy", unhealthy, "ejected", ejected, "unreachable", unreachable}})
		c.lost = now
	}
	c.had = c.had || working > 0
}
