package relay

import (
	"encoding/binary"
	"iter"

	"github.com/framegate/framegate/handler/frame"
)

// framing follows the gRPC frames of one direction of a call (gRPC over HTTP/2, "Length-Prefixed-Message") in DATA that passes.
// It keeps nothing of them.
type framing struct {
	maxBytes int64 // of one message's payload; 0 means no limit

	place
	messages int64 // begun
	bytes    int64 // of DATA
}

// follow takes the next bytes. The error is frame.ErrBadFlag or frame.ErrTooLarge; then none of p is to be forwarded, nor counted.
func (f *framing) follow(p []byte) error {
	size, messages := int64(len(p)), f.messages
	for len(p) > 0 {
		n, begins := f.step(p)
		p = p[n:]
		switch {
		case (begins || f.have > 0) && f.prefix[0] > 1:
			return frame.ErrBadFlag
		case begins:
			messages++
			if f.maxBytes > 0 && f.left > f.maxBytes {
				return frame.ErrTooLarge
			}
		}
	}
	f.messages, f.bytes = messages, f.bytes+size
	return nil
}

// end returns frame.ErrTruncated if the direction has ended within a message.
func (f *framing) end() error {
	if f.within() {
		return frame.ErrTruncated
	}
	return nil
}

// place is a place in the gRPC frames of one direction of a call.
type place struct {
	prefix [frame.PrefixLen]byte // of the message that begins
	have   uint8                 // bytes of prefix that have come
	left   int64                 // payload of the current message that is still to come
}

// within reports whether the place is within a message.
func (f *place) within() bool { return f.have > 0 || f.left > 0 }

// step moves over the first n bytes of p, which must not be empty: what there is of the current payload, or of the prefix. begins says
// that the prefix is whole.
func (f *place) step(p []byte) (n int, begins bool) {
	if f.left > 0 {
		n = int(min(f.left, int64(len(p))))
		f.left -= int64(n)
		return n, false
	}
	n = copy(f.prefix[f.have:], p)
	if f.have += uint8(n); f.have < frame.PrefixLen {
		return n, false
	}
	f.have, f.left = 0, int64(binary.BigEndian.Uint32(f.prefix[1:]))
	return n, true
}

// skip moves over p.
func (f *place) skip(p []byte) {
	for len(p) > 0 {
		n, _ := f.step(p)
		p = p[n:]
	}
}

// rest returns how many bytes of data, which begins at the place, belong to a message that has begun before it. It is 0 if the message
// does not end within data.
func (f place) rest(data iter.Seq[[]byte]) int {
	n := 0
	for p := range data {
		for len(p) > 0 && f.within() {
			k, _ := f.step(p)
			n, p = n+k, p[k:]
		}
	}
	if f.within() {
		return 0
	}
	return n
}
