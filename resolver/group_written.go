package resolver

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/framegate/framegate/resolver/dns"
)

// Bar says why an endpoint that is written down, or registered, gets no call.
type Bar string

// The bars.
const (
	BarRefused    Bar = "refused"    // it may not be an endpoint: see EndpointState.Reason
	BarUnresolved Bar = "unresolved" // it is a name without an address, as far as is known
)

// barred is an endpoint that gets no call, whatever its health is.
type barred struct {
	weighted
	bar    Bar
	reason string
	more   int // if it stands for that many addresses of its name
}

// why is the reason, for people.
func (b barred) why() string {
	if b.more > 0 {
		return fmt.Sprintf("%d more addresses: %s", b.more, b.reason)
	}
	return b.reason
}

// written is an endpoint as it is written or registered: an address, or a name that stands for any number of them.
type written struct {
	weighted
	at  address
	err error // what is wrong with it; nil as a rule, since documents are checked
}

// setMembers gives a group its endpoints as they are written.
func (s *groups) setMembers(g *group, all []weighted) {
	g.written = make([]written, len(all))
	for i, w := range all {
		w.address = strings.TrimPrefix(w.address, dnsPrefix)
		at, err := parseAddress(w.address)
		g.written[i] = written{w, at, err}
	}
	s.followNames(g)
	s.renewMembers(g)
}

// renewMembers makes the members of a group from what is written, as it is now.
func (s *groups) renewMembers(g *group) {
	g.stale.Store(false)
	m := membership{members: make([]weighted, 0, len(g.written)), place: make(map[string]int, len(g.written)), registered: g.Service != ""}
	for _, w := range g.written {
		if s.names == nil || !w.at.isName() {
			one, at := w.weighted, s.guard.narrowed(w.at, m.registered)
			if at != w.at {
				one.address, one.name = at.hostPort(), w.address
			}
			m.add(s.guard, one, at, w.err)
			continue
		}
		m.addName(s.guard, w, s.names.Known(w.at.host))
	}
	if m.beyond != nil {
		m.barred = append(m.barred, *m.beyond)
	}
	came, gone := g.setMembers(m.members, s.presence.unreachable)
	g.setBarred(m.barred)
	s.presence.came(came)
	s.presence.gone(gone)
}

func unresolved(a dns.Answer) string {
	if a.Err != nil {
		return a.Err.Error()
	}
	return "not looked up yet"
}

// membership is the members of a group in the making.
type membership struct {
	members    []weighted
	place      map[string]int // of an address in members
	barred     []barred
	beyond     *barred // those that would be too many; nil if none would
	registered bool    // they are instances of a service
}

// mostRefused is how many addresses of a name that are refused are told one by one.
const mostRefused = 10

// addName adds the addresses of a name, but what is more than a group has endpoints.
func (m *membership) addName(guard *addressGuard, w written, a dns.Answer) {
	name := func(bar Bar, reason string, more int) barred {
		return barred{weighted{w.address, w.weight, w.address}, bar, reason, more}
	}
	if len(a.Addresses) == 0 {
		m.barred = append(m.barred, name(BarUnresolved, unresolved(a), 0))
		return
	}
	before, refused := len(m.barred), 0
	for i, ip := range a.Addresses {
		if len(m.members) >= maxEndpoints {
			if m.beyond == nil {
				beyond := name(BarRefused, fmt.Sprintf("a backend has at most %d endpoints", maxEndpoints), 0)
				m.beyond = &beyond
			}
			m.beyond.more += len(a.Addresses) - i + a.Omitted
			a.Omitted = 0
			break
		}
		at := address{ip: ip, port: w.at.port}
		one := weighted{at.hostPort(), w.weight, w.address}
		var err error
		if !callable(ip) {
			err = fmt.Errorf("%s is the address of no host or of many", ip)
		}
		m.add(guard, one, at, err)
		if len(m.barred) > before+mostRefused {
			m.barred = m.barred[:before+mostRefused]
			refused++
		}
	}
	if refused > 0 {
		m.barred = append(m.barred, name(BarRefused, "refused too", refused))
	}
	if a.Omitted > 0 {
		m.barred = append(m.barred, name(BarRefused, fmt.Sprintf("a name has at most %d endpoints", dns.MostAddresses), a.Omitted))
	}
}

// add adds an endpoint to the members or, with an error or if the guard refuses it, to those that get no calls.
func (m *membership) add(guard *addressGuard, w weighted, at address, err error) {
	reason := ""
	if err != nil {
		reason = err.Error()
	} else {
		reason = guard.refusal(at, m.registered)
	}
	if reason != "" {
		m.barred = append(m.barred, barred{w, BarRefused, reason, 0})
		return
	}
	i, ok := m.place[w.address]
	switch {
	case !ok:
		m.place[w.address] = len(m.members)
		m.members = append(m.members, w)
	case m.registered: // as instances of one address
		m.members[i].weight = max(m.members[i].weight, w.weight)
	default: // as endpoints that are listed twice
		m.members[i].weight += w.weight
	}
}

// setBarred notes what gets no calls, and tells the log of what is new; instances that are refused are told of once for
// all groups of their service, see refuse.
func (g *group) setBarred(off []barred) {
	g.mu.Lock()
	defer g.unlock()
	known := make(map[barred]bool, len(g.barred))
	for _, b := range g.barred {
		b.more = 0
		known[b] = true
	}
	g.barred = off
	for _, b := range off {
		more := b.more
		b.more = 0
		if b.bar != BarRefused || g.Service != "" && b.name == "" || known[b] {
			continue
		}
		args := []any{"endpoint", b.address, "reason", b.reason}
		if more > 0 {
			args = append(args, "addresses", more)
		}
		g.news = append(g.news, news{g.log.Warn, "endpoint refused: it gets no calls", args})
	}
}

// refuse notes which instances of a service the guard refuses, and tells the log of those that are new.
func (s *groups) refuse(name string, sv *service) {
	before := sv.refused
	sv.refused = nil
	for _, in := range sv.instances {
		a, err := parseAddress(in.Address)
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

// recheck asks the guard again about every endpoint.
func (s *groups) recheck() {
	s.guard.changed = false
	for _, name := range slices.Sorted(maps.Keys(s.services)) {
		s.refuse(name, s.services[name])
	}
	for _, g := range s.byKey {
		s.renewMembers(g)
	}
}

// recheckInterval is how often the machine is asked for its addresses though nothing else changes: one may have moved here.
const recheckInterval = time.Minute

// recheckLater has the guard asked again, and again, if what it says may change by itself.
func (s *groups) recheckLater() {
	if s.rechecks != nil || !s.guard.isEverywhere() {
		return
	}
	s.rechecks = time.AfterFunc(s.recheckEvery, func() {
		s.mu.Lock()
		defer s.presence.unlock()
		if s.closed {
			return
		}
		if s.guard.ask(); s.guard.changed {
			s.recheck()
		}
		s.rechecks.Reset(s.recheckEvery)
	})
}
