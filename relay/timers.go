package relay

import "time"

// timers are the deadlines of a shard: a wheel of slots (Varghese and Lauck), in which a timer is added and removed in constant
// time. A timer fires up to slotTime late. All is guarded by the shard's mu.
type timers struct {
	slots [manySlots]*timer // lists
	done  int64             // all slots before the one of this time have fired
	n     int
	alarm *time.Timer // wakes the shard when nothing else does
	rings int64       // when alarm rings; 0 if it does not
}

const (
	slotTime  = int64(8 * time.Millisecond)
	manySlots = 8192 // with slotTime a minute: longer timers go round
)

// timer is one deadline. Its zero value is not set.
type timer struct {
	fire       func() // called with the shard's mu held; set once
	at         int64  // 0 if it is not set
	prev, next *timer
}

func (w *timers) init(s *shard) {
	w.alarm = time.AfterFunc(time.Hour, func() {
		s.lock()
		s.timers.rings = 0
		s.unlock()
	})
	w.alarm.Stop()
}

// set sets a timer to a time, whether it is set or not.
func (w *timers) set(t *timer, at int64) {
	w.stop(t)
	w.n++
	t.at = max(at, 1)
	slot := &w.slots[t.at/slotTime%manySlots]
	t.prev, t.next = nil, *slot
	if t.next != nil {
		t.next.prev = t
	}
	*slot = t
	w.done = min(w.done, t.at/slotTime)
	if w.rings == 0 || t.at+slotTime < w.rings {
		w.ring(t.at + slotTime)
	}
}

// stop stops a timer, which need not be set.
func (w *timers) stop(t *timer) {
	if t.at == 0 {
		return
	}
	if t.next != nil {
		t.next.prev = t.prev
	}
	if t.prev != nil {
		t.prev.next = t.next
	} else {
		w.slots[t.at/slotTime%manySlots] = t.next
	}
	t.at, t.prev, t.next = 0, nil, nil
	w.n--
}

// ring makes the alarm ring at a time.
func (w *timers) ring(at int64) {
	w.rings = at
	w.alarm.Reset(time.Duration(at - int64(time.Since(began))))
}

// fire fires the timers of the slots that are over.
func (w *timers) fire(now int64) {
	over, silent := now/slotTime, w.rings == 0
	for ; w.done < over && w.n > 0; w.done++ {
		w.done = max(w.done, over-manySlots) // so each slot is looked at once, even after a long time
		for t := w.slots[w.done%manySlots]; t != nil; {
			next := t.next
			if t.at/slotTime < over {
				w.stop(t)
				t.fire()
				next = w.slots[w.done%manySlots] // fire may have stopped others, and set others, which may be late as well
			}
			t = next
		}
	}
	if w.n == 0 {
		w.done = over
	}
	if w.n > 0 && silent { // what fire has set may be later than what was set before
		w.ring(w.nextSlot())
	}
}

// nextSlot returns the end of the next slot that has timers of its own round, or of the last slot of the wheel.
func (w *timers) nextSlot() int64 {
	for i := range int64(manySlots) {
		for t := w.slots[(w.done+i)%manySlots]; t != nil; t = t.next {
			if t.at/slotTime <= w.done+i {
				return (w.done + i + 1) * slotTime
			}
		}
	}
	return (w.done + manySlots) * slotTime
}
