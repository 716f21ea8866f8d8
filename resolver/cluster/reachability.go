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
	told := map[string]int{} // clusters, by the text of their line
	var last news
	for _, c := range s.byKey {
		for _, n := range c.setReachable(address, err) {
			if last = n; told[n.text] < maxReachLines {
				n.log(n.text, append(n.args, c.args()...)...)
			}
			told[n.text]++
		}
	}
	if more := told[last.text] - maxReachLines; more > 0 { // an address does one thing to all
		last.log(last.text+": so it is of further services and backends", "endpoint", address, "further", more)
	}
}

// maxReachLines is how many clusters are named in the log when one address is lost, or is back, that all of them have.
const maxReachLines = 10

// setReachable is for any address; the set's mu is held. It returns what the log is to be told.
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

// countLocked notes in the log when the cluster loses its last endpoint that works as far as is known, and when it has one
// again.
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
