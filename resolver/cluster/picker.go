package cluster

import (
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/framegate/framegate/resolver/balance"
	"github.com/framegate/framegate/resolver/spec"
)

// pickerKey is a way to balance.
type pickerKey struct {
	policy    balance.Policy
	slowStart time.Duration
}

// picker chooses among the endpoints of a cluster in one way. A picker that no route in force uses any more gets no new
// choices; calls under way may still use the one that it has.
type picker struct {
	cluster *Cluster
	key     pickerKey
	refs    int // backends of routes in force that use it; guarded by the cluster's mu
	current atomic.Pointer[choice]
}

// choice is the state of a cluster that a picker chooses from. It is immutable, except for the counters of package balance and
// what is made when it is first asked for.
type choice struct {
	balance.Picker
	usable bool            // there is an endpoint to choose
	panic  bool            // calls go to all endpoints, because too few are usable
	spares []*balance.Host // ejected endpoints that are healthy as far as is known: see Target.Pick
	all    []Endpoint      // those with a weight, by address

	index  sync.Once // sets byName
	byName map[string]Endpoint
}

// spare returns a spare that is not in tried, or nil.
func (c *choice) spare(tried []*balance.Host) *balance.Host {
	if len(c.spares) == 0 {
		return nil
	}
	first := rand.IntN(len(c.spares))
	for i := range c.spares {
		if h := c.spares[(first+i)%len(c.spares)]; !slices.Contains(tried, h) {
			return h
		}
	}
	return nil
}

// trialShare is the part of its weight that an endpoint on trial has, so that few calls fail if it still fails.
const trialShare = 1.0 / 20

// rampSteps is the number of steps in which the weight of an endpoint grows in its slow start.
const (
	rampSteps = 20
)

// picker returns the picker of a way to balance, which it makes if there is none. Each call has one dropPicker.
func (c *Cluster) picker(k pickerKey) *picker {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.pickers[k]
	if p == nil {
		now := time.Now()
		p = &picker{cluster: c, key: k}
		c.pickers[k] = p
		p.renewLocked(now)
		c.rampLocked(now)
	}
	p.refs++
	return p
}

// dropPicker ends one use of a picker.
func (c *Cluster) dropPicker(p *picker) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if p.refs--; p.refs == 0 {
		delete(c.pickers, p.key)
	}
}

// rampLocked sets the timer for the next step of slow starts, if any is under way.
func (c *Cluster) rampLocked(now time.Time) {
	if c.ramp != nil {
		c.ramp.Stop()
		c.ramp = nil
	}
	var step time.Duration
	for k := range c.pickers {
		for _, m := range c.members {
			if now.Sub(m.since) < k.slowStart && (step == 0 || k.slowStart/rampSteps < step) {
				step = k.slowStart / rampSteps
			}
		}
	}
	if step > 0 {
		c.ramp = time.AfterFunc(max(step, spec.MinSlowStartStep), c.update)
	}
}

// renewLocked gives the picker a new choice, from the state of the members. The cluster's mu is held.
func (p *picker) renewLocked(now time.Time) {
	c := p.cluster
	members := make([]balance.Member, 0, len(c.members))
	next := &choice{panic: c.panicked, all: make([]Endpoint, 0, len(c.members))}
	for _, m := range c.members {
		up := m.usable || c.panicked
		next.usable = next.usable || up && m.weight > 0
		if !up && m.check.Healthy && m.weight > 0 {
			next.spares = append(next.spares, m.host)
		}
		members = append(members, balance.Member{Host: m.host, Weight: p.weight(m, now), Down: !up})
		if m.weight > 0 {
			next.all = append(next.all, Endpoint{p, m, up})
		}
	}
	var before balance.Picker
	if choice := p.current.Load(); choice != nil {
		before = choice.Picker
	}
	next.Picker = balance.New(p.key.policy, members, before)
	p.current.Store(next)
}

// weight returns the weight that a member has now. The cluster's mu is held.
func (p *picker) weight(m *member, now time.Time) float64 {
	weight := float64(m.weight)
	if age := now.Sub(m.since); age < p.key.slowStart {
		weight = balance.Ramp(weight, age, p.key.slowStart)
	}
	// In panic an endpoint on trial gets its whole weight, or the few others would get nearly all calls. With consistent_hash it
	// does too, because another weight would move keys.
	if m.trial.Load() && !p.cluster.panicked && p.key.policy.Kind != balance.ConsistentHash {
		weight *= trialShare
	}
	return weight
}
