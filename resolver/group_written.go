package resolver

import (
	"maps"
	"net"
	"slices"
)

// Bar says why an endpoint that is written down, or registered, gets no call.
type Bar string

// The bars.
const (
	BarRefused Bar = "refused" // it may not be an endpoint: see EndpointState.Reason
)

// barred is an endpoint that gets no call, whatever its health is.
type barred struct {
	weighted
	bar    Bar
	reason string
}

// setMembers gives a group its endpoints as they are written.
func (s *groups) setMembers(g *group, written []weighted) {
	g.written = written
	s.renewMembers(g)
}

// renewMembers makes the members of a group from what is written, as it is now.
func (s *groups) renewMembers(g *group) {
	members := make([]weighted, 0, len(g.written))
	var off []barred
	for _, w := range g.written {
		a, err := parseAddress(w.address)
		if err != nil {
			off = append(off, barred{w, BarRefused, err.Error()})
		} else if reason := s.guard.refusal(a, g.Service != ""); reason != "" {
			off = append(off, barred{w, BarRefused, reason})
		} else {
			members = append(members, w)
		}
	}
	came, gone := g.setMembers(members, s.presence.unreachable)
	g.setBarred(off)
	s.presence.came(came)
	s.presence.gone(gone)
}

// setBarred notes what gets no calls, and tells the log of what is new; instances that are refused are told of once for
// all groups of their service, see refuse.
func (g *group) setBarred(off []barred) {
	g.mu.Lock()
	defer g.unlock()
	before := g.barred
	g.barred = off
	for _, b := range off {
		if g.Service == "" && !slices.Contains(before, b) {
			g.news = append(g.news, news{g.log.Warn, "endpoint refused: it gets no calls", []any{"endpoint", b.address, "reason", b.reason}})
		}
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
	for _, name := range slices.Sorted(maps.Keys(s.services)) {
		s.refuse(name, s.services[name])
	}
	for _, g := range s.byKey {
		s.renewMembers(g)
	}
}

// Own tells that this process listens at an address: it is an endpoint no more, whatever names it. what says for people
// who listens there, such as "listener main". It may be called at any time, and should be before anybody can connect.
func (r *Resolver) Own(what string, addr net.Addr) {
	r.mu.Lock()
	defer r.groups.presence.unlock()
	if r.groups.guard.add(what, addr) && !r.groups.closed {
		r.groups.recheck()
	}
}

// SetAllow says at which addresses instances of services may be; without it they may be at any. It may be called at any
// time.
func (r *Resolver) SetAllow(allow Allow) {
	r.mu.Lock()
	defer r.groups.presence.unlock()
	r.groups.guard.allow = &allow
	if !r.groups.closed {
		r.groups.recheck()
	}
}

// Refused returns the addresses of the registered instances that get no calls, with the reason, by service.
func (r *Resolver) Refused() map[string]map[string]string {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := map[string]map[string]string{}
	for name, s := range r.groups.services {
		if len(s.refused) > 0 {
			all[name] = maps.Clone(s.refused)
		}
	}
	return all
}
