package cluster

import (
	"cmp"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/framegate/framegate/resolver/balance"
	"github.com/framegate/framegate/resolver/dns"
	"github.com/framegate/framegate/resolver/eject"
	"github.com/framegate/framegate/resolver/health"
	"github.com/framegate/framegate/resolver/spec"
)

// Cluster has the endpoints of a backend, with their weights, and knows which of them are usable. Backends of one service
// share a cluster if their settings are the same. A backend that lists endpoints has a cluster of its own, which stays when
// the route's document changes. Calls read only its pickers, one for each way to balance.
//
//	health check ──┐
//	ejection ──────┼─> update ─> a new choice in every picker
//	members, ramp ─┘
//
// Locks are taken in this order: the set's mu, the cluster's mu, the locks of the health checker and of the detector. The
// checker and the detector hold no lock of theirs when they call the cluster.
type Cluster struct {
	ID
	tags    map[string]string // that an instance must have; of a service's cluster
	checker *health.Checker
	log     *slog.Logger

	// guarded by the set's mu
	users   map[string]int              // how many backends of each route in force use it; see userOf
	written []written                   // the endpoints as they are written; members and excluded are made from them
	names   map[string]nameSubscription // by host name: the names among written

	panics atomic.Uint64 // attempts that were balanced in panic
	stale  atomic.Bool   // a name has other addresses than when members was made

	mu        sync.Mutex // guards the fields below; settings, members and ejector are changed with the set's mu held, too
	settings  settings
	members   []*member // by address
	ejector   *eject.Detector
	ejections uint64     // that the detectors before ejector counted
	prevented uint64     // that the detectors before ejector counted
	excluded  []excluded // the endpoints among written that get no calls, in their order there
	pickers   map[pickerKey]*picker
	panicked  bool        // so few endpoints are usable that calls go to all
	had       bool        // there was an endpoint that worked, as far as is known
	lost      time.Time   // when the last endpoint that worked was lost; zero while one works
	news      []news      // to be logged by unlock
	ramp      *time.Timer // the next step of slow starts; nil while there is none
	closed    bool
}

// clusterKey is the key of a cluster. Backends that share a cluster have the same.
type clusterKey struct {
	ID
	settings settings // the zero value for listed endpoints, so that the cluster stays when its settings change
}

// key returns the key of a cluster with the settings s.
func (n ID) key(s settings) clusterKey {
	if n.Service == "" {
		s = settings{}
	}
	return clusterKey{n, s}
}

// settings is what a backend's document says of its endpoints, beside which they are. Settings can be compared with ==.
type settings struct {
	health  health.Config // the zero value for no checks
	eject   eject.Config
	panicAt int // see Backend.PanicPercent
	dns     dns.Config
}

const defaultPanicPercent = 50

func settingsOf(b *spec.Backend) settings {
	s := settings{panicAt: defaultPanicPercent}
	if b.Health != nil {
		s.health = *b.Health
	}
	if b.Ejection != nil {
		s.eject = *b.Ejection
	}
	if b.PanicPercent != nil {
		s.panicAt = *b.PanicPercent
	}
	if b.DNS != nil {
		s.dns = *b.DNS
	}
	return s
}

// member is an endpoint of a cluster.
type member struct {
	host     *balance.Host // whose Owner it is
	name     string        // the host:port whose look-up gave its address; empty if its address is as written
	node     string        // its spec.TagNode; empty if it has none
	ejection atomic.Pointer[eject.Member]
	trial    atomic.Bool // it is back from an ejection and has not answered a call yet: it gets few calls

	// guarded by the cluster's mu; weight is changed with the set's mu held, too
	weight       int                 // 0 takes no calls
	subscription *healthSubscription // nil without checks
	check        health.Status       // as of its last change; healthy while nothing is known
	out          bool                // it was logged that the member is ejected
	usable       bool                // healthy and not ejected

	unreachable error     // why the last connection could not be made; nil if it could, or none was tried
	since       time.Time // when it became usable, or was added; zero if it was there and usable from the start
}

func (m *member) ejected() bool {
	e := m.ejection.Load()
	return e != nil && e.Ejected()
}

