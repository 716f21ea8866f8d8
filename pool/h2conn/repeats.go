package h2conn

import "hash/maphash"

// repeats is a cache of the encodings of header blocks that have passed, so that calls with the same fields need not be
// decoded each time. It has blocks that came in one frame, at least twice, and that do not change the HPACK table. The same
// bytes encode the same fields until a block comes that may change the table.
type repeats struct {
	passed map[blockBytes]struct{}
	once   [maxRepeats]uint64 // hashes of blocks that have passed once, so that blocks that do not come again are not kept
	seed   maphash.Seed
}

// blockBytes is the encoding of a block.
type blockBytes struct {
	bytes     string
	endStream bool
}

const (
	maxRepeats   = 16  // blocks in the cache
	maxRepeatLen = 512 // bytes of a block in the cache
)

// know reports whether a block with these bytes and this END_STREAM is in the cache, so that it has the same fields as one
// that passed.
func (r *repeats) know(block []byte, endStream bool) bool {
	_, ok := r.passed[blockBytes{string(block), endStream}]
	return ok
}

// learn adds a block to the cache, at the second time. The block has passed in one frame, and does not change the table.
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

// forget empties the cache, because the table may have changed.
func (r *repeats) forget() { clear(r.passed) }

// keepsTable reports whether a block does not change the table: it neither adds entries nor sets the size (RFC 7541 §6). The
// block must be one that can be decoded.
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

// cutInt decodes the integer at the start of p, which has a prefix of that many bits (RFC 7541 §5.1), and returns the rest
// of p.
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
