// Package h2 is one end of an HTTP/2 connection (RFC 9113), a server's or a client's. It does no I/O and starts no goroutine:
// bytes of the peer go in (Conn.Receive), bytes for the peer come out (Conn.Output), and Events tells its owner what happened.
// It checks every frame, keeps to the peer's windows and gives the peer credit as its owner says, and it bounds what a
// hostile peer can cost.
//
// Enter at Conn.Receive; then receive.go (HEADERS and DATA), head.go (what makes a message malformed), control.go (the other
// frames), stream.go (what the owner does with a stream), send.go (what waits for windows and for the socket), ready.go (the
// order in which streams send), queue.go (the memory of what waits), limits.go and budget.go (what a peer is charged for). heads.go has the
// header blocks that come again and again, table.go the streams that are open, and recent.go those that have ended of late. hpack has
// the fields.
//
// Everything of a connection, and of all connections that share a Memory or an hpack.Interner, is for one goroutine at a time.
package h2

import (
	"fmt"
	"math/rand/v2"

	"golang.org/x/net/http2"

	"github.com/framegate/framegate/relay/h2/hpack"
)

// Events are what a connection tells its owner. They are called within Receive, Tick, Wrote and Close, and Done and Wake within
// the methods of Stream as well. An Events may call any method of any Conn and Stream but Receive, Tick and Wrote.
//
// A stream that the owner gets with Opened, or opens with Conn.Open, comes to its end in one of three ways: Done, Reset, or
// the owner's own Stream.Reset. Nothing is told of it afterwards.
type Events interface {
	// Opened returns the memory of a stream that the peer opens, with its Owner set. Head follows. It is for servers.
	Opened() *Stream

	// Refused says that the peer has opened a stream over MaxConcurrentStreams, which was refused. It is for servers.
	Refused()

	// Head gives a header block: of a request once (see Head.Problem for one that is malformed); of an answer once for each
	// informational answer (Head.Status under 200) and once for its headers; and of trailers once. h, which is valid until Head
	// returns, is nil for a block that is longer than MaxHeaderList: the owner then resets the stream, after an answer if there is
	// to be one, and until it does what follows the block is told as usual.
	Head(s *Stream, h *Head)

	// Data gives DATA, which is p's only until Data returns, and which the owner reports to Stream.Consumed when it no longer
	// holds it. p is empty if only the end came.
	Data(s *Stream, p []byte, end bool)

	// Sent gives the DATA that has left the stream's queue, which WriteData has not counted. p is valid until Sent returns.
	Sent(s *Stream, p []byte)

	// Done says that both directions of the stream have ended. The stream is the owner's again.
	Done(s *Stream)

	// Reset says that the stream was reset, by the peer or for an error of the peer's, or has ended with the connection. The
	// stream is the owner's again. r is valid until Reset returns.
	Reset(s *Stream, r *Reset)

	// SettingsChanged says that Conn.MaxStreams may have changed. It is called at least once, when the peer's first SETTINGS
	// have come.
	SettingsChanged()

	// GoingAway says that the peer has sent a GOAWAY. A client's streams above its last one have got their Reset before.
	GoingAway(code http2.ErrCode, debug string)

	// Pong says that the peer has answered a Ping.
	Pong()

	// Wake says that there is Output, or that the connection has ended. It is called once until Conn.Flushed.
	Wake()
}

// connState is the state of a connection:
//
//	handshake -> running -> ending (a GOAWAY with an error is sent: nothing is received any more) -> over
type connState uint8

const (
	handshake connState = iota // preface or first SETTINGS have not come
	running
	ending
	over
)

// Conn is one end of a connection.
type Conn struct {
	cfg    *Config
	events Events
	memory *Memory
	server bool
	began  int64

	state   connState
	failure *ConnError // why it is ending or over
	now     int64      // of the last Receive or Tick

	streams table
	lastID  uint32    // the highest stream that the client has opened, which is the peer on a server, and this end on a client
	recent  recentIDs // how the last streams ended

	leaving  bool   // this end has sent a GOAWAY: streams above leaveID are ignored
	leaveID  uint32 // the last stream that the GOAWAY names
	peerGone bool   // the peer has sent a GOAWAY

	inbound
	outbound
}

