package cluster

import (
	"slices"
	"strings"
	"time"
)

func (s *Set) setReachable(address string, err error) {
	p := s.tracker
	if s.closed || p.clusters[address] == 0 || err == nil && p.unreachable[address] == nil {
		return
	}
	if delete(p.unreachable, address); err != nil {
		p.unreachable[address] = err
	}
	told := map[string]int{} // groups, by the text of their line
	var last news
	for _, g := range s.byKey {
		for _, n := range g.setReachable(address, err) {
			if last = n; told[n.text] < mostReachLines {
				n.log(n.text, append(n.args, g.args()...)...)
			}
			told[n.text]++
		}
	}
	if more := told[last.text] - mostReachLines; more > 0 { // an address does one thing to all
		last.log(last.text+": so it is of further services and backends", "endpoint", address, "further", more)
	}
}

// mostReachLines is how many groups are named in the log when one address is lost, or is back, that all of them have.
const mostReachLines = 10

// setReachable is for any address; the Resolver's mu is held. It returns what the log is to be told.
func (g *Cluster) setReachable(address string, err error) (all []news) {
	g.mu.Lock()
	defer g.mu.Unlock()
	i, ok := slices.BinarySearchFunc(g.members, address, func(m *member, address string) int { return strings.Compare(m.host.Address(), address) })
	if ok {
		g.members[i].unreachable = err
		g.countLocked(time.Now())
	}
	all, g.news = g.news, nil
	return all
}

// countLocked notes in the log when the group loses its last endpoint that works as far as is known, and when it has one
// again.
func (g *Cluster) countLocked(now time.Time) {
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
