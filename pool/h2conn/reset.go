package h2conn

import (
	"math"
	"sync"

	"golang.org/x/net/http2"
)

// BareEnd stands for a stream that the peer ended cleanly in HTTP/2's terms but without the trailers that gRPC wants. It
// is outside the codes that a peer can send in earnest.
const BareEnd = http2.ErrCode(math.MaxUint32)

// resets remembers how the peer ended its last streams. Kitex turns a reset into a status that cannot be told from one
// that the server sent; here the two can. A stream's place depends on its identifier, so that streams which are reset
// together, a whole connection's perhaps, do not take each other's places.
type resets struct {
	mu   sync.Mutex // guards last
	last [1024]reset
}

type reset struct {
	stream uint32
	code   http2.ErrCode
}

// of returns the place of a stream. A client's identifiers are odd (RFC 9113 §5.1.1).
func (r *resets) of(stream uint32) *reset { return &r.last[stream/2%uint32(len(r.last))] }

// add remembers the first code for a stream: that one ended it.
func (r *resets) add(stream uint32, code http2.ErrCode) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if p := r.of(stream); p.stream != stream {
		*p = reset{stream, code}
	}
}

// ResetCode returns the code of the RST_STREAM with which the peer ended a stream (or BareEnd), and false if it did not,
// or so long ago that one of the streams 1024, 2048, ... later was reset since.
func (c *Conn) ResetCode(stream uint32) (http2.ErrCode, bool) {
	c.resets.mu.Lock()
	defer c.resets.mu.Unlock()
	p := c.resets.of(stream)
	return p.code, p.stream == stream
}