// inbound is what a Conn knows of what it receives.
type inbound struct {
	preface int    // bytes of the client preface that have come
	settled bool   // the peer's first SETTINGS have come
	acked   bool   // the peer has acknowledged the SETTINGS of this end
	partial []byte // the beginning of a frame that is not complete
	since   int64  // when partial was begun
	heard   int64  // when the last frame of the peer was whole

	decoder *hpack.Decoder
	block   block // that has begun and not ended
	head    Head  // of the last block that heads has not
	heads   keptHeads
	budget  budget

	recvWindow int32 // bytes of DATA that the peer may send on the connection
	recvOwed   int32 // bytes of DATA that came, and for which it has no credit yet
}

// outbound is what a Conn knows of what it sends.
type outbound struct {
	out       []byte
	written   int  // bytes of out that the socket has taken
	counted   int  // bytes of out that Budget.Held counts
	awake     bool // Events.Wake was called since the last Flushed
	encoder   *hpack.Encoder
	blockLost bool // a header block was not written, because too much waits: the connection is to fail

	sendWindow    int64     // bytes of DATA that this end may send on the connection
	initialWindow int32     // of streams: the peer's SETTINGS_INITIAL_WINDOW_SIZE
	maxStreams    uint32    // the peer's SETTINGS_MAX_CONCURRENT_STREAMS
	ready         readyList // streams with DATA that may be sent as soon as there is room
	pings         int       // that the peer has not answered
}

// initialWindow is the window of every connection, and of streams before SETTINGS say otherwise (RFC 9113 §6.9.2).
const initialWindow = 65535

// maxWindow is the largest window (RFC 9113 §6.9.1).
const maxWindow = 1<<31 - 1

// defaultTable is SETTINGS_HEADER_TABLE_SIZE before SETTINGS say otherwise (RFC 9113 §6.5.2).
const defaultTable = 4096

// noLimit is MaxStreams of a peer that names none (RFC 9113 §6.5.2).
const noLimit = 1<<31 - 1

// NewServer returns the server's end of a connection that was accepted. It has Output from the beginning, as after a Wake. cfg
// must have its defaults and stays as it is; now is the time, in nanoseconds on any clock.
func NewServer(cfg *Config, events Events, memory *Memory, fields *hpack.Interner, now int64) *Conn {
	c := newConn(cfg, events, memory, fields, now)
	c.server = true
	c.appendSettings(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: cfg.MaxConcurrentStreams})
	return c
}

// NewClient is NewServer for the client's end of a connection that was made.
func NewClient(cfg *Config, events Events, memory *Memory, fields *hpack.Interner, now int64) *Conn {
	c := newConn(cfg, events, memory, fields, now)
	c.preface = len(http2.ClientPreface) // a server sends none
	c.out = append(c.out, http2.ClientPreface...)
	c.appendSettings(http2.Setting{ID: http2.SettingEnablePush})
	return c
}

func newConn(cfg *Config, events Events, memory *Memory, fields *hpack.Interner, now int64) *Conn {
	return &Conn{
		cfg: cfg, events: events, memory: memory, began: now, now: now, streams: table{seed: rand.Uint64() | 1},
		inbound: inbound{
			heard: now, budget: newBudget(cfg, now), recvWindow: int32(cfg.ConnWindow),
			decoder: hpack.NewDecoder(fields, max(cfg.HeaderTable, defaultTable)), // until the peer has acknowledged a smaller one
		},
		outbound: outbound{awake: true, encoder: hpack.NewEncoder(), sendWindow: initialWindow, initialWindow: initialWindow, maxStreams: noLimit},
	}
}

