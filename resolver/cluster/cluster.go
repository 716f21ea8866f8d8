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

// Cluster is the endpoints of a backend at work: which there are, with what weight, and which of them may be used. Backends
// that say the same of one service share a cluster; those that list endpoints have one each, which stays while the route's
// document changes. Its pickers, one for each way to balance, are what calls read.
//
//	health check ──┐
//	ejection ──────┼─> update ─> a new choice in every picker
//	members, ramp ─┘
//
// Locks are taken in this order: the set's mu, the cluster's, those of the health checker and of the detector. Both of
// these call update without a lock of theirs.
type Cluster struct {
	ID
	tags    map[string]string // that an instance must have; of a service's cluster
	checker *health.Checker
	log     *slog.Logger

	// guarded by the set's mu
	users     map[string]int // how many backends of each route in force use it; see userOf
	ejector   *eject.Detector
	ejections uint64               // counted by detectors before this one
	prevented uint64               // the same
	written   []written            // the endpoints as they are written, of which members and excluded are made
	names     map[string]nameWatch // by name: those among written

	panics atomic.Uint64 // attempts that were balanced in panic
	stale  atomic.Bool   // names were looked up since members was made of written

	mu       sync.Mutex // guards the fields below; settings and members are changed with the set's mu held, too
	settings settings
	members  []*member  // by address
	excluded []excluded // what is written and gets no calls, in the order in which it is
	pickers  map[pickerKey]*picker
	panicked bool        // so few may be used that all are
	had      bool        // an endpoint worked, as far as is known
	lost     time.Time   // when the last that did was lost; zero while one works
	news     []news      // that are logged when mu is unlocked
	ramp     *time.Timer // the next step of slow starts; nil while there is none
	closed   bool
}

// clusterKey is the same for backends that share a cluster.
type clusterKey struct {
	ID
	settings settings // of a service's cluster; the zero value where endpoints are listed, so that the cluster stays when it changes
}

// key returns the key that the cluster has as long as its settings are s.
func (n ID) key(s settings) clusterKey {
	if n.Service == "" {
		s = settings{}
	}
	return clusterKey{n, s}
}

// settings are what a backend says of its endpoints, but for which they are. They can be compared with ==.
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
	name     string        // host:port that its address was looked up of; empty if it is as written
	ejection atomic.Pointer[eject.Member]
	trial    atomic.Bool // it is back from an ejection and has not answered yet: it gets few calls

	// guarded by the cluster's mu; weight is changed with the set's mu held, too
	weight int // 0 takes no calls
	watch  *watch
	check  health.Status // as of its last change; healthy while nothing is known
	out    bool          // ejected, as far as is logged
	usable bool          // healthy and not ejected

	unreachable error     // why no connection could be made the last time; nil if one was, or none was wanted
	since       time.Time // when it became usable after it was not, or was not there; zero if it always was
}

func (m *member) ejected() bool {
	e := m.ejection.Load()
	return e != nil && e.Ejected()
}

// watch is the health checks of a member under one health.Config.
type watch struct{ stop func() }

// weighted is an address and its weight.
type weighted struct {
	address string
	weight  int
	name    string // see member
}

func newCluster(name ID, tags map[string]string, s settings, checker *health.Checker, log *slog.Logger) *Cluster {
	c := &Cluster{ID: name, tags: tags, checker: checker, log: log, settings: s, users: map[string]int{}, pickers: map[pickerKey]*picker{}}
	c.ejector = eject.New(s.eject, c.update)
	return c
}

// configure puts settings in force. What is known of the members stays, but for ejections if it changes what they go by.
func (c *Cluster) configure(s settings) {
	c.mu.Lock()
	old := c.settings
	c.settings = s
	if old.health != s.health {
		for _, m := range c.members {
			c.watchLocked(m)
		}
	}
	c.mu.Unlock()
	if old.eject != s.eject {
		before := c.ejector
		c.ejector = eject.New(s.eject, c.update)
		c.setEjection()
		before.Close()
		ejections, prevented := before.Counts()
		c.ejections += ejections
		c.prevented += prevented
	}
	if old != s {
		c.update()
	}
}

