package relay

import (
	"encoding/binary"

	"github.com/framegate/framegate/handler/frame"
)

// framing follows the gRPC frames of one direction of a call (gRPC over HTTP/2, "Length-Prefixed-Message") in DATA that passes.
// It keeps nothing of them.
type framing struct {
	maxBytes int64 // of one message's payload; 0 means no limit

	prefix   [frame.PrefixLen]byte // of the message that begins
	have     int                   // bytes of prefix that have come
	left     int64                 // payload of the current message that is still to come
	messages int64                 // begun
	bytes    int64                 // of DATA
}

// follow takes the next bytes. The error is frame.ErrBadFlag or frame.ErrTooLarge; then none of p is to be forwarded.
func (f *framing) follow(p []byte) error {
	f.bytes += int64(len(p))
	for {
		n := min(f.left, int64(len(p)))
		f.left -= n
		if p = p[n:]; len(p) == 0 {
			return nil
		}
		k := copy(f.prefix[f.have:], p)
		f.have += k
		p = p[k:]
		if f.prefix[0] > 1 {
			return frame.ErrBadFlag
		}
		if f.have < frame.PrefixLen {
			return nil
		}
		f.have, f.left = 0, int64(binary.BigEndian.Uint32(f.prefix[1:]))
		f.messages++
		if f.maxBytes > 0 && f.left > f.maxBytes {
			return frame.ErrTooLarge
		}
	}
}

// end returns frame.ErrTruncated if the direction has ended within a message.
func (f *framing) end() error {
	if f.have > 0 || f.left > 0 {
		return frame.ErrTruncated
	}
	return nil
}
