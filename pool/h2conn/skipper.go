package h2conn

import (
	"bytes"
	"errors"

	"golang.org/x/net/http2/hpack"
)

// skipper gives an hpack.Decoder a header block that is too long to hold: representations that are short as they are,
// and in place of the others something that does the same to the table. It needs little memory, however long they are.
//
//	first --- index --+--> nameLength -> name --+--> valueLength -> value -> first
//	      +-----------+-------------------------+
//	      +--> rest (of an index or a table size) -> first
type skipper struct {
	dec *hpack.Decoder

	state   skipState
	repr    []byte // what is held of the representation under way
	dropped bool   // it is too long, and is not held
	indexed bool   // it adds to the table
	length  uint64 // of the string that comes, or what is left of it
	shift   uint   // of the next byte of length
}

type skipState int

const (
	skipFirst      skipState = iota // of a representation
	skipRest                        // of an integer that ends it
	skipIndex                       // the rest of the index of its name
	skipNameLength                  // the first byte of that
	skipNameLonger                  // the rest of it
	skipName
	skipValueLength // as of the name
	skipValueLonger
	skipValue
)

// reprHeld is how long a representation may be to be held. In a longer one are strings of more than 4096 bytes, however
// they are encoded (RFC 7541 appendix B: at most 30 bits stand for a byte), and the table has no room for them.
const reprHeld = 16 << 10

// evictAll is an entry that is larger than the table: it leaves the table empty (RFC 7541 §4.4), and is not in it itself.
var evictAll = append([]byte{0x40, 1, 'x', 0x7f, 0x81, 0x1f}, bytes.Repeat([]byte{'x'}, tableSize)...) // 0x7f+0x01+0x1f<<7 bytes of value

var errSkipLength = errors.New("an integer of a header block is too long")

func (s *skipper) reset() { *s = skipper{dec: s.dec, repr: s.repr[:0]} }

// atBoundary reports whether the last byte ended a representation.
func (s *skipper) atBoundary() bool { return s.state == skipFirst }

// write takes the next bytes of the block.
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

// take takes a byte that is not of a string.
func (s *skipper) take(c byte) error {
	switch s.state {
	case skipFirst:
		return s.first(c)
	case skipRest, skipIndex:
		if s.dropped { // by index bytes without end
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
			s.state++ // the rest of it
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

// first takes the first byte of a representation (RFC 7541 §6).
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
	case index == mask: // more of it comes
	case s.state == skipRest:
		return s.end()
	case index == 0:
		s.state = skipNameLength
	default:
		s.state = skipValueLength
	}
	return nil
}

// beginString begins the string whose length is known.
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

func (s *skipper) endString() error {
	if s.state == skipName {
		s.state = skipValueLength
		return nil
	}
	return s.end()
}

// end ends a representation.
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
