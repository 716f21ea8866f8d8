package h2conn

import (
	"bytes"
	"errors"

	"golang.org/x/net/http2/hpack"
)

// skipper feeds a header block that is too long to hold to an hpack.Decoder, so that the decoder's dynamic table stays that
// of the peer. It passes short representations on as they are. It replaces a long one by one that changes the table in the
// same way. It holds at most reprHeld bytes, however long the block is. Its states are:
//
//	first --- index --+--> nameLength -> name --+--> valueLength -> value -> first
//	      +-----------+-------------------------+
//	      +--> rest (of an index or a table size) -> first
type skipper struct {
	dec *hpack.Decoder

	state   skipState
	repr    []byte // the bytes of the current representation so far, unless dropped
	dropped bool   // the current representation is longer than reprHeld
	indexed bool   // the current representation adds an entry to the table
	length  uint64 // bytes of the current string that are still to come
	shift   uint   // by which the next byte of length is shifted
}

// skipState says which byte of a representation comes next.
type skipState int

const (
	skipFirst       skipState = iota // the first byte of a representation
	skipRest                         // a byte of the integer that ends it: an index or a table size
	skipIndex                        // a byte of the index of its name
	skipNameLength                   // the first byte of the length of its name
	skipNameLonger                   // a further byte of that length
	skipName                         // a byte of its name
	skipValueLength                  // the first byte of the length of its value
	skipValueLonger                  // a further byte of that length
	skipValue                        // a byte of its value
)

// reprHeld bounds the representations that are passed on as they are. A longer one has strings of more than 4096 bytes,
// because a byte is encoded in at most 30 bits (RFC 7541 appendix B), so that its entry is larger than the table.
const reprHeld = 16 << 10

// evictAll is a representation whose entry is larger than the table. To add it empties the table (RFC 7541 §4.4), as the long
// representation does that it replaces.
var evictAll = append([]byte{0x40, 1, 'x', 0x7f, 0x81, 0x1f}, bytes.Repeat([]byte{'x'}, tableSize)...) // 0x7f+0x01+0x1f<<7 bytes of value

var errSkipLength = errors.New("an integer of a header block is too long")

// reset prepares the skipper for the next block.
func (s *skipper) reset() { *s = skipper{dec: s.dec, repr: s.repr[:0]} }

// atBoundary reports whether the bytes so far end with a whole representation.
func (s *skipper) atBoundary() bool { return s.state == skipFirst }

// write processes the next bytes of the block.
func (s *skipper) write(p []byte) error {
	for len(p) > 0 {
		if s.state == skipName || s.state == skipValue {
			n := int(min(s.length, uint64(len(p))))
			s.hold(p[:n])
			p = p[n:]
			if s.length -= uint64(n); s.length == 0 {
				if err := s.endString(); err != nil {
					return err
				}
			}
			continue
		}
		s.hold(p[:1])
		if err := s.take(p[0]); err != nil {
			return err
		}
		p = p[1:]
	}
	return nil
}

// hold adds bytes to the current representation, or drops it if it gets too long.
func (s *skipper) hold(p []byte) {
	if s.dropped {
		return
	}
	if len(s.repr)+len(p) > reprHeld {
		s.dropped, s.repr = true, s.repr[:0]
		return
	}
	s.repr = append(s.repr, p...)
}

// take processes a byte that is not part of a string.
func (s *skipper) take(c byte) error {
	switch s.state {
	case skipFirst:
		return s.first(c)
	case skipRest, skipIndex:
		if s.dropped { // the integer alone is too long
			return errSkipLength
		}
		if c&0x80 == 0 {
			if s.state == skipRest {
				return s.end()
			}
			s.state = skipValueLength
		}
	case skipNameLength, skipValueLength:
		s.length, s.shift = uint64(c&0x7f), 0
		if s.length == 0x7f {
			s.state++ // skipNameLonger or skipValueLonger
			return nil
		}
		return s.beginString()
	case skipNameLonger, skipValueLonger:
		if s.shift > 28 {
			return errSkipLength
		}
		s.length += uint64(c&0x7f) << s.shift
		s.shift += 7
		if c&0x80 == 0 {
			return s.beginString()
		}
	}
	return nil
}

// first processes the first byte of a representation (RFC 7541 §6).
func (s *skipper) first(c byte) error {
	var mask byte
	s.indexed, s.state = false, skipIndex
	switch {
	case c&0x80 != 0:
		mask, s.state = 0x7f, skipRest
	case c&0x40 != 0:
		mask, s.indexed = 0x3f, true
	case c&0x20 != 0:
		mask, s.state = 0x1f, skipRest
	default: // without indexing, or never indexed
		mask = 0x0f
	}
	switch index := c & mask; {
	case index == mask: // further bytes of the index follow
	case s.state == skipRest:
		return s.end()
	case index == 0:
		s.state = skipNameLength
	default:
		s.state = skipValueLength
	}
	return nil
}

// beginString begins a string when its length is known.
func (s *skipper) beginString() error {
	if s.state <= skipNameLonger {
		s.state = skipName
	} else {
		s.state = skipValue
	}
	if s.length == 0 {
		return s.endString()
	}
	return nil
}

// endString ends a string: a name, or the value that ends the representation.
func (s *skipper) endString() error {
	if s.state == skipName {
		s.state = skipValueLength
		return nil
	}
	return s.end()
}

// end passes a representation that is complete, or its replacement, on to the decoder.
func (s *skipper) end() error {
	repr := s.repr
	if s.dropped {
		if repr = nil; s.indexed {
			repr = evictAll
		}
	}
	s.state, s.dropped, s.repr = skipFirst, false, s.repr[:0]
	_, err := s.dec.Write(repr)
	return err
}
