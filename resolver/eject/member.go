package eject

import (
	"sync/atomic"
	"time"
)

// state is the state of a member:
//
//	          too many failures              its time is over
//	serving --------------------> ejected --------------------> serving
//	   |  ^                          ^
//	   |  | no longer too many       | another failure, and MaxPercent allows it by now
//	   v  |                          |
//	  held: too many failures, but MaxPercent prevents that it is ejected
//
// SetMembers changes any state to forgotten if the member is not among the new ones. Only Detector.setStateLocked changes a
// state.
type state uint32

const (
	serving state = iota
	held
	ejected
	forgotten
)

// Member is one endpoint of a backend. Its methods may be called by any number of goroutines at once.
type Member struct {
	detector *Detector
	address  string

	state  atomic.Uint32 // a state; written with detector.mu held
	streak atomic.Int64  // failures since the last success
	window window        // of Config.FailurePercent; empty without it

	// Guarded by detector.mu.
	until  time.Time // when it comes back, if it is ejected; else zero
	back   time.Time // when it came back the last time; zero if it never was ejected
	before int       // ejections that count, the last one included; see Config.times
}

// Address returns the address of the endpoint.
func (m *Member) Address() string { return m.address }

// Report counts the result of one call, which has ended now. It does nothing for a member that is ejected or forgotten, whose calls began
// before or had no other endpoint to go to. It does not allocate. While nothing fails, a success costs two atomic loads, and with
// FailurePercent an atomic add too.
//
// Report may call the function changed of New.
func (m *Member) Report(failed bool, now time.Time) {
	switch s := m.load(); {
	case s == ejected || s == forgotten:
	case failed:
		m.fail(s, now)
	default:
		m.succeed(s, now)
	}
}

func (m *Member) succeed(s state, now time.Time) {
	if m.streak.Load() != 0 {
		m.streak.Store(0)
	}
	if d := m.detector; d.cfg.FailurePercent > 0 {
		m.window.add(d.slot(now), callGood)
	}
	if s == held && !m.tooMany(now) {
		m.detector.look(m)
	}
}

func (m *Member) fail(s state, now time.Time) {
	m.streak.Add(1)
	if d := m.detector; d.cfg.FailurePercent > 0 {
		m.window.add(d.slot(now), callFailed)
	}
	if !m.tooMany(now) || s == held && m.detector.full.Load() {
		return // so that, while everything fails, each member takes the lock only once, when it becomes held
	}
	m.detector.look(m)
}

// tooMany reports whether the calls of the member have failed so often by now that it is to be ejected.
func (m *Member) tooMany(now time.Time) bool {
	d := m.detector
	if n := d.cfg.ConsecutiveFailures; n > 0 && m.streak.Load() >= int64(n) {
		return true
	}
	if d.cfg.FailurePercent == 0 {
		return false
	}
	calls, failures := m.window.sum(d.slot(now))
	return calls >= int64(d.cfg.MinCalls) && failures*100 >= calls*int64(d.cfg.FailurePercent)
}

// Ejected reports whether the endpoint is ejected, and so should get no calls. It costs one atomic load.
func (m *Member) Ejected() bool { return m.load() == ejected }

// Until returns when the endpoint comes back; zero if it is not ejected.
func (m *Member) Until() time.Time {
	m.detector.mu.Lock()
	defer m.detector.mu.Unlock()
	return m.until
}

func (m *Member) load() state { return state(m.state.Load()) }
