package eject

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Detector decides which endpoints of one backend are ejected, from the results of calls that its Members report. It has one
// timer while an endpoint is ejected, and no goroutine.
type Detector struct {
	cfg     Config
	changed func()
	start   time.Time
	members atomic.Pointer[map[string]*Member] // replaced, never changed; stored with mu held

	ejections, prevented atomic.Uint64
	full                 atomic.Bool // as many are ejected as may be; stored with mu held

	mu     sync.Mutex // guards what follows
	closed bool
	out    int         // how many members are ejected
	timer  *time.Timer // runs out at next; nil before the first ejection
	next   time.Time   // when the first ejection is over, or earlier; zero if no member is ejected
}

// New returns a Detector without members; cfg is one that Validate accepts. changed is called after a member's Ejected has
// changed, without any lock, by the goroutine of Report or SetMembers or by that of the timer. Several goroutines may call
// it at once. It must not block, and asks the members which of them are ejected. The caller closes the Detector.
func New(cfg Config, changed func()) *Detector {
	d := &Detector{cfg: cfg.withDefaults(), changed: changed, start: time.Now()}
	d.members.Store(&map[string]*Member{})
	return d
}

// SetMembers replaces the members by the endpoints that the backend has now. Addresses that were members keep their state;
// the others are forgotten. If more members are ejected now than may be, those with the least time left come back.
func (d *Detector) SetMembers(addresses []string) {
	d.mu.Lock()
	if d.closed {
		d.mu.Unlock()
		return
	}
	old, members := *d.members.Load(), make(map[string]*Member, len(addresses))
	for _, a := range addresses {
		m := old[a]
		if m == nil {
			m = &Member{detector: d, address: a}
		}
		members[a] = m
	}
	for a, m := range old {
		if members[a] == nil {
			d.setStateLocked(m, forgotten)
		}
	}
	d.members.Store(&members)
	d.boundLocked()
	tooMany := d.out - d.cfg.mayEject(len(members))
	if tooMany > 0 {
		for _, m := range d.outLocked()[:tooMany] {
			d.setStateLocked(m, serving)
		}
	}
	d.mu.Unlock()
	if tooMany > 0 {
		d.changed()
	}
}

// Member returns the member with the address, or nil if there is none.
func (d *Detector) Member(address string) *Member { return (*d.members.Load())[address] }

// Counts returns how often a member was ejected, and how often a member was not ejected because of MaxPercent: that counts
// once for each time that it became held; see state.
func (d *Detector) Counts() (ejections, prevented uint64) {
	return d.ejections.Load(), d.prevented.Load()
}

// Close ends the detector and its timer: members stay as they are from now on. A call of changed may still be under way.
// Close may be called more than once.
func (d *Detector) Close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = true
	if d.timer != nil {
		d.timer.Stop()
	}
}

// slot returns the number of the part of Config.Window that a time is in, for window.add. The numbers begin so high that a window's
// empty slots, which have the number 0, are too old to count.
func (d *Detector) slot(at time.Time) uint64 {
	return uint64(max(at.Sub(d.start), 0)/(d.cfg.Window/slots)) + slots
}

// look decides on a member that has failed too often, or that is held and has not any more.
func (d *Detector) look(m *Member) {
	if d.ejects(m) {
		d.changed()
	}
}

// ejects changes the member to the state that its calls ask for, and reports whether it became ejected.
func (d *Detector) ejects(m *Member) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	now, tooMany := m.load(), m.tooMany(time.Now())
	switch {
	case d.closed || now == ejected || now == forgotten: // the state changed before the lock was taken
	case tooMany && !d.full.Load():
		d.setStateLocked(m, ejected)
		return true
	case tooMany && now == serving:
		d.setStateLocked(m, held)
	case !tooMany && now == held:
		d.setStateLocked(m, serving)
	}
	return false
}

// setStateLocked changes the state of a member.
func (d *Detector) setStateLocked(m *Member, to state) {
	now := time.Now()
	if m.load() == ejected {
		d.out--
		m.until, m.back = time.Time{}, now
		m.streak.Store(0) // results from before the ejection do not count
		m.window.clear()
	}
	switch to {
	case ejected:
		d.out++
		d.ejections.Add(1)
		before := d.cfg.times(m.before, now.Sub(m.back))
		m.until = now.Add(d.cfg.ejection(before))
		m.before = min(before+1, int(d.cfg.MaxTime/d.cfg.BaseTime)) // a higher count would not eject it longer, only be forgiven later
		d.armLocked(m.until)
	case held:
		d.prevented.Add(1)
	}
	m.state.Store(uint32(to))
	d.boundLocked()
}

// boundLocked sets full. It is called when out or the number of members has changed.
func (d *Detector) boundLocked() { d.full.Store(d.out >= d.cfg.mayEject(len(*d.members.Load()))) }

// outLocked returns the members that are ejected, sorted by when they come back.
func (d *Detector) outLocked() (list []*Member) {
	for _, m := range *d.members.Load() {
		if m.load() == ejected {
			list = append(list, m)
		}
	}
	slices.SortFunc(list, func(a, b *Member) int { return a.until.Compare(b.until) })
	return list
}

// armLocked makes sure that the timer runs out at the time given or before.
func (d *Detector) armLocked(at time.Time) {
	if !d.next.IsZero() && !at.Before(d.next) {
		return
	}
	d.next = at
	if d.timer == nil {
		d.timer = time.AfterFunc(time.Until(at), d.returnDue)
		return
	}
	d.timer.Reset(time.Until(at))
}

// returnDue brings back the members whose ejection is over. The timer may call it too early, which has no effect.
func (d *Detector) returnDue() {
	d.mu.Lock()
	if d.closed {
		d.mu.Unlock()
		return
	}
	d.next = time.Time{}
	now, returned := time.Now(), false
	for _, m := range d.outLocked() {
		if m.until.After(now) {
			d.armLocked(m.until)
			break
		}
		d.setStateLocked(m, serving)
		returned = true
	}
	d.mu.Unlock()
	if returned {
		d.changed()
	}
}
