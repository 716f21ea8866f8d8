package eject

import "sync/atomic"

// slots is how many parts of Config.Window the calls are counted in. What is older than the window is forgotten a part
// at a time.
const slots = 10

// window counts the calls of late. Each slot is one number, so that a call is counted by one atomic operation: the
// number of the part of time that it counts, modulo 2^24, then the failures, then all calls, of 20 bits each.
type window struct {
	slots [slots]atomic.Uint64
}

const (
	countBits = 20
	countMask = 1<<countBits - 1
	slotMask  = 1<<(64-2*countBits) - 1

	callGood   = uint64(1)
	callFailed = uint64(1)<<countBits | 1
)

// add counts a call, callGood or callFailed, in the part of time with the number slot, which is not 0.
func (w *window) add(slot, call uint64) {
	s := &w.slots[slot%slots]
	stamp := slot & slotMask << (2 * countBits)
	for {
		old := s.Load()
		was := old
		if was&^(1<<(2*countBits)-1) != stamp {
			was = stamp // of an older part
		}
		if was&countMask == countMask {
			return // a million calls tell the share well enough
		}
		if s.CompareAndSwap(old, was+call) {
			return
		}
	}
}

// sum returns how many calls there were in the window that ends with the part of time with the number slot.
func (w *window) sum(slot uint64) (calls, failures int64) {
	for i := range w.slots {
		v := w.slots[i].Load()
		if age := (slot - v>>(2*countBits)) & slotMask; age >= slots {
			continue
		}
		calls += int64(v & countMask)
		failures += int64(v >> countBits & countMask)
	}
	return calls, failures
}

func (w *window) clear() {
	for i := range w.slots {
		w.slots[i].Store(0)
	}
}
