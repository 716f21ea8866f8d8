package hpack

// Encoder writes the header blocks of one connection.
//
// What the static table has is written as one byte. A small field that is used again within a short time goes into the table and
// is one byte from then on, two if the table is long. All else is written as the literal that the field carries. Sensitive fields
// and timeouts never go into the table. Nothing is Huffman coded: it would cost the peer more time than it saves.
type Encoder struct {
	table table
	// slots finds the entries of the table: open addressing by hash. A slot has the position of an entry, of which there are 128 at
	// most, plus one; 0 is empty.
	slots []uint8
	// seen remembers the hashes of fields that were written as literals of late, in sets of the newest first. Made with the first.
	seen *[seenSets][seenWays]uint16

	epoch  uint64        // counts what enters and leaves the table
	recent *recentBlocks // made with the first block that only the tables have

	limit  uint32 // the size of table that the peer allows, at most ours
	lowest uint32 // the smallest limit since the last block
	wait   uint8  // blocks until an entry may be driven out again
}

const (
	seenSets = 8
	seenWays = 8
	// evictEvery is how many blocks drive out entries for one new one. Where more fields are in use than the table can have, it is
	// the same share of them that is in it, whatever the pace: the table of 64 clients with a token of 200 bytes each had as many
	// hits at one in 8 blocks as at one in each, and a block cost half.
	evictEvery = 8
)

// NewEncoder makes the Encoder of a connection whose peer has not said how large its table is: 4096 bytes. More it never uses.
func NewEncoder() *Encoder {
	return &Encoder{table: table{max: defaultTableBytes}, limit: defaultTableBytes, lowest: defaultTableBytes}
}

// SetMaxTableSize takes the peer's SETTINGS_HEADER_TABLE_SIZE. The next block begins with the table size update that it demands
// (RFC 7541 section 4.2): the acknowledgement of the settings must be sent before that block.
func (e *Encoder) SetMaxTableSize(n uint32) {
	e.limit = min(n, defaultTableBytes)
	e.lowest = min(e.lowest, e.limit)
}

// Append appends one complete header block with the fields to dst. Blocks must be sent in the order in which they were made.
func (e *Encoder) Append(dst []byte, fields []*Field) []byte {
	if e.limit != e.table.max || e.lowest < e.table.max {
		dst = e.update(dst)
	}
	if e.wait > 0 {
		e.wait--
	}
	if e.recent != nil {
		if block := e.recent.find(fields, e.epoch); block != nil {
			return append(dst, block...)
		}
	}
	at := len(dst)
	dst, literals := e.appendFields(dst, fields)
	if block := dst[at:]; literals == 0 && len(fields) <= maxRecent && len(block) <= maxRecentLen {
		if e.recent == nil {
			e.recent = new(recentBlocks)
		}
		e.recent.add(fields, block, e.epoch)
	}
	return dst
}

// appendFields appends the fields, and returns how many of them are literals.
func (e *Encoder) appendFields(dst []byte, fields []*Field) (_ []byte, literals int) {
	for _, f := range fields {
		switch {
		case f.static != 0:
			dst = append(dst, indexed.bits|f.static)
		case !f.indexable || e.table.max == 0:
			dst = append(dst, f.literal...)
			literals++
		default:
			at, found := e.find(f)
			if !found {
				dst = e.appendNew(dst, f)
				literals++
				continue
			}
			i := firstDynamic + (e.table.next-1-at)&uint32(len(e.table.ring)-1)
			if i < 0x7f { // as nearly all: appendInteger would cost a call
				dst = append(dst, indexed.bits|byte(i))
			} else {
				dst = appendInteger(dst, indexed.bits, indexed.prefix, i)
			}
		}
	}
	return dst, literals
}

// Shrink gives back memory that an idle connection does not need.
func (e *Encoder) Shrink() { e.recent = nil }

// appendNew writes a field that the table does not have, and puts it there if it is used again.
func (e *Encoder) appendNew(dst []byte, f *Field) []byte {
	if e.again(f.hash) && e.room(uint32(f.Size())) {
		e.insert(f)
		return f.appendIndexing(dst)
	}
	return append(dst, f.literal...)
}

// update writes the size of the table. A size that went down and came up again is written as 0 and the new one, which empties the
// table: with the smallest size in between, Go's own decoder (golang.org/x/net/http2/hpack) takes the second for an error.
func (e *Encoder) update(dst []byte) []byte {
	if e.lowest < min(e.limit, e.table.max) {
		e.shrink(0)
		dst = appendInteger(dst, sizeUpdate.bits, sizeUpdate.prefix, 0)
	}
	e.shrink(e.limit)
	e.table.max, e.lowest = e.limit, e.limit
	return appendInteger(dst, sizeUpdate.bits, sizeUpdate.prefix, e.limit)
}

// again reports whether a field of that hash was asked for before, not long ago.
func (e *Encoder) again(hash uint32) bool {
	if e.seen == nil {
		e.seen = new([seenSets][seenWays]uint16)
	}
	set := &e.seen[hash>>16%seenSets]
	tag := uint16(hash) | 1 // never 0, which is no hash
	for _, t := range set {
		if t == tag {
			return true
		}
	}
	copy(set[1:], set[:seenWays-1])
	set[0] = tag
	return false
}

// room makes room for an entry of that size, if it may. Entries are driven out for one new one in evictEvery blocks.
func (e *Encoder) room(size uint32) bool {
	if e.table.fits(size) {
		return true
	}
	if e.wait > 0 || size > e.table.max {
		return false
	}
	e.wait = evictEvery
	e.shrink(e.table.max - size)
	return true
}

// shrink evicts until at most size bytes are left.
func (e *Encoder) shrink(size uint32) {
	for e.table.size > size {
		e.remove(e.table.oldest())
		e.table.drop()
		e.epoch++
	}
}
