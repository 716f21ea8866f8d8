package relay

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/framegate/framegate/test/race"
)

// wheel is timers with a clock that a test sets, beside a list of what is set.
type wheel struct {
	t     *testing.T
	rand  *rand.Rand
	w     timers
	now   int64
	set   map[*timer]int64 // when they are to fire
	fired int
	rung  int // times that the alarm has rung
	fires func(t *timer)
}

func newWheel(t *testing.T, seed uint64) *wheel {
	m := &wheel{t: t, rand: rand.New(rand.NewPCG(seed, 1)), now: 5 * int64(time.Second), set: map[*timer]int64{}}
	m.w.alarm = time.AfterFunc(time.Hour, func() {}) // rings for nobody: the test looks at w.rings
	t.Cleanup(func() { m.w.alarm.Stop() })
	m.w.fire(m.now)
	return m
}

// add sets a new timer.
func (m *wheel) add(at int64) *timer {
	t := &timer{}
	t.fire = func() {
		at, ok := m.set[t]
		require.True(m.t, ok, "a timer that is not set has fired")
		require.LessOrEqual(m.t, at, m.now, "fired early")
		require.Zero(m.t, t.at, "it may be set again")
		delete(m.set, t)
		m.fired++
		if m.fires != nil {
			m.fires(t)
		}
	}
	m.w.set(t, at)
	m.set[t] = max(at, 1)
	return t
}

func (m *wheel) stop(t *timer) {
	m.w.stop(t)
	delete(m.set, t)
}

// anyone returns a timer that is set, or nil.
func (m *wheel) anyone() *timer {
	for t := range m.set { // in no order
		return t
	}
	return nil
}

// earliest returns when the next timer is to fire.
func (m *wheel) earliest() int64 {
	first := int64(1<<63 - 1)
	for _, at := range m.set {
		first = min(first, at)
	}
	return first
}

// to fires what is late at a time, as shard.unlock does.
func (m *wheel) to(now int64) {
	m.now = now
	m.w.fire(now)
	m.check()
	if len(m.set) > 0 {
		require.Greater(m.t, m.earliest()+slotTime, now, "a timer is more than a slot late")
	}
}

// ring lets time pass until the alarm rings.
func (m *wheel) ring() {
	at := max(m.w.rings, m.now)
	require.NotZero(m.t, m.w.rings)
	m.w.rings = 0
	m.rung++
	m.to(at)
}

// check wants that the alarm wakes a shard that nothing else wakes in time for the next timer.
func (m *wheel) check() {
	require.Equal(m.t, len(m.set), m.w.n)
	if len(m.set) > 0 {
		require.NotZero(m.t, m.w.rings, "the alarm is off, and a timer is set")
		require.LessOrEqual(m.t, m.w.rings, max(m.earliest(), m.now)+slotTime, "the alarm rings more than a slot late")
	}
}

// delay returns a time until a deadline: short ones, many that share a slot, and those of several rounds of the wheel.
func (m *wheel) delay() int64 {
	round := slotTime * manySlots
	switch m.rand.IntN(6) {
	case 0:
		return m.rand.Int64N(2 * slotTime)
	case 1:
		return m.rand.Int64N(100 * slotTime)
	case 2:
		return (1 + m.rand.Int64N(3)) * round // the slot that is the next now
	case 3:
		return m.rand.Int64N(4 * round)
	case 4:
		return -m.rand.Int64N(1000 * slotTime) // over
	default:
		return m.rand.Int64N(int64(time.Second))
	}
}

func TestTimers_AgreeWithAList(t *testing.T) {
	t.Parallel()
	for seed := range uint64(race.Choose(300, 60)) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			m := newWheel(t, seed)
			m.fires = func(*timer) { // sets and stops others, perhaps in the slot that is being fired
				for range m.rand.IntN(3) {
					if other := m.anyone(); other != nil && m.rand.IntN(2) == 0 {
						m.stop(other)
					}
					if m.rand.IntN(2) == 0 {
						m.add(m.now + m.delay())
					}
				}
			}
			for range 1000 {
				switch m.rand.IntN(10) {
				case 0, 1, 2:
					m.add(m.now + m.delay())
				case 3, 4, 5:
					if other := m.anyone(); other != nil {
						m.stop(other)
					}
				case 6, 7:
					m.to(m.now + m.rand.Int64N(3*slotTime))
				case 8:
					if m.w.rings != 0 {
						m.ring()
					}
				case 9:
					if m.rand.IntN(20) == 0 { // the process has stood still
						m.to(m.now + m.rand.Int64N(5*slotTime*manySlots))
					}
				}
				m.check()
			}
			m.fires = nil
			for set := len(m.set); len(m.set) > 0; m.ring() {
				require.LessOrEqual(t, m.rung, 2*(m.fired+set)+2000, "it rings for nothing")
			}
			for range 2 { // for timers that were stopped
				if m.w.rings != 0 {
					m.ring()
				}
			}
			require.Zero(t, m.w.rings, "the alarm is on, and no timer is set")
		})
	}
}