// healthSubscription is a member's subscription to its health checks under one health.Config.
type healthSubscription struct{ stop func() }

// weighted is an address and its weight.
type weighted struct {
	address string
	weight  int
	name    string // see member
	node    string // see member
}

func newCluster(name ID, tags map[string]string, s settings, checker *health.Checker, log *slog.Logger) *Cluster {
	c := &Cluster{ID: name, tags: tags, checker: checker, log: log, settings: s, users: map[string]int{}, pickers: map[pickerKey]*picker{}}
	c.ejector = eject.New(s.eject, c.update)
	return c
}

// configure changes the settings. What is known of the members stays, except for ejections if their settings change.
func (c *Cluster) configure(s settings) {
	c.mu.Lock()
	old := c.settings
	c.settings = s
	if old.health != s.health {
		for _, m := range c.members {
			c.subscribeLocked(m)
		}
	}
	c.mu.Unlock()
	if old.eject != s.eject {
		before, after := c.ejector, eject.New(s.eject, c.update)
		c.mu.Lock()
		c.ejector = after
		c.mu.Unlock()
		c.setEjection()
		before.Close()
		ejections, prevented := before.Counts()
		c.mu.Lock()
		c.ejections += ejections
		c.prevented += prevented
		c.mu.Unlock()
	}
	if old != s {
		c.update()
	}
}

// setMembers replaces the endpoints; no address is in all twice, and the caller must not use all afterwards. It returns the
// addresses that are new and those that have gone. unreachable has, for the addresses that cannot be connected to, why.
func (c *Cluster) setMembers(all []weighted, unreachable map[string]error) (came, gone []string) {
	slices.SortFunc(all, func(a, b weighted) int { return cmp.Compare(a.address, b.address) })
	c.mu.Lock()
	if slices.EqualFunc(all, c.members, func(w weighted, m *member) bool { return w == weighted{m.host.Address(), m.weight, m.name, m.node} }) {
		c.mu.Unlock()
		return nil, nil
	}
	old := make(map[string]*member, len(c.members))
	inUse := false
	for _, m := range c.members {
		old[m.host.Address()] = m
		inUse = inUse || m.weight > 0
	}
	members := make([]*member, len(all))
	for i, w := range all {
		m := old[w.address]
		switch {
		case m == nil:
			m = c.newMemberLocked(w, unreachable[w.address])
			came = append(came, w.address)
		case m.name != w.name || m.node != w.node: // a new member, because calls under way keep what theirs has
			before := m
			m = c.newMemberLocked(w, before.unreachable)
			m.weight, m.since = before.weight, before.since
			before.unsubscribe()
		}
		if m.weight == 0 && w.weight > 0 && inUse { // if no member took calls before, none starts slowly
			m.since = time.Now()
		}
		m.weight = w.weight
		members[i] = m
		delete(old, w.address)
	}
	for address, m := range old {
		m.unsubscribe()
		gone = append(gone, address)
	}
	c.members = members
	c.mu.Unlock()
	c.setEjection()
	c.update()
	return came, gone
}

func (c *Cluster) newMemberLocked(w weighted, unreachable error) *member {
	m := &member{host: balance.NewHost(w.address), name: w.name, node: w.node, check: health.Status{Healthy: true}, usable: true, unreachable: unreachable}
	m.host.Owner = m
	c.subscribeLocked(m)
	return m
}

// setEjection gives the detector the members that take calls. The detector may call update.
func (c *Cluster) setEjection() {
	addresses := make([]string, 0, len(c.members))
	for _, m := range c.members {
		if m.weight > 0 {
			addresses = append(addresses, m.host.Address())
		}
	}
	c.ejector.SetMembers(addresses)
	for _, m := range c.members {
		m.ejection.Store(c.ejector.Member(m.host.Address()))
	}
}

// subscribeLocked subscribes to the health checks of a member as the settings have them, and ends the subscription before.
func (c *Cluster) subscribeLocked(m *member) {
	before := m.subscription
	m.subscription = nil
	if c.settings.health == (health.Config{}) {
		m.check = health.Status{Healthy: true}
	} else {
		sub := &healthSubscription{}
		m.subscription = sub
		sub.stop = c.checker.Subscribe(m.host.Address(), m.checks(c.settings.health), func(s health.Status) { c.checked(m, sub, s) })
	}
	if before != nil {
		before.stop()
	}
}

