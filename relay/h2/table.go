package h2

import (
	"cmp"
	"slices"
)

// table has the open streams of a connection by their identifiers. It is a hash table with open addressing, because a peer
// chooses the identifiers and may leave as many out as it likes.
type table struct {
	slots []*Stream // a power of two, at most half full
	n     int
	seed  uint64  // odd
	last  *Stream // that get has found: frames of one stream come in a row; nil for none
}

const minSlots = 8

// home returns the slot where a stream belongs, before it is masked. It is multiply-shift hashing: because the seed is random, a
// peer cannot choose identifiers that belong to one slot.
func (t *table) home(id uint32) int { return int(uint64(id) * t.seed >> 40) }

func (t *table) get(id uint32) *Stream {
	if t.last != nil && t.last.id == id {
		return t.last
	}
	mask := len(t.slots) - 1
	if mask < 0 {
		return nil
	}
	for i := t.home(id) & mask; ; i = (i + 1) & mask {
		if s := t.slots[i]; s == nil || s.id == id {
			t.last = s
			return s
		}
	}
}

// put adds a stream whose identifier is not in the table.
func (t *table) put(s *Stream) {
	if 2*(t.n+1) > len(t.slots) {
		old := t.slots
		t.slots = make([]*Stream, max(minSlots, 2*len(old)))
		for _, s := range old {
			if s != nil {
				t.place(s)
			}
		}
	}
	t.place(s)
	t.n++
	t.last = s
}

func (t *table) place(s *Stream) {
	mask := len(t.slots) - 1
	i := t.home(s.id) & mask
	for t.slots[i] != nil {
		i = (i + 1) & mask
	}
	t.slots[i] = s
}

// remove removes a stream that is in the table.
func (t *table) remove(s *Stream) {
	mask := len(t.slots) - 1
	i := t.home(s.id) & mask
	for t.slots[i] != s {
		i = (i + 1) & mask
	}
	t.n--
	if t.last == s {
		t.last = nil
	}
	for j := (i + 1) & mask; t.slots[j] != nil; j = (j + 1) & mask { // fill the gap with what was placed past it
		if (j-t.home(t.slots[j].id))&mask >= (j-i)&mask {
			t.slots[i], i = t.slots[j], j
		}
	}
	t.slots[i] = nil
}

// shrink gives back the memory of an empty table.
func (t *table) shrink() {
	if t.n == 0 {
		t.slots = nil
	}
}

// all returns the streams in the order of their identifiers.
func (t *table) all() []*Stream {
	all := make([]*Stream, 0, t.n)
	for _, s := range t.slots {
		if s != nil {
			all = append(all, s)
		}
	}
	slices.SortFunc(all, func(a, b *Stream) int { return cmp.Compare(a.id, b.id) })
	return all
}
