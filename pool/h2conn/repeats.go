package h2conn

// repeats knows header blocks by their bytes: those that have passed, that fit in a frame, and that leave the HPACK table
// as it is. They stand for the same fields until the table changes, so that calls which are alike are decoded once.
type repeats struct {
	passed map[blockBytes]struct{}
}

type blockBytes struct {
	bytes     string
	endStream bool
}

const (
	maxRepeats   = 16  // are known
	maxRepeatLen = 512 // a longer block is not
)

func (r *repeats) know(block []byte, endStream bool) bool {
	_, ok := r.passed[blockBytes{string(block), endStream}]
	return ok
}

// learn takes a block that was decoded, and whether it passes in one frame.
func (r *repeats) learn(block []byte, endStream, passes bool) {
	switch {
	case !keepsTable(block):
		clear(r.passed)
	case passes && len(block) <= maxRepeatLen:
		if r.passed == nil {
			r.passed = map[blockBytes]struct{}{}
		} else if len(r.passed) >= maxRepeats {
			clear(r.passed)
		}
		r.passed[blockBytes{string(block), endStream}] = struct{}{}
	}
}

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