// checks returns the Config of a member's checks: the :authority of gRPC checks is the member's name, if it has one.
func (m *member) checks(c health.Config) health.Config {
	if c.Type == health.TypeGRPC {
		c.Authority = cmp.Or(c.Authority, m.name)
	}
	return c
}

// unsubscribe ends the subscription to the member's health checks.
func (m *member) unsubscribe() {
	if m.subscription != nil {
		m.subscription.stop()
		m.subscription = nil
	}
}

// checked is called with the result of a member's checks. A subscription that was replaced or ended may still call it, which
// has no effect.
func (c *Cluster) checked(m *member, sub *healthSubscription, s health.Status) {
	c.mu.Lock()
	defer c.unlock()
	if m.subscription != sub {
		return
	}
	changed := m.check.Healthy != s.Healthy
	m.check = s
	if changed {
		c.updateLocked(time.Now())
	}
}

// update gives every picker a new choice, from the state of the members.
func (c *Cluster) update() {
	c.mu.Lock()
	defer c.unlock()
	c.updateLocked(time.Now())
}

// news is a line for the log that is written once mu is unlocked.
type news struct {
	log  func(msg string, args ...any) // of the cluster's log, at the level of the line
	text string
	args []any
}

// unlock unlocks mu, and then logs the news.
func (c *Cluster) unlock() {
	all := c.news
	c.news = nil
	c.mu.Unlock()
	for _, n := range all {
		n.log(n.text, append(n.args, c.args()...)...)
	}
}

// args returns the log attributes that name the cluster.
func (n ID) args() []any {
	if n.Service != "" {
		return []any{"service", n.Service}
	}
	return []any{"route", n.Route, "backend", n.Backend}
}

func (c *Cluster) updateLocked(now time.Time) {
	if c.closed {
		return
	}
	taking, usable := 0, 0 // members that take calls, and those of them that are usable
	for _, m := range c.members {
		ejected := m.ejected()
		if ejected {
			m.trial.Store(true)
		}
		if ejected != m.out {
			m.out = ejected
			n := news{c.log.Info, "endpoint is back from its ejection", []any{"endpoint", m.host.Address()}}
			if ejected {
				n.log, n.text = c.log.Warn, "endpoint ejected: it failed too many calls"
			}
			c.news = append(c.news, n)
		}
		was := m.usable
		m.usable = m.check.Healthy && !ejected
		if m.usable && !was {
			m.since = now
		}
		if m.weight > 0 {
			taking++
			if m.usable {
				usable++
			}
		}
	}
	if panicked := usable*100 < c.settings.panicAt*taking; panicked != c.panicked {
		c.panicked = panicked
		n := news{c.log.Info, "enough endpoints are usable again", []any{"usable", usable, "of", taking}}
		if panicked {
			n.log, n.text = c.log.Warn, "too few endpoints are usable: calls go to all"
		}
		c.news = append(c.news, n)
	}
	c.countLocked(now)
	for _, p := range c.pickers {
		p.renewLocked(now)
	}
	c.rampLocked(now)
}

// succeeded is called for each attempt that a member answered. It ends the member's trial.
func (c *Cluster) succeeded(m *member) {
	if m.trial.Load() && !m.ejected() && m.trial.CompareAndSwap(true, false) {
		c.update()
	}
}

// close ends the cluster's checks and timers, and returns the addresses of its members. Calls under way go on. It may be
// called more than once.
func (c *Cluster) close() (gone []string) {
	c.mu.Lock()
	c.closed = true
	if c.ramp != nil {
		c.ramp.Stop()
	}
	for _, m := range c.members {
		m.unsubscribe()
		gone = append(gone, m.host.Address())
	}
	c.mu.Unlock()
	c.ejector.Close()
	return gone
}

// forgetNames ends all subscriptions of a cluster to host names.
func (c *Cluster) forgetNames() {
	for _, at := range c.names {
		at.stop()
	}
	c.names = nil
}
