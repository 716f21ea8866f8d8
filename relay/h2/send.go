package h2

import (
	"golang.org/x/net/http2"

	"github.com/framegate/framegate/relay/h2/hpack"
)

// Output returns the bytes that are to be written to the peer, which are valid until the next call of another method.
func (c *Conn) Output() []byte { return c.out[c.written:] }

// Wrote says that the first n bytes of Output were written. When all were, DATA that has waited for the socket follows: the
// caller looks at Output again.
func (c *Conn) Wrote(n int) {
	c.written += n
	if c.written < len(c.out) {
		if c.written > len(c.out)/2 {
			c.out, c.written = c.out[:copy(c.out, c.out[c.written:])], 0
		}
		return
	}
	c.out, c.written = c.out[:0], 0
	c.sendReady()
}

// Shrink gives back memory that the connection does not use at the moment, for one that is idle.
func (c *Conn) Shrink() {
	if len(c.out) == 0 {
		c.out = nil
	}
	if len(c.partial) == 0 {
		c.partial = nil
	}
	if c.block.stream == 0 {
		c.block.bytes = nil
	}
}

// roomForData reports whether DATA may be added to the output, or is to wait until the socket has taken what is there.
func (c *Conn) roomForData() bool { return len(c.out)-c.written < c.cfg.SendLimit && c.state != ending }

// wake tells the owner that there is output.
func (c *Conn) wake() {
	if !c.awake {
		c.awake = true
		c.events.Wake()
	}
}

// Flushed says that the owner has seen the last Wake, and will not look at Output again before the next.
func (c *Conn) Flushed() { c.awake = false }

// writeBlock sends a header block in as many frames as it needs.
func (c *Conn) writeBlock(stream uint32, fields []*hpack.Field, end bool) {
	at := len(c.out)
	c.out = appendHeader(c.out, 0, http2.FrameHeaders, flagEndHeaders|endFlag(end), stream)
	c.out = c.encoder.Append(c.out, fields)
	n := len(c.out) - at - frameHeaderLen
	if n > maxFrameLen {
		c.splitBlock(at, stream)
		n = maxFrameLen
	}
	c.out[at], c.out[at+1], c.out[at+2] = byte(n>>16), byte(n>>8), byte(n)
	c.budget.earn(2)
	c.wake()
}

// splitBlock makes a HEADERS frame that begins at at, and is too long, into one and its CONTINUATIONs.
func (c *Conn) splitBlock(at int, stream uint32) {
	rest := append([]byte(nil), c.out[at+frameHeaderLen+maxFrameLen:]...)
	c.out = c.out[:at+frameHeaderLen+maxFrameLen]
	c.out[at+4] &^= flagEndHeaders
	for len(rest) > 0 {
		n := min(len(rest), maxFrameLen)
		flags := byte(0)
		if n == len(rest) {
			flags = flagEndHeaders
		}
		c.out = append(appendHeader(c.out, n, http2.FrameContinuation, flags, stream), rest[:n]...)
		rest = rest[n:]
	}
}

// endSent is called when END_STREAM was sent on s.
func (c *Conn) endSent(s *Stream) {
	s.out, s.ending = ended, false
	if s.in == ended {
		c.done(s)
	}
}

// readyIfSendable puts a stream with queued DATA into the list of those that only the connection's window or the socket holds
// up.
func (c *Conn) readyIfSendable(s *Stream) {
	if s.isReady || s.sendWindow <= 0 {
		return
	}
	s.isReady = true
	s.prev, s.next = c.lastReady, nil
	if c.lastReady != nil {
		c.lastReady.next = s
	} else {
		c.firstReady = s
	}
	c.lastReady = s
}

func (c *Conn) unready(s *Stream) {
	if !s.isReady {
		return
	}
	s.isReady = false
	if s.prev != nil {
		s.prev.next = s.next
	} else {
		c.firstReady = s.next
	}
	if s.next != nil {
		s.next.prev = s.prev
	} else {
		c.lastReady = s.prev
	}
	s.prev, s.next = nil, nil
}

// sendReady sends queued DATA, a frame of each stream in turn, as far as windows and socket allow.
func (c *Conn) sendReady() {
	for s := c.firstReady; s != nil && c.sendWindow > 0 && c.roomForData(); s = c.firstReady {
		c.unready(s)
		c.sendQueued(s)
	}
}

// sendQueued sends one DATA frame of a stream's queue, and the end of the direction if that comes next.
func (c *Conn) sendQueued(s *Stream) {
	n := int(min(int64(s.queue.n), maxFrameLen, int64(s.sendWindow), c.sendWindow))
	end := s.ending && s.trailers == nil && n == s.queue.n
	c.out = appendHeader(c.out, n, http2.FrameData, endFlag(end), s.id)
	c.out = s.queue.take(c.memory, c.out, n)
	s.sendWindow -= int32(n)
	c.sendWindow -= int64(n)
	c.budget.earnData(n)
	c.wake()
	if s.queue.n > 0 {
		c.readyIfSendable(s)
	}
	c.events.Sent(s, n)
	switch {
	case s.in == closed || s.queue.n > 0: // the owner has reset it, or there is more
	case end:
		c.endSent(s)
	case s.trailers != nil:
		trailers := s.trailers
		s.trailers = nil
		c.writeBlock(s.id, trailers, true)
		c.endSent(s)
	}
}