// What fires at the same time in one slot, and stops all others there: none of them fires.
func TestTimers_FireStopsOthersOfItsSlot(t *testing.T) {
	t.Parallel()
	m := newWheel(t, 0)
	for range 10 {
		m.add(m.now + slotTime)
	}
	m.fires = func(*timer) {
		for other := m.anyone(); other != nil; other = m.anyone() {
			m.stop(other)
		}
	}
	m.to(m.now + 3*slotTime)
	require.Equal(t, 1, m.fired)
}

// The last timer sets another as it fires, which is far away: it does not fire with it, and not a round late.
func TestTimers_TheLastSetsAnother(t *testing.T) {
	t.Parallel()
	for _, far := range []int64{slotTime, 100 * slotTime, slotTime * manySlots, 3 * slotTime * manySlots} {
		m := newWheel(t, 0)
		m.add(m.now + slotTime)
		m.fires = func(*timer) {
			if m.fired == 1 {
				m.add(m.now + far)
			}
		}
		m.to(m.now + 3*slotTime)
		require.Equal(t, 1, m.fired)
		require.Len(t, m.set, 1)
		m.to(m.earliest() - 1)
		require.Equal(t, 1, m.fired)
		m.to(m.earliest() + slotTime)
		require.Equal(t, 2, m.fired)
	}
}

// A process that stood still for longer than a round fires all that is late at once.
func TestTimers_LongSilence(t *testing.T) {
	t.Parallel()
	m := newWheel(t, 0)
	began := m.now
	for i := range int64(40) {
		m.add(began + i*slotTime*manySlots/10)
	}
	m.to(began + 4*slotTime*manySlots)
	require.Empty(t, m.set)
}

// An idle shard with a timer of an hour wakes about once a round of the wheel, and one without timers once at most.
func TestTimers_IdleShardSleeps(t *testing.T) {
	t.Parallel()
	m := newWheel(t, 0)
	hour := m.add(m.now + int64(time.Hour))
	for len(m.set) > 0 {
		m.ring()
	}
	require.Zero(t, hour.at)
	require.LessOrEqual(t, m.rung, 60)

	for range 1000 { // of calls that end long before their deadlines
		m.stop(m.add(m.now + int64(time.Minute)))
		m.to(m.now + int64(time.Millisecond))
	}
	rung := m.rung
	for m.w.rings != 0 {
		m.ring()
	}
	require.LessOrEqual(t, m.rung, rung+1)
}

// The alarm wakes a shard that nobody locks, in time, and again for timers that are set when it has rung.
func TestTimers_AlarmWakesAnIdleShard(t *testing.T) {
	t.Parallel()
	s := newTestShard(t)
	type firing struct{ at, now int64 }
	fired := make(chan firing, 1)
	var one timer
	for _, after := range []time.Duration{0, time.Millisecond, 40 * time.Millisecond, 5 * time.Millisecond} {
		s.lock()
		at := s.now + int64(after)
		one.fire = func() { fired <- firing{at, s.now} }
		s.timers.set(&one, at)
		s.mu.Unlock() // not unlock: nothing but the alarm looks
		select {
		case f := <-fired:
			require.GreaterOrEqual(t, f.now, f.at, "early")
		case <-time.After(patience):
			t.Fatalf("a timer of %s was slept through", after)
		}
	}
}

// Whoever sets a timer that is set moves it.
func TestTimers_SetMovesTheTimer(t *testing.T) {
	x := newEngine(t, 1, 100)
	s := x.shard
	fired := 0
	k := &timer{fire: func() { fired++ }}
	s.lock()
	defer s.unlock()
	before := s.timers.n
	s.timers.set(k, s.now+int64(time.Hour))
	s.timers.set(k, s.now+2*slotTime)
	require.Equal(t, before+1, s.timers.n)
	s.timers.fire(s.now + 4*slotTime)
	require.Equal(t, 1, fired)
	require.Equal(t, before, s.timers.n)
}
