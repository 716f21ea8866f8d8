package resolver

import (
	"cmp"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/framegate/framegate/resolver/balance"
	"github.com/framegate/framegate/resolver/eject"
	"github.com/framegate/framegate/resolver/health"
)

// group is the endpoints of a backend at work: which there are, with what weight, and which of them may be used. Backends
// that say the same of one service share a group; those with endpoints of their own have one each, which stays while the
// route's document changes. Its pickers, one for each way to balance, are what calls read.
//
//	health check ──┐
//	ejection ──────┼─> update ─> a new choice in every picker
//	members, ramp ─┘
type group struct {
	key     string
	name    GroupName
	checker *health.Checker

	// guarded by the Resolver's mu
	refs    int // backends of routes in force that use it
	ejector *eject.Detector

	panics atomic.Uint64 // calls that were balanced in panic

	mu       sync.Mutex // guards the fields below; spec and members are changed with the Resolver's mu held, too
	spec     spec
	members  []*member // by address
	pickers  map[pickerKey]*picker
	panicked bool
	ramp     *time.Timer // the next step of slow starts; nil while there is none
	closed   bool
}

// spec is what of a backend makes its group.
type spec struct {
	service string
	tags    map[string]string
	health  *health.Config
	eject   eject.Config
	panicAt int // see Backend.PanicPercent
}

// member is an endpoint of a group.
type member struct {
	host   *balance.Host
	weight int

	ejection atomic.Pointer[eject.Member]
	trial    atomic.Bool // it is back from an ejection and has not proved itself: it gets few calls

	// guarded by the group's mu
	check   health.Status // the last state; healthy while it is not known
	usable  bool
	since   time.Time // when it became usable after it was not, or was not there; zero if it always was
	unwatch func()    // ends the health checks; nil if there are none
}

func (m *member) ejected() bool {
	e := m.ejection.Load()
	return e != nil && e.Ejected()
}

// weighted is an address and its weight.
type weighted struct {
	address string
	weight  int
}

// pickerKey is a way to balance.
type pickerKey struct {
	policy    balance.Policy
	slowStart time.Duration
}

// picker chooses among the endpoints of a group in one way.
type picker struct {
	group   *group
	key     pickerKey
	refs    int // guarded by the group's mu
	current atomic.Pointer[choice]
}

// choice is what a picker chooses from. It is immutable but for what balance counts.
type choice struct {
	balance.Picker
	members map[*balance.Host]*member
	some    bool // there is an endpoint that may be used
	panicky bool // all are used, since too few may be
}

const defaultPanicPercent = 50

func newGroup(checker *health.Checker) *group {
	return &group{checker: checker, pickers: map[pickerKey]*picker{}}
}

// configure puts what a backend says of its endpoints in force, but for which they are.
func (g *group) configure(s spec) {
	g.mu.Lock()
	old := g.spec
	if g.ejector != nil && old.eject == s.eject && old.panicAt == s.panicAt && sameHealth(old.health, s.health) {
		g.mu.Unlock()
		return
	}
	g.spec = s
	if !sameHealth(old.health, s.health) {
		for _, m := range g.members {
			g.unwatchLocked(m)
			g.watchLocked(m)
		}
	}
	g.mu.Unlock()
	if before := g.ejector; before == nil || old.eject != s.eject {
		g.ejector = eject.New(s.eject, g.update)
		g.setEjection()
		if before != nil {
			before.Close()
		}
	}
	g.update()
}

func sameHealth(a, b *health.Config) bool { return a == b || a != nil && b != nil && *a == *b }

// setMembers replaces the endpoints; no address is there twice. It returns the addresses that came and those that have gone.
func (g *group) setMembers(all []weighted) (came, gone []string) {
	g.mu.Lock()
	if g.hasLocked(all) {
		g.mu.Unlock()
		return nil, nil
	}
	first := g.members == nil
	old := map[string]*member{}
	for _, m := range g.members {
		old[m.host.Address()] = m
	}
	members := make([]*member, 0, len(all))
	for _, w := range all {
		if w.weight <= 0 {
			continue
		}
		m := old[w.address]
		if m == nil {
			m = &member{check: health.Status{Healthy: true}, usable: true}
			m.host = balance.NewHost(w.address)
			if !first {
				m.since = time.Now()
			}
			g.watchLocked(m)
			came = append(came, w.address)
		}
		delete(old, w.address)
		m.weight = w.weight
		members = append(members, m)
	}
	for address, m := range old {
		g.unwatchLocked(m)
		gone = append(gone, address)
	}
	slices.SortFunc(members, func(a, b *member) int { return cmp.Compare(a.host.Address(), b.host.Address()) })
	g.members = members
	g.mu.Unlock()
	g.setEjection()
	g.update()
	return came, gone
}

