package hpack

// table is the dynamic table of one direction of a connection (RFC 7541 section 2.3.2): a ring that grows with its entries.
// The zero table has no memory.
type table struct {
	ring []*Field // a power of two long, or empty
	next uint32   // position of the next entry, modulo len(ring)
	n    uint32
	size uint32 // of all entries, by RFC 7541 section 4.1
	max  uint32
}

const minRing = 8

// at returns the entry with the index i of RFC 7541 section 2.3.3, counted from firstDynamic, or nil.
func (t *table) at(i uint32) *Field {
	if i >= t.n {
		return nil
	}
	return t.ring[t.position(i)]
}

// position is where the i-th newest entry lies.
func (t *table) position(i uint32) uint32 {
	return (t.next - 1 - i) & uint32(len(t.ring)-1)
}

// fits reports whether there is room for size bytes more.
func (t *table) fits(size uint32) bool { return uint64(t.size)+uint64(size) <= uint64(t.max) }

// add wants that the field fits, and returns its position.
func (t *table) add(f *Field) uint32 {
	if t.n == uint32(len(t.ring)) {
		t.grow()
	}
	at := t.next & uint32(len(t.ring)-1)
	t.ring[at] = f
	t.next = at + 1
	t.n++
	t.size += uint32(f.Size())
	return at
}

// grow doubles the ring. The oldest entry is at position 0 then.
func (t *table) grow() {
	ring := make([]*Field, max(minRing, 2*len(t.ring)))
	for i := range t.n {
		ring[i] = t.at(t.n - 1 - i)
	}
	t.ring, t.next = ring, t.n
}

// oldest returns the entry that goes next, and its position. The table must not be empty.
func (t *table) oldest() (*Field, uint32) {
	at := t.position(t.n - 1)
	return t.ring[at], at
}

// drop takes the oldest entry out.
func (t *table) drop() {
	f, at := t.oldest()
	t.ring[at] = nil
	t.n--
	t.size -= uint32(f.Size())
}
