package resolver

import (
	"slices"
	"strings"
	"time"
)

// SetReachable says that no connection can be made to an endpoint, and why, or that one was made: with nil. Calls go by it
// no further than the pool lets them; it is for people: see EndpointState.Unreachable.
func (r *Resolver) SetReachable(address string, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.groups.setReachable(address, err)
}

func (s *groups) setReachable(address string, err error) {
	p := s.presence
	if s.closed || p.groups[address] == 0 || err == nil && p.unreachable[address] == nil {
		return
	}
	if delete(p.unreachable, address); err != nil {
		p.unreachable[address] = err
	}
	for _, g := range s.byKey {
		g.setReachable(address, err)
	}
}

// setReachable is for any address; the Resolver's mu is held.
func (g *group) setReachable(address string, err error) {
	g.mu.Lock()
	defer g.unlock()
	i, ok := slices.BinarySearchFunc(g.members, address, func(m *member, address string) int { return strings.Compare(m.host.Address(), address) })
	if ok {
		g.members[i].unreachable = err
		g.countLocked(time.Now())
	}
}

// countLocked notes in the log when the group loses its last endpoint that works as far as is known, and when it has one
// again.
func (g *group) countLocked(now time.Time) {
	if g.closed {
		return
	}
	var taking, working, unhealthy, ejected, unreachable int
	for _, m := range g.members {
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
	case working > 0 && !g.lost.IsZero():
		g.news = append(g.news, news{g.log.Info, "an endpoint is usable again", []any{"usable", working, "of", taking, "lost_for", now.Sub(g.lost).Round(time.Millisecond)}})
		g.lost = time.Time{}
	case working == 0 && g.had && g.lost.IsZero():
		g.news = append(g.news, news{g.log.Warn, "the last usable endpoint is lost", []any{"endpoints", taking, "unhealthy", unhealthy, "ejected", ejected, "unreachable", unreachable}})
		g.lost = now
	}
	g.had = g.had || working > 0
}
