package h2

import (
	"fmt"

	"golang.org/x/net/http2"

	"github.com/framegate/framegate/relay/h2/hpack"
)

// block is a header block that is being received.
type block struct {
	stream uint32 // 0 outside of a block
	end    bool   // the HEADERS frame had END_STREAM
	loop   bool   // the HEADERS frame made the stream depend on itself
	bytes  []byte
	frames int // CONTINUATION
	began  int64
}

// contentOf returns the payload of a DATA or HEADERS frame without its padding. It reports false, and fails the connection, if
// the frame is on no stream or is malformed.
func (c *Conn) contentOf(f *frame) ([]byte, bool) {
	if f.stream == 0 {
		c.fail(http2.ErrCodeProtocol, BadProtocol, f.typ.String()+" on stream 0")
		return nil, false
	}
	if f.has(flagPadded) && len(f.payload) == 0 { // RFC 9113 §4.2
		c.fail(http2.ErrCodeFrameSize, BadProtocol, f.typ.String()+" too short for its padding")
		return nil, false
	}
	p, ok := f.unpadded()
	if !ok {
		c.fail(http2.ErrCodeProtocol, BadProtocol, f.typ.String()+" with more padding than payload")
	}
	return p, ok
}

// receiveHeaders takes a HEADERS frame (RFC 9113 §6.2).
func (c *Conn) receiveHeaders(f *frame) {
	p, ok := c.contentOf(f)
	if !ok {
		return
	}
	loop := false
	if f.has(flagPriority) {
		if len(p) < 5 {
			c.fail(http2.ErrCodeFrameSize, BadProtocol, "HEADERS too short for its priority")
			return
		}
		loop, p = dependsOn(p) == f.stream, p[5:]
	}
	if !f.has(flagEndHeaders) {
		c.block = block{stream: f.stream, end: f.has(flagEndStream), loop: loop, bytes: append(c.block.bytes[:0], p...), began: c.now}
		return
	}
	c.receiveBlock(f.stream, p, f.has(flagEndStream), loop)
}

// receiveContinuation takes a CONTINUATION frame (RFC 9113 §6.10).
func (c *Conn) receiveContinuation(f *frame) {
	b := &c.block
	if b.stream == 0 {
		c.fail(http2.ErrCodeProtocol, BadProtocol, "CONTINUATION without HEADERS")
		return
	}
	b.frames++
	switch l := &c.cfg.Limits; {
	case b.frames > l.ContinuationFrames:
		c.fail(http2.ErrCodeEnhanceYourCalm, TooManyContinuations, fmt.Sprintf("a header block of more than %d CONTINUATION frames", l.ContinuationFrames))
		return
	case len(b.bytes)+len(f.payload) > l.HeaderBlockBytes:
		c.fail(http2.ErrCodeEnhanceYourCalm, HeadersTooLong, fmt.Sprintf("a header block of more than %d bytes", l.HeaderBlockBytes))
		return
	}
	b.bytes = append(b.bytes, f.payload...)
	if !f.has(flagEndHeaders) {
		return
	}
	stream := b.stream
	b.stream = 0
	c.receiveBlock(stream, b.bytes, b.end, b.loop)
	if cap(b.bytes) > maxFrameLen {
		b.bytes = nil
	}
}

// receiveBlock takes a whole header block. It is decoded whatever becomes of the stream, because the HPACK table must stay in
// step with the peer's (RFC 9113 §4.3).
func (c *Conn) receiveBlock(id uint32, p []byte, end, loop bool) {
	s, how := c.streams.get(id), unknown
	if s == nil {
		if how = c.outcomeOf(id); !c.admitsHeaders(id, how) {
			return
		}
	}
	kind := kindOf(s, c.server)
	h, problem, err := c.decode(p, kind, end, c.cfg.MaxHeaderList)
	if err != nil {
		c.fail(http2.ErrCodeCompression, BadCompression, err.Error())
		return
	}
	switch {
	case s != nil:
		c.headOf(s, h, kind, problem, loop)
	case how == idle:
		c.openPeers(id, h, problem, loop)
	default:
		c.frameOfReset(id, how, otherFrames)
	}
}

// outcomeOf returns what has become of a stream that is not open.
func (c *Conn) outcomeOf(id uint32) outcome {
	if c.isIdle(id) {
		return idle
	}
	how := c.recent.get(id)
	if how == unknown && (!c.server || c.leaving && id > c.leaveID) {
		return wasReset // on a client: it leaves no stream out. On a server: it was opened too late
	}
	return how
}

