package frame

import "encoding/binary"

// Splitter finds the messages in the bytes of a stream of frames, which may come in pieces of any lengths. The zero Splitter
// stands at the beginning of a stream. It checks nothing: Redirect has done that.
type Splitter struct {
	prefix  [PrefixLen]byte
	nprefix int   // bytes of prefix that have come
	left    int64 // bytes of the payload that are still to come
}

// Parts is told of the messages that a Splitter finds.
type Parts interface {
	// Begin is called for each message, with its compressed flag and the length of its payload.
	Begin(flag byte, length int64)
	// Part is called with the bytes of a payload, in order; p is valid until it returns.
	Part(p []byte)
	// End is called when the payload is complete.
	End()
}

// Split tells parts of what is in p.
func (s *Splitter) Split(p []byte, parts Parts) {
	for len(p) > 0 {
		if s.left == 0 {
			n := copy(s.prefix[s.nprefix:], p)
			p = p[n:]
			if s.nprefix += n; s.nprefix < PrefixLen {
				return
			}
			s.nprefix = 0
			s.left = int64(binary.BigEndian.Uint32(s.prefix[1:]))
			parts.Begin(s.prefix[0], s.left)
			if s.left == 0 {
				parts.End()
			}
			continue
		}
		n := min(s.left, int64(len(p)))
		parts.Part(p[:n])
		p = p[n:]
		if s.left -= n; s.left == 0 {
			parts.End()
		}
	}
}

// Message is a whole message. It is shared by everybody who gets it, and never changed.
type Message struct {
	Flag    byte // the compressed flag: 1 if Payload is compressed with the grpc-encoding of its direction
	Payload []byte
}

// Len returns how many bytes the message takes in a stream, prefix included.
func (m Message) Len() int { return PrefixLen + len(m.Payload) }

// PrefixOf returns the prefix of a message's frame.
func PrefixOf(m Message) (prefix [PrefixLen]byte) {
	prefix[0] = m.Flag
	binary.BigEndian.PutUint32(prefix[1:], uint32(len(m.Payload)))
	return prefix
}