// setMembers replaces the endpoints; no address is there twice. It takes all over, and returns the addresses that came
// and those that have gone. unreachable has those that cannot be connected to.
func (c *Cluster) setMembers(all []weighted, unreachable map[string]error) (came, gone []string) {
	slices.SortFunc(all, func(a, b weighted) int { return cmp.Compare(a.address, b.address) })
	c.mu.Lock()
	if slices.EqualFunc(all, c.members, func(w weighted, m *member) bool { return w == weighted{m.host.Address(), m.weight, m.name} }) {
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
		case m.name != w.name: // calls that have it go on with the name it had
			before := m
			m = c.newMemberLocked(w, before.unreachable)
			m.weight, m.since = before.weight, before.since
			before.unwatch()
		}
		if m.weight == 0 && w.weight > 0 && inUse { // where none was there before, all are alike
			m.since = time.Now()
		}
		m.weight = w.weight
		members[i] = m
		delete(old, w.address)
	}
	for address, m := range old {
		m.unwatch()
		gone = append(gone, address)
	}
	c.members = members
	c.mu.Unlock()
	c.setEjection()
	c.update()
	return came, gone
}

func (c *Cluster) newMemberLocked(w weighted, unreachable error) *member {
	m := &member{host: balance.NewHost(w.address), name: w.name, check: health.Status{Healthy: true}, usable: true, unreachable: unreachable}
	m.host.Owner = m
	c.watchLocked(m)
	return m
}

// setEjection tells the detector which members take calls. It may call update.
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

// watchLocked begins the health checks of a member, in place of those before.
func (c *Cluster) watchLocked(m *member) {
	before := m.watch
	m.watch = nil
	if c.settings.health == (health.Config{}) {
		m.check = health.Status{Healthy: true}
	} else {
		w := &watch{}
		m.watch = w
		w.stop = c.checker.Watch(m.host.Address(), m.checks(c.settings.health), func(s health.Status) { c.checked(m, w, s) })
	}
	if before != nil {
		before.stop()
	}
}

// checks returns how a member is checked: under its name, if it has one.
func (m *member) checks(c health.Config) health.Config {
	if c.Type == health.TypeGRPC {
		c.Authority = cmp.Or(c.Authority, m.name)
	}
	return c
}

func (m *member) unwatch() {
	if m.watch != nil {
		m.watch.stop()
		m.watch = nil
	}
}

// checked hears what the checks of a member have shown. A watch that has ended may still say something, which no longer
// counts.
func (c *Cluster) checked(m *member, w *watch, s health.Status) {
	c.mu.Lock()
	defer c.unlock()
	if m.watch != w {
		return
	}
	changed := m.check.Healthy != s.Healthy
	m.check = s
	if changed {
		c.updateLocked(time.Now())
	}
}

// update makes every picker anew from the state of the members.
func (c *Cluster) update() {
	c.mu.Lock()
	defer c.unlock()
	c.updateLocked(time.Now())
}

// news is a line of the log.
type news struct {
	log  func(msg string, args ...any) // of the cluster's log, at the level of the line
	text string
	args []any
}

// unlock unlocks mu, and then logs what is new.
func (c *Cluster) unlock() {
	all := c.news
	c.news = nil
	c.mu.Unlock()
	for _, n := range all {
		n.log(n.text, append(n.args, c.args()...)...)
	}
}

// args name the cluster in the log.
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
	taking, usable := 0, 0 // members that take calls, and those of them that may be used
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

// succeeded hears of each attempt that a member answered.
func (c *Cluster) succeeded(m *member) {
	if m.trial.Load() && !m.ejected() && m.trial.CompareAndSwap(true, false) {
		c.update()
	}
}

// close ends the cluster's checks and timers, and returns the addresses of its members. Calls that use it go on. It may be
// called more than once.
func (c *Cluster) close() (gone []string) {
	c.mu.Lock()
	c.closed = true
	if c.ramp != nil {
		c.ramp.Stop()
	}
	for _, m := range c.members {
		m.unwatch()
		gone = append(gone, m.host.Address())
	}
	c.mu.Unlock()
	c.ejector.Close()
	return gone
}