// admitsHeaders reports whether HEADERS may come on a stream that is not open, and fails the connection otherwise.
func (c *Conn) admitsHeaders(id uint32, how outcome) bool {
	switch {
	case how == wasEnded:
		c.fail(http2.ErrCodeStreamClosed, BadProtocol, fmt.Sprintf("HEADERS on stream %d, which has ended", id)) // RFC 9113 §5.1
		return false
	case how == unknown, how == idle && (!c.server || id&1 == 0):
		c.fail(http2.ErrCodeProtocol, BadProtocol, fmt.Sprintf("HEADERS on stream %d, which the peer may not open", id)) // RFC 9113 §5.1.1
		return false
	}
	return true
}

// frameOfReset takes HEADERS of a stream that either end has reset, and DATA that has no payload or that the peer has sent
// after its RST_STREAM (RFC 9113 §5.1).
func (c *Conn) frameOfReset(id uint32, how outcome, k kind) {
	if c.spend(k) && how == peerReset {
		c.out = appendReset(c.out, id, http2.ErrCodeStreamClosed)
		c.wake()
	}
}

// openPeers opens a stream for a request.
func (c *Conn) openPeers(id uint32, h *Head, problem string, loop bool) {
	c.lastID = id
	if c.leaving {
		return // RFC 9113 §6.8: the peer will try elsewhere
	}
	c.budget.earn(2)
	c.budget.opened++
	if uint32(c.streams.n) >= c.cfg.MaxConcurrentStreams {
		c.refuse(id)
		return
	}
	s := c.events.Opened()
	c.open(s, id)
	c.headOf(s, h, requestHead, problem, loop)
}

// refuse refuses a stream (RFC 9113 §5.1.2).
func (c *Conn) refuse(id uint32) {
	c.out = appendReset(c.out, id, http2.ErrCodeRefusedStream)
	c.recent.add(id, wasReset)
	c.wake()
	c.events.Refused()
	c.spend(refusedStreams)
}

// open puts a stream into the table.
func (c *Conn) open(s *Stream, id uint32) {
	owner := s.Owner
	*s = Stream{Owner: owner, conn: c, id: id, in: headers, out: headers, sendWindow: c.initialWindow, recvWindow: int32(c.cfg.StreamWindow), left: -1, opened: c.now}
	c.streams.put(s)
}

// Open opens a stream with a request. The caller has seen that there is room for it (MaxStreams, IDsLeft, Unsent), that the peer has
// not sent a GOAWAY, and that the connection has not failed. It is for clients.
func (c *Conn) Open(s *Stream, fields []*hpack.Field, end bool) {
	id := c.lastID + 2
	if c.lastID == 0 {
		id = 1
	}
	c.lastID = id
	c.budget.opened++
	c.open(s, id)
	s.WriteHeaders(fields, end)
}

// OpenedAt says when the last stream was opened, for the time may have gone on since the last Receive or Tick. It is for clients.
func (c *Conn) OpenedAt(now int64) {
	if s := c.streams.get(c.lastID); s != nil {
		s.opened = now
	}
}

// IDsLeft returns how many streams a client can still open, because identifiers are used once (RFC 9113 §5.1.1).
func (c *Conn) IDsLeft() int { return int(maxWindow-c.lastID) / 2 }

// headOf takes a header block for a stream that is open. loop says that the HEADERS frame made the stream depend on itself.
func (c *Conn) headOf(s *Stream, h *Head, kind headKind, problem string, loop bool) {
	tooLarge := problem == tooLong
	switch {
	case s.in == ended:
		c.streamError(s, http2.ErrCodeStreamClosed, "HEADERS after END_STREAM")
		return
	case loop:
		problem = "a stream that depends on itself" // RFC 7540 §5.3.1
	case kind == trailerHead && !h.End:
		problem = "trailers without END_STREAM" // RFC 9113 §8.1
	case tooLarge:
		problem = ""
	}
	informational := kind == answerHead && h.Status >= 100 && h.Status < 200
	if problem == "" && informational && (h.End || h.Status == 101) {
		problem = "an informational answer with END_STREAM, or 101" // RFC 9113 §8.1 and §8.6
	}
	switch {
	case problem != "" && kind == requestHead:
		c.malformedRequest(s, h, problem)
		return
	case problem != "":
		c.streamError(s, http2.ErrCodeProtocol, problem)
		return
	case informational:
		if c.spend(otherFrames) {
			c.events.Head(s, h)
		}
		return
	case kind != trailerHead:
		s.in, s.left = open, h.ContentLength
	}
	if h.End && !c.endReceived(s) {
		return
	}
	if tooLarge {
		h = nil
	}
	id := s.id
	c.events.Head(s, h)
	c.doneIfEnded(s, id)
}

