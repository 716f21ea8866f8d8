package admin

import (
	"slices"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// labelledCounters are counters of one route and backend that differ in a further label, which has few values. A counter is
// made when its value first occurs; later look-ups take no lock.
type labelledCounters struct {
	vec            *prometheus.CounterVec
	route, backend string
	mu             sync.Mutex // held to replace all
	all            atomic.Pointer[[]labelledCounter]
}

type labelledCounter struct {
	value string
	prometheus.Counter
}

func newLabelledCounters(vec *prometheus.CounterVec, route, backend string) *labelledCounters {
	c := &labelledCounters{vec: vec, route: route, backend: backend}
	c.all.Store(new([]labelledCounter))
	return c
}

// of returns the counter with that value of the label.
func (c *labelledCounters) of(value string) prometheus.Counter {
	if found := c.find(value); found != nil {
		return found
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if found := c.find(value); found != nil {
		return found
	}
	made := c.vec.WithLabelValues(c.route, c.backend, value)
	all := append(slices.Clone(*c.all.Load()), labelledCounter{value, made})
	c.all.Store(&all)
	return made
}

func (c *labelledCounters) find(value string) prometheus.Counter {
	for _, l := range *c.all.Load() {
		if l.value == value {
			return l.Counter
		}
	}
	return nil
}

// drop deletes the counters that of has made. No call may use them any more.
func (c *labelledCounters) drop() {
	for _, l := range *c.all.Load() {
		c.vec.DeleteLabelValues(c.route, c.backend, l.value)
	}
}
