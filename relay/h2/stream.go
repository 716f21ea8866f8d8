package h2

import (
	"iter"

	"golang.org/x/net/http2"

	"github.com/framegate/framegate/relay/h2/hpack"
)

// Stream is one stream of a connection. Its memory is the owner's, who may use it again after Events.Done or Events.Reset.
//
//	           Opened, or Conn.Open
//	                   |
//	in:   open --------+------> ended, with the peer's END_STREAM
//	out:  open --------+------> ended, with ours
//	                   |
//	      both ended: Events.Done; a reset of either side, or the connection's end: Events.Reset
//
// A stream's methods are for the goroutine that its Conn's are for.
type Stream struct {
	Owner any // for the owner's use; the connection leaves it alone

	conn    *Conn
	id      uint32
	opened  int64 // when it was opened
	in, out direction

	sendWindow int32 // below 0 if the peer has shrunk it (RFC 9113 §6.9.2)
	recvWindow int32 // DATA that the peer may send
	owed       int32 // bytes of DATA that were consumed, and for which the peer has not been given credit yet
	left       int64 // what content-length says is still to come; -1 for no content-length

	queue    queue
	trailers []*hpack.Field // to be sent behind the queue; nil for none
	ending   bool           // END_STREAM is to be sent behind the queue

	isReady    bool    // it is in Conn.ready
	prev, next *Stream // in Conn.ready
}

// direction is the state of one direction of a stream.
type direction uint8

const (
	closed  direction = iota // there is no stream
	headers                  // no HEADERS have come or were sent yet
	open                     // DATA or trailers may follow
	ended                    // END_STREAM has come or was sent
)

// ID returns the stream's identifier.
func (s *Stream) ID() uint32 { return s.id }

// Conn returns the stream's connection, or nil before it was opened.
func (s *Stream) Conn() *Conn { return s.conn }

// IsOpen reports whether the stream has neither ended in both directions nor been reset.
func (s *Stream) IsOpen() bool { return s.in != closed }

// PeerEnded reports whether the peer's direction has ended.
func (s *Stream) PeerEnded() bool { return s.in == ended }

// Answered reports whether headers were sent.
func (s *Stream) Answered() bool { return s.out >= open }

// Ended reports whether END_STREAM was sent, or is to be sent behind what is queued.
func (s *Stream) Ended() bool { return s.out == ended || s.ending }

// Queued returns how many bytes of DATA wait in the stream's queue.
func (s *Stream) Queued() int { return s.queue.n }

// IsStuck reports whether DATA waits in the queue, and none has left it in the last StuckAsks times that IsStuck was asked.
func (s *Stream) IsStuck() bool { return s.queue.isStuck() }

// isWritable reports whether anything may follow what was sent.
func (s *Stream) isWritable() bool {
	return (s.out == headers || s.out == open) && !s.ending && s.conn.state < ending
}

// WriteHeaders sends an answer's headers, behind informational ones if there are any, and before any DATA. end ends the
// direction. It and the other methods that write do nothing once the stream or its direction has ended.
func (s *Stream) WriteHeaders(fields []*hpack.Field, end bool) {
	if !s.isWritable() {
		return
	}
	s.conn.writeBlock(s.id, fields, end)
	s.out = open
	if end {
		s.conn.endSent(s)
	}
}

// WriteData sends p, as much of it at once as the windows, the socket and other streams that wait for it allow. The rest is
// copied into the stream's queue. It returns how many bytes were not queued; Events.Sent tells of the others when they have left
// the queue. end ends the direction.
func (s *Stream) WriteData(p []byte, end bool) (sent int) {
	if !s.isWritable() {
		return len(p)
	}
	if s.queue.n == 0 {
		if sent = s.writeNow(p, end); sent == len(p) {
			return sent
		}
	}
	s.queue.add(s.conn.memory, p[sent:])
	s.ending = end
	s.conn.ready.push(s)
	return sent
}

// writeNow sends what may be sent at once, and the end if that is all of p. It returns the number of bytes.
func (s *Stream) writeNow(p []byte, end bool) (sent int) {
	c := s.conn
	for {
		n := 0
		if c.ready.first == nil && c.roomForData() {
			n = int(max(0, min(int64(len(p)-sent), maxFrameLen, int64(s.sendWindow), c.sendWindow)))
		}
		last := end && sent+n == len(p)
		if n == 0 && !last {
			return sent
		}
		c.beginData(s, n, last)
		c.out = append(c.out, p[sent:sent+n]...)
		c.wake()
		sent += n
		if last {
			c.endSent(s)
			return sent
		}
	}
}

// WriteTrailers ends the direction with trailers, behind what is queued. fields are copied if they have to wait.
func (s *Stream) WriteTrailers(fields []*hpack.Field) {
	if !s.isWritable() {
		return
	}
	if s.queue.n > 0 {
		s.trailers, s.ending = append([]*hpack.Field{}, fields...), true
		return
	}
	s.conn.writeBlock(s.id, fields, true)
	s.conn.endSent(s)
}

// Queue gives the DATA that waits, in pieces that are valid until another method is called.
func (s *Stream) Queue() iter.Seq[[]byte] { return s.queue.all() }

// CutQueue drops the DATA that waits but for its first n bytes, and the end behind it, because a status of the owner's own takes its
// place. Events.Sent does not tell of what was dropped. It does nothing for a stream that is not open.
func (s *Stream) CutQueue(n int) {
	if s.in == closed {
		return
	}
	if s.queue.cut(s.conn.memory, n); s.queue.n == 0 {
		s.conn.ready.remove(s)
	}
	s.trailers, s.ending = nil, false
}

// EndNow sends the trailers that wait behind the queue at once, and drops the DATA that waits. It does nothing if no trailers wait.
func (s *Stream) EndNow() {
	if trailers := s.trailers; trailers != nil {
		s.CutQueue(0)
		s.WriteTrailers(trailers)
	}
}

// Consumed says that the owner no longer holds n bytes of the DATA that came, so that the peer may send as many more. It does
// nothing for a stream that is not open.
func (s *Stream) Consumed(n int) {
	if n == 0 || s.in == closed || s.conn.state >= ending {
		return
	}
	s.owed += int32(n)
	s.giveCredit()
	s.conn.giveConnCredit()
}

// giveCredit raises the window that the peer has when half of it is used, by a quarter of the full window or by three times what is
// left of it at least, so that WINDOW_UPDATEs are few, and a peer whose window is used up does not wait. The full window is smaller
// while memory is short.
func (s *Stream) giveCredit() {
	c := s.conn
	want := c.memory.budget.windowOf(int32(c.cfg.StreamWindow))
	if s.in == ended || s.owed == 0 || s.recvWindow > want/2 || s.owed < want/4 && s.owed/3 < s.recvWindow {
		return
	}
	n := min(s.owed, want-s.recvWindow)
	s.owed -= n
	s.recvWindow += n
	c.out = appendWindowUpdate(c.out, s.id, uint32(n))
	c.wake()
}

// Reset ends the stream, with RST_STREAM unless both directions have ended. There is no Events.Reset for it, and no
// Events.Done. It does nothing for a stream that is not open.
func (s *Stream) Reset(code http2.ErrCode) {
	if s.in == closed {
		return
	}
	c := s.conn
	bothEnded := s.in == ended && s.out == ended
	c.forget(s)
	switch {
	case bothEnded:
		c.recent.add(s.id, wasEnded)
	case c.state < ending:
		c.recent.add(s.id, wasReset)
		c.out = appendReset(c.out, s.id, code)
		c.wake()
	}
}

func endFlag(end bool) byte {
	if end {
		return flagEndStream
	}
	return 0
}
