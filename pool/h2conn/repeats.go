package h2conn

import "hash/maphash"

// repeats knows header blocks by their bytes: some that have passed in one frame, twice, and leave the HPACK table as it
// is. They stand for the same fields until a block comes that may change the table. Calls that are alike are decoded twice
// then, not each time.
type repeats struct {
	passed map[blockBytes]struct{}
	once   [maxRepeats]uint64 // hashes of blocks that have passed, by hash: of what never comes again, no more is kept
	seed   maphash.Seed
}

type blockBytes struct {
	bytes     string
	endStream bool
}

const (
	maxRepeats   = 16  // how many blocks are known
	maxRepeatLen = 512 // how long a block may be to be known, in bytes
)

// know reports whether a block with those bytes and that END_STREAM has passed, and would be decoded to the same fields now.
func (r *repeats) know(block []byte, endStream bool) bool {
	_, ok := r.passed[blockBytes{string(block), endStream}]
	return ok
}

// learn takes a block that has passed in one frame, and leaves the table as it is.
func (r *repeats) learn(block []byte, endStream bool) {
	if len(block) > maxRepeatLen {
		return
	}
	if r.passed == nil {
		r.passed, r.seed = map[blockBytes]struct{}{}, maphash.MakeSeed()
	}
	h := maphash.Bytes(r.seed, block)
	if seen := &r.once[h%maxRepeats]; *seen != h {
		*seen = h
		return
	}
	if len(r.passed) >= maxRepeats {
		for other := range r.passed {
			delete(r.passed, other)
			break
		}
	}
	r.passed[blockBytes{string(block), endStream}] = struct{}{}
}

// forget forgets all blocks: the table may have changed.
func (r *repeats) forget() { clear(r.passed) }

// keepsTable reports whether a block that can be decoded leaves the table as it is: it neither adds to it nor sets its size
// (RFC 7541 §6).
func keepsTable(block []byte) bool {
	for len(block) > 0 {
		switch c := block[0]; {
		case c&0x80 != 0: // indexed
			_, block = cutInt(block, 7)
		case c&0x60 != 0: // with incremental indexing, or a size update
			return false
		default: // without indexing, or never indexed
			var index, length int
			if index, block = cutInt(block, 4); index == 0 {
				length, block = cutInt(block, 7)
				block = block[min(length, len(block)):]
			}
			length, block = cutInt(block, 7)
			block = block[min(length, len(block)):]
		}
	}
	return true
}

// cutInt cuts an integer with a prefix of so many bits off a block (RFC 7541 §5.1).
func cutInt(p []byte, prefix uint) (n int, rest []byte) {
	if len(p) == 0 {
		return 0, nil
	}
	full := 1<<prefix - 1
	n, p = int(p[0])&full, p[1:]
	if n < full {
		return n, p
	}
	for shift := uint(0); len(p) > 0; shift += 7 {
		c := p[0]
		n, p = n+int(c&0x7f)<<shift, p[1:]
		if c&0x80 == 0 {
			break
		}
	}
	return n, p
}
