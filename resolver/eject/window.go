package eject

import "sync/atomic"

// slots is the number of parts of Config.Window. The calls of each part are counted and forgotten together.
const slots = 10

// window counts the calls within Config.Window. Each slot counts one part of time in a single word, so that a call is counted
// with one atomic operation: the number of the part modulo 2^24, then its failures and all its calls, of 20 bits each.
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

// add counts a call, which is callGood or callFailed, in the part of time with the number slot; see Detector.slot.
func (w *window) add(slot, call uint64) {
	s := &w.slots[slot%slots]
	stamp := slot & slotMask << (2 * countBits)
	for {
		old := s.Load()
		was := old
		if was&^(1<<(2*countBits)-1) != stamp {
			was = stamp // the slot counts an older part, which is forgotten
		}
		if was&countMask == countMask {
			return // full: a million calls tell the share well enough
		}
		if s.CompareAndSwap(old, was+call) {
			return
		}
	}
}

// sum returns how many calls and failures there were in the window that ends with the part of time with the number slot.
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
