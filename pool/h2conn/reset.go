package h2conn

import (
	"sync"

	"golang.org/x/net/http2"
)

// resets records how the peer ended its last streams. It is needed because Kitex turns a reset into a status that looks like
// one that the server sent. A stream's place in last depends on its identifier, so that streams that are reset at the same
// time have different places.
type resets struct {
	mu   sync.Mutex // guards last
	last [1024]reset
}

// reset is the code with which the peer ended a stream.
type reset struct {
	stream uint32
	code   http2.ErrCode
}

// of returns the place of a stream. The identifiers of a client's streams are odd (RFC 9113 §5.1.1).
func (r *resets) of(stream uint32) *reset { return &r.last[stream/2%uint32(len(r.last))] }

// add records the code for a stream. If there are several, the first one counts, because it has ended the stream.
func (r *resets) add(stream uint32, code http2.ErrCode) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if p := r.of(stream); p.stream != stream {
		*p = reset{stream, code}
	}
}

// ResetCode returns the code of the RST_STREAM with which the peer ended a stream, or transport.BareEnd or
// transport.HeadersTooLarge. It returns false if the stream has not ended like that, or if another stream with the same place
// in resets, one that is 1024 streams later or a multiple of that, has ended so since.
func (c *Conn) ResetCode(stream uint32) (http2.ErrCode, bool) {
	c.resets.mu.Lock()
	defer c.resets.mu.Unlock()
	p := c.resets.of(stream)
	return p.code, p.stream == stream
}