// appendSettings sends the SETTINGS of this end and raises the connection's window.
func (c *Conn) appendSettings(own http2.Setting) {
	settings := []http2.Setting{own, {ID: http2.SettingInitialWindowSize, Val: c.cfg.StreamWindow}, {ID: http2.SettingMaxHeaderListSize, Val: c.cfg.MaxHeaderList}}
	if c.cfg.HeaderTable != defaultTable {
		settings = append(settings, http2.Setting{ID: http2.SettingHeaderTableSize, Val: c.cfg.HeaderTable})
	}
	c.out = appendHeader(c.out, 6*len(settings), http2.FrameSettings, 0, 0)
	for _, s := range settings {
		c.out = appendSetting(c.out, s.ID, s.Val)
	}
	if more := c.cfg.ConnWindow - initialWindow; more > 0 {
		c.out = appendWindowUpdate(c.out, 0, more)
	}
}

// MaxPartial bounds the length of Partial.
const MaxPartial = frameHeaderLen + maxFrameLen

// Partial returns the beginning of a frame that came with an earlier Receive: the caller puts it before the bytes that come
// next.
func (c *Conn) Partial() []byte { return c.partial }

// Receive takes bytes from the peer: Partial, and those that have come since. It keeps nothing of b. It does nothing when the
// connection has ended.
func (c *Conn) Receive(b []byte, now int64) {
	if c.state >= ending {
		return
	}
	c.now = now
	if rest := c.take(b); c.state < ending {
		if len(c.partial) == 0 || len(rest) < len(b) {
			c.since = now
		}
		c.partial = append(c.partial[:0], rest...)
		c.failIfUnread()
	}
}

// failIfUnread ends a connection whose peer leaves too much unread.
func (c *Conn) failIfUnread() {
	if c.blockLost || c.isUnread() {
		c.fail(http2.ErrCodeEnhanceYourCalm, NotReading, "too much waits for a peer that does not read")
	}
}

// isUnread reports whether more waits for the peer than DATA alone can be.
func (c *Conn) isUnread() bool {
	return c.Unsent() > c.cfg.SendLimit+frameHeaderLen+maxFrameLen+c.cfg.Limits.UnreadBytes
}

// take handles the frames in b and returns what is no whole frame.
func (c *Conn) take(b []byte) []byte {
	if c.preface < len(http2.ClientPreface) {
		n := min(len(b), len(http2.ClientPreface))
		if string(b[:n]) != http2.ClientPreface[:n] {
			c.fail(http2.ErrCodeProtocol, BadProtocol, "no HTTP/2 client preface")
			return nil
		}
		if n < len(http2.ClientPreface) {
			return b
		}
		c.preface, b = n, b[n:]
	}
	for len(b) >= frameHeaderLen && c.state < ending {
		n := payloadLen(b)
		if n > maxFrameLen {
			c.fail(http2.ErrCodeFrameSize, BadProtocol, fmt.Sprintf("a frame of %d bytes, want at most %d", n, maxFrameLen))
			return nil
		}
		if len(b) < frameHeaderLen+n {
			break
		}
		f := parseFrame(b[:frameHeaderLen+n])
		c.heard = c.now
		c.handle(&f)
		b = b[frameHeaderLen+n:]
	}
	return b
}

// handle handles a frame.
func (c *Conn) handle(f *frame) {
	switch {
	case c.block.stream != 0 && (f.typ != http2.FrameContinuation || f.stream != c.block.stream):
		c.fail(http2.ErrCodeProtocol, BadProtocol, "a header block is not followed by its CONTINUATION")
		return
	case !c.settled && (f.typ != http2.FrameSettings || f.has(flagAck)):
		c.fail(http2.ErrCodeProtocol, BadProtocol, "the first frame is no SETTINGS")
		return
	}
	switch f.typ {
	case http2.FrameData:
		c.receiveData(f)
	case http2.FrameHeaders:
		c.receiveHeaders(f)
	case http2.FrameContinuation:
		c.receiveContinuation(f)
	case http2.FrameSettings:
		c.receiveSettings(f)
	case http2.FrameWindowUpdate:
		c.receiveWindowUpdate(f)
	case http2.FrameRSTStream:
		c.receiveReset(f)
	case http2.FramePing:
		c.receivePing(f)
	case http2.FrameGoAway:
		c.receiveGoAway(f)
	case http2.FramePriority:
		c.receivePriority(f)
	case http2.FramePushPromise:
		c.fail(http2.ErrCodeProtocol, BadProtocol, "PUSH_PROMISE, though it is off")
	default:
		c.spend(unknownFrames) // RFC 9113 §4.1: unknown types are ignored
	}
}