// hasLocked reports whether the members are these.
func (g *group) hasLocked(all []weighted) bool {
	if len(all) != len(g.members) || g.members == nil {
		return false
	}
	for _, w := range all {
		i, ok := slices.BinarySearchFunc(g.members, w.address, func(m *member, address string) int { return cmp.Compare(m.host.Address(), address) })
		if !ok || g.members[i].weight != w.weight {
			return false
		}
	}
	return true
}

// setEjection tells the detector which members there are. It may call update.
func (g *group) setEjection() {
	addresses := make([]string, len(g.members))
	for i, m := range g.members {
		addresses[i] = m.host.Address()
	}
	g.ejector.SetMembers(addresses)
	for _, m := range g.members {
		m.ejection.Store(g.ejector.Member(m.host.Address()))
	}
}

func (g *group) watchLocked(m *member) {
	if g.spec.health == nil {
		m.check = health.Status{Healthy: true}
		return
	}
	m.unwatch = g.checker.Watch(m.host.Address(), *g.spec.health, func(s health.Status) {
		g.mu.Lock()
		m.check = s
		g.mu.Unlock()
		g.update()
	})
}

func (g *group) unwatchLocked(m *member) {
	if m.unwatch != nil {
		m.unwatch()
		m.unwatch = nil
	}
}

// picker returns the picker of a way to balance, which it makes if need be.
func (g *group) picker(k pickerKey) *picker {
	g.mu.Lock()
	defer g.mu.Unlock()
	p := g.pickers[k]
	if p == nil {
		p = &picker{group: g, key: k}
		g.pickers[k] = p
		p.current.Store(&choice{})
		p.renewLocked(time.Now())
		g.rampLocked(time.Now())
	}
	p.refs++
	return p
}

// dropPicker ends one use of a picker.
func (g *group) dropPicker(p *picker) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if p.refs--; p.refs == 0 {
		delete(g.pickers, p.key)
	}
}

// rampSteps is in how many steps the weight of an endpoint grows in its slow start.
const (
	rampSteps   = 20
	minRampStep = 100 * time.Millisecond
)

// trialShare is the part of its weight that an endpoint on trial has: if it still fails, few calls do.
const trialShare = 1.0 / 20

// update makes every picker anew from the state of the members.
func (g *group) update() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return
	}
	now := time.Now()
	usable := 0
	for _, m := range g.members {
		is := m.check.Healthy && !m.ejected()
		switch {
		case is && !m.usable:
			m.since = now
		case m.ejected():
			m.trial.Store(true)
		}
		if m.usable = is; is {
			usable++
		}
	}
	g.panicked = usable*100 < g.spec.panicAt*len(g.members)
	for _, p := range g.pickers {
		p.renewLocked(now)
	}
	g.rampLocked(now)
}

// rampLocked sees to the next step of slow starts.
func (g *group) rampLocked(now time.Time) {
	if g.ramp != nil {
		g.ramp.Stop()
		g.ramp = nil
	}
	var step time.Duration
	for k := range g.pickers {
		for _, m := range g.members {
			if now.Sub(m.since) < k.slowStart && (step == 0 || k.slowStart/rampSteps < step) {
				step = k.slowStart / rampSteps
			}
		}
	}
	if step > 0 {
		g.ramp = time.AfterFunc(max(step, minRampStep), g.update)
	}
}

// renewLocked makes the picker's choice anew. The group's mu is held.
func (p *picker) renewLocked(now time.Time) {
	g := p.group
	members := make([]balance.Member, 0, len(g.members))
	c := &choice{members: make(map[*balance.Host]*member, len(g.members)), panicky: g.panicked}
	for _, m := range g.members {
		weight := float64(m.weight)
		if age := now.Sub(m.since); age < p.key.slowStart {
			weight = balance.Ramp(weight, age, p.key.slowStart)
		}
		if m.trial.Load() && p.key.policy.Kind != balance.ConsistentHash { // whose keys must not move
			weight *= trialShare
		}
		up := m.usable || g.panicked
		c.some = c.some || up
		c.members[m.host] = m
		members = append(members, balance.Member{Host: m.host, Weight: weight, Down: !up})
	}
	c.Picker = balance.New(p.key.policy, members, p.current.Load().Picker)
	p.current.Store(c)
}

// succeeded hears of each call that a member answered.
func (g *group) succeeded(m *member) {
	if m.trial.Load() && !m.ejected() && m.trial.CompareAndSwap(true, false) {
		g.update()
	}
}

// close ends the group's checks and timers. Calls that use it go on.
func (g *group) close() (gone []string) {
	g.mu.Lock()
	g.closed = true
	if g.ramp != nil {
		g.ramp.Stop()
	}
	for _, m := range g.members {
		g.unwatchLocked(m)
		gone = append(gone, m.host.Address())
	}
	g.mu.Unlock()
	g.ejector.Close()
	return gone
}
