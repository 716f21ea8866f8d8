package cluster

import (
	"slices"
	"strings"
	"time"
)

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