// malformedRequest lets the owner answer a request that is malformed, and then resets its stream (RFC 9113 §8.1.1).
func (c *Conn) malformedRequest(s *Stream, h *Head, problem string) {
	id := s.id
	c.events.Head(s, &Head{Fields: h.Fields, End: h.End, ContentLength: -1, Problem: problem})
	if s.conn == c && s.id == id && s.in != closed {
		c.streamError(s, http2.ErrCodeProtocol, problem)
		return
	}
	c.spend(provokedResets)
}

// endReceived notes END_STREAM. It reports false, and resets the stream, if content-length says that there should be more.
func (c *Conn) endReceived(s *Stream) bool {
	if s.left > 0 {
		c.streamError(s, http2.ErrCodeProtocol, "less DATA than content-length says")
		return false
	}
	s.in = ended
	return true
}

// doneIfEnded takes a stream out of the connection when both of its directions have ended. The owner may have reset it in the
// call of Events before, and use its memory for another: that one has another connection or id.
func (c *Conn) doneIfEnded(s *Stream, id uint32) {
	if s.conn == c && s.id == id && s.in == ended && s.out == ended {
		c.recent.add(id, wasEnded)
		c.forget(s)
		c.events.Done(s)
	}
}

// receiveData takes a DATA frame (RFC 9113 §6.1).
func (c *Conn) receiveData(f *frame) {
	n := int32(len(f.payload))
	p, ok := c.contentOf(f)
	if !ok {
		return
	}
	if c.recvWindow -= n; c.recvWindow < 0 {
		c.fail(http2.ErrCodeFlowControl, BadFlowControl, "more DATA than the connection's window")
		return
	}
	c.recvOwed += n
	c.giveConnCredit()
	s := c.streams.get(f.stream)
	if s == nil {
		c.dataOfNone(f.stream, len(p))
		return
	}
	end := f.has(flagEndStream)
	if len(p) == 0 && !end {
		if !c.spend(emptyData) {
			return
		}
	} else {
		c.budget.earn(1)
	}
	s.recvWindow -= n
	switch {
	case s.in == ended:
		c.streamError(s, http2.ErrCodeStreamClosed, "DATA after END_STREAM")
		return
	case s.in == headers:
		c.streamError(s, http2.ErrCodeProtocol, "DATA before HEADERS")
		return
	case s.recvWindow < 0:
		c.streamError(s, http2.ErrCodeFlowControl, "more DATA than the stream's window")
		return
	case s.left >= 0 && int64(len(p)) > s.left:
		c.streamError(s, http2.ErrCodeProtocol, "more DATA than content-length says")
		return
	}
	if s.left >= 0 {
		s.left -= int64(len(p))
	}
	if end && !c.endReceived(s) {
		return
	}
	if padding := n - int32(len(p)); padding > 0 { // it is consumed
		s.owed += padding
		s.giveCredit()
	}
	c.events.Data(s, p, end)
	c.doneIfEnded(s, f.stream)
}

// giveConnCredit raises the connection's window by what has come: only streams hold DATA, so that one that does not move
// holds up no other. It waits while the memory for DATA is used up.
func (c *Conn) giveConnCredit() {
	if c.recvOwed < int32(c.cfg.ConnWindow/2) || c.memory.budget.Full() {
		return
	}
	c.out = appendWindowUpdate(c.out, 0, uint32(c.recvOwed))
	c.recvWindow += c.recvOwed
	c.recvOwed = 0
	c.wake()
}

// dataOfNone takes DATA of a stream that is not open.
func (c *Conn) dataOfNone(id uint32, n int) {
	switch how := c.outcomeOf(id); {
	case how == idle:
		c.fail(http2.ErrCodeProtocol, BadProtocol, fmt.Sprintf("DATA on stream %d, which was never opened", id)) // RFC 9113 §5.1
	case how == wasEnded, how == unknown:
		c.fail(http2.ErrCodeStreamClosed, BadProtocol, fmt.Sprintf("DATA on stream %d, which has ended", id))
	case how == wasReset && n > 0:
		// It was under way when the stream was reset, and costs this end less than DATA of an open stream. A stream of small
		// messages has many frames under way, so it is not charged.
	case n > 0:
		c.frameOfReset(id, how, otherFrames)
	default:
		c.frameOfReset(id, how, emptyData)
	}
}

// isIdle reports whether a stream was never opened.
func (c *Conn) isIdle(id uint32) bool { return id&1 == 0 || id > c.lastID }

// streamError resets a stream because of an error of the peer's.
func (c *Conn) streamError(s *Stream, code http2.ErrCode, text string) {
	s.Reset(code)
	c.events.Reset(s, &Reset{Code: code, Text: text})
	c.spend(provokedResets)
}