// Tick checks what must have happened by now, and gives credit that was kept back while memory was short. It is to be called
// about once a second.
func (c *Conn) Tick(now int64) {
	c.now = now
	c.count()
	late := func(since int64, limit int64) bool { return now-since > limit }
	switch l := &c.cfg.Limits; {
	case c.state >= ending:
	case (!c.settled || !c.acked) && late(c.began, int64(l.HandshakeTimeout)):
		c.fail(http2.ErrCodeSettingsTimeout, HandshakeTooSlow, "preface and SETTINGS have not come in "+l.HandshakeTimeout.String())
	case c.block.stream != 0 && late(c.block.began, int64(l.HeaderTimeout)),
		c.beginsHeaders() && late(c.since, int64(l.HeaderTimeout)):
		c.fail(http2.ErrCodeEnhanceYourCalm, HeadersTooSlow, "a header block has not ended in "+l.HeaderTimeout.String())
	default:
		c.failIfUnread()
		c.giveConnCredit()
	}
}

// beginsHeaders reports whether a HEADERS frame has come in part.
func (c *Conn) beginsHeaders() bool {
	return c.settled && len(c.partial) > 3 && http2.FrameType(c.partial[3]) == http2.FrameHeaders
}

// fail ends the connection with an error: a GOAWAY is sent, and nothing is received any more. All streams get their Reset.
func (c *Conn) fail(code http2.ErrCode, offence Offence, text string) {
	if c.state >= ending {
		return
	}
	c.state, c.failure, c.partial = ending, &ConnError{Code: code, Offence: offence, Text: text}, nil
	c.out = appendGoAway(c.out, c.lastServed(), code, string(offence))
	c.endAll()
	c.wake()
}

// lastServed returns the last stream that a GOAWAY names. A second GOAWAY must not name a higher one (RFC 9113 §6.8).
func (c *Conn) lastServed() uint32 {
	switch {
	case !c.server:
		return 0 // a server opens no streams
	case c.leaving:
		return c.leaveID
	}
	return c.lastID
}

// Close ends the connection without another word, because its socket has been closed or is about to be. why is for the
// streams' Reset, and must not be nil. It does nothing the second time.
func (c *Conn) Close(why *ConnError) {
	if c.state == over {
		return
	}
	if c.failure == nil {
		c.failure = why
	}
	c.state, c.partial = over, nil
	c.endAll()
	c.count()
}

// endAll ends all streams with the connection.
func (c *Conn) endAll() {
	for _, s := range c.streams.all() {
		if s.conn == c && s.in != closed { // an owner may use the memory of one that it was told of
			c.forget(s)
			c.events.Reset(s, &Reset{Code: c.failure.Code, Text: c.failure.Text, Conn: c.failure})
		}
	}
}

// Failure returns why the connection is to be closed, once what is in Output has been written; nil if it goes on.
func (c *Conn) Failure() *ConnError { return c.failure }

// forget takes a stream out of the connection.
func (c *Conn) forget(s *Stream) {
	c.ready.remove(s)
	c.streams.remove(s)
	s.queue.clear(c.memory)
	s.in, s.out, s.trailers, s.ending = closed, closed, nil, false
}

// Streams returns how many streams are open.
func (c *Conn) Streams() int { return c.streams.n }

// MaxStreams returns how many streams the peer of a client allows; 2^31-1 if it names no bound, and before its SETTINGS.
func (c *Conn) MaxStreams() uint32 { return c.maxStreams }

// Settled reports whether the peer's first SETTINGS have come.
func (c *Conn) Settled() bool { return c.settled }

// Heard returns when the last frame of the peer was whole.
func (c *Conn) Heard() int64 { return c.heard }
