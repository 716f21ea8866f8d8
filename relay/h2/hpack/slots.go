package hpack

// The slots of an Encoder are twice as many as its ring is long, so that a search ends soon.

// home is the slot that a search for the hash begins at.
func (e *Encoder) home(hash uint32) uint32 { return hash & uint32(len(e.slots)-1) }

func (e *Encoder) after(slot uint32) uint32 { return (slot + 1) & uint32(len(e.slots)-1) }

// find returns the position of the field, or of an equal one, in the table.
func (e *Encoder) find(f *Field) (uint32, bool) {
	if len(e.slots) == 0 {
		return 0, false
	}
	for s := e.home(f.hash); e.slots[s] != 0; s = e.after(s) {
		at := uint32(e.slots[s]) - 1
		if g := e.table.ring[at]; g == f || g.hash == f.hash && g.Value == f.Value && g.Name == f.Name {
			return at, true
		}
	}
	return 0, false
}

// insert puts the field, for which there must be room, into the table.
func (e *Encoder) insert(f *Field) {
	at := e.table.add(f)
	e.epoch++
	if len(e.slots) == 2*len(e.table.ring) {
		e.point(f, at)
		return
	}
	// The ring has grown and moved its entries.
	e.slots = make([]uint8, 2*len(e.table.ring))
	for i := range e.table.n {
		at := e.table.position(i)
		e.point(e.table.ring[at], at)
	}
}

// point makes the field found at its position.
func (e *Encoder) point(f *Field, at uint32) {
	s := e.home(f.hash)
	for e.slots[s] != 0 {
		s = e.after(s)
	}
	e.slots[s] = uint8(at + 1)
}

// remove makes the field at the position found no more, and closes the gap in the search of those that lie after it.
func (e *Encoder) remove(f *Field, at uint32) {
	gap := e.home(f.hash)
	for e.slots[gap] != uint8(at+1) {
		gap = e.after(gap)
	}
	mask := uint32(len(e.slots) - 1)
	for s := e.after(gap); e.slots[s] != 0; s = e.after(s) {
		home := e.home(e.table.ring[e.slots[s]-1].hash)
		if (s-home)&mask >= (s-gap)&mask { // the gap is on the way from home to s
			e.slots[gap] = e.slots[s]
			gap = s
		}
	}
	e.slots[gap] = 0
}
