package h2conn

import (
	"encoding/binary"

	"golang.org/x/net/http2"
)

const frameHeaderLen = 9 // RFC 9113 §4.1

// payloadLen returns the length of a frame's payload, from its header h.
func payloadLen(h []byte) int { return int(h[0])<<16 | int(h[1])<<8 | int(h[2]) }

// FrameHeader is the header of an HTTP/2 frame (RFC 9113 §4.1).
type FrameHeader struct {
	Length int // of the payload
	Type   http2.FrameType
	Flags  http2.Flags
	Stream uint32
}

// AppendFrameHeader appends the encoding of a frame header to p.
func AppendFrameHeader(p []byte, h FrameHeader) []byte {
	p = append(p, byte(h.Length>>16), byte(h.Length>>8), byte(h.Length), byte(h.Type), byte(h.Flags))
	return binary.BigEndian.AppendUint32(p, h.Stream)
}

// AppendReset appends a RST_STREAM frame to p.
func AppendReset(p []byte, stream uint32, code http2.ErrCode) []byte {
	p = AppendFrameHeader(p, FrameHeader{Length: 4, Type: http2.FrameRSTStream, Stream: stream})
	return binary.BigEndian.AppendUint32(p, uint32(code))
}

// Frames receives the frames of one direction of a connection, in their order.
type Frames interface {
	// Begin is called with the header of each frame. It reports whether Payload is to be called for this frame.
	Begin(h FrameHeader) (wantPayload bool)

	// Payload is called with each piece of the payload, if Begin returned true. It must not keep p.
	Payload(p []byte)

	// End is called after the last byte of each frame.
	End()
}

// Follower cuts the bytes of one direction of a connection into frames. It neither changes nor keeps them. A Follower with
// To set is ready at the start of a frame. It is used by one goroutine at a time.
type Follower struct {
	To Frames

	header  [frameHeaderLen]byte
	nheader int  // bytes of header that have come
	left    int  // bytes of the payload that are still to come
	wanted  bool // Begin returned true for the current frame
}

// Follow processes the next bytes of the connection.
func (f *Follower) Follow(b []byte) {
	for len(b) > 0 {
		if f.left > 0 {
			n := min(f.left, len(b))
			if f.wanted {
				f.To.Payload(b[:n])
			}
			b = b[n:]
			if f.left -= n; f.left == 0 {
				f.To.End()
			}
			continue
		}
		if f.nheader == 0 && len(b) >= frameHeaderLen {
			f.begin(b[:frameHeaderLen])
			b = b[frameHeaderLen:]
			continue
		}
		n := copy(f.header[f.nheader:], b)
		f.nheader += n
		b = b[n:]
		if f.nheader == frameHeaderLen {
			f.nheader = 0
			f.begin(f.header[:])
		}
	}
}

// AtBoundary reports whether the bytes so far end with a whole frame.
func (f *Follower) AtBoundary() bool { return f.left == 0 && f.nheader == 0 }

func (f *Follower) begin(h []byte) {
	f.left = payloadLen(h)
	f.wanted = f.To.Begin(FrameHeader{
		Length: f.left, Type: http2.FrameType(h[3]), Flags: http2.Flags(h[4]), Stream: binary.BigEndian.Uint32(h[5:]) & (1<<31 - 1),
	})
	if f.left == 0 {
		f.To.End()
	}
}
