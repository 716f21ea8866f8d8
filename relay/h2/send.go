package h2

import (
	"golang.org/x/net/http2"

	"github.com/framegate/framegate/relay/h2/hpack"
)

// Output returns the bytes that are to be written to the peer, which are valid until the next call of another method.
func (c *Conn) Output() []byte { return c.out[c.written:] }

// Unsent returns how many bytes wait for the socket. A connection fails when they are more than SendLimit and Limits.UnreadBytes allow,
// for then its peer does not read. A client's header blocks would make them so as well, while a server is only slow to read. So a
// client's owner opens no stream, and writes no trailers, while the connection IsBusy.
func (c *Conn) Unsent() int { return len(c.out) - c.written }

// IsBusy reports whether so much waits for the peer that only control frames have room, of which at most 200 bytes a stream wait.
func (c *Conn) IsBusy() bool { return c.Unsent() > c.busyBytes() }

// IsBusyNoMore reports whether so little waits that it takes a while until the connection IsBusy again.
func (c *Conn) IsBusyNoMore() bool { return c.Unsent() < c.busyBytes()/2 }

func (c *Conn) busyBytes() int { return c.cfg.SendLimit + c.cfg.Limits.UnreadBytes/4 }

// Wrote says that the first n bytes of Output were written. DATA that has waited for the socket follows when all of them were: the
// caller looks at Output again.
func (c *Conn) Wrote(n int) {
	c.written += n
	left := c.Unsent()
	if left == 0 || c.written > max(left, c.cfg.SendLimit) {
		copy(c.out, c.out[c.written:])
		c.out, c.written = c.out[:left], 0
	}
	if left == 0 {
		c.sendReady()
	}
	c.count()
}

// count counts what waits for a socket that was full as memory that is held.
func (c *Conn) count() {
	n := c.Unsent()
	if c.state == over {
		n = 0
	}
	if n != c.counted {
		c.memory.budget.held.Add(int64(n - c.counted))
		c.counted = n
	}
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
	c.head, c.heads = Head{}, keptHeads{}
	c.encoder.Shrink()
	c.streams.shrink()
}

// roomForData reports whether DATA may be added to the output, or is to wait until the socket has taken what is there.
func (c *Conn) roomForData() bool { return c.Unsent() < c.cfg.SendLimit && c.state < ending }

// wake tells the owner that there is output.
func (c *Conn) wake() {
	if !c.awake {
		c.awake = true
		c.events.Wake()
	}
}

// Flushed says that the owner has seen the last Wake, and will not look at Output again before the next.
func (c *Conn) Flushed() { c.awake = false }

// writeBlock sends a header block in as many frames as it needs. It leaves the block out if too much waits already: as it is
// called by the owner of a stream, the connection fails only with the next Receive or Tick.
func (c *Conn) writeBlock(stream uint32, fields []*hpack.Field, end bool) {
	if c.blockLost || c.isUnread() {
		c.blockLost = true
		return
	}
	at := len(c.out)
	c.out = appendHeader(c.out, 0, http2.FrameHeaders, flagEndHeaders|endFlag(end), stream)
	c.out = c.encoder.Append(c.out, fields)
	n := len(c.out) - at - frameHeaderLen
	if n > maxFrameLen {
		c.splitBlock(at, stream)
		n = maxFrameLen
	}
	c.out[at], c.out[at+1], c.out[at+2] = byte(n>>16), byte(n>>8), byte(n)
	c.budget.sentHeaders()
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

// beginData appends the header of a DATA frame, and takes the payload, which the caller appends, from the windows.
func (c *Conn) beginData(s *Stream, n int, end bool) {
	c.out = appendHeader(c.out, n, http2.FrameData, endFlag(end), s.id)
	s.sendWindow -= int32(n)
	c.sendWindow -= int64(n)
	c.budget.sentData(n)
}

// endSent is called when END_STREAM was sent on s.
func (c *Conn) endSent(s *Stream) {
	s.out, s.ending = ended, false
	c.doneIfEnded(s, s.id)
}

// sendReady sends queued DATA, a frame of each stream in turn, as far as windows and socket allow.
func (c *Conn) sendReady() {
	for s := c.ready.first; s != nil && c.sendWindow > 0 && c.roomForData(); s = c.ready.first {
		c.ready.remove(s)
		c.sendQueued(s)
	}
}

// sendQueued sends one DATA frame of a stream's queue, and the end of the direction if that comes next.
func (c *Conn) sendQueued(s *Stream) {
	id, n := s.id, int(min(int64(s.queue.n), maxFrameLen, int64(s.sendWindow), c.sendWindow))
	last := s.ending && n == s.queue.n
	c.beginData(s, n, last && s.trailers == nil)
	c.out = s.queue.take(c.memory, c.out, n)
	sent := c.out[len(c.out)-n:]
	c.wake()
	if s.queue.n > 0 {
		c.ready.push(s)
	}
	if last {
		if s.trailers != nil {
			c.writeBlock(id, s.trailers, true)
		}
		s.out, s.ending, s.trailers = ended, false, nil
	}
	c.events.Sent(s, sent)
	c.doneIfEnded(s, id)
}
