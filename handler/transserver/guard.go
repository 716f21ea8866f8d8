package transserver

import (
	"encoding/binary"
	"math"
	"sync/atomic"
	"time"

	"golang.org/x/net/http2"

	"github.com/framegate/framegate/pool/h2conn"
)

// Offence is what a client did for which its connection was ended.
type Offence struct {
	Name string        // also the debug data of the GOAWAY
	code http2.ErrCode // of the GOAWAY; for BadHeaders there are several
}

// The offences. Each is something that Kitex's transport would take without end, or nothing that it could go on after.
var (
	TooManyResets   = &Offence{"too_many_resets", http2.ErrCodeEnhanceYourCalm}
	TooManyControls = &Offence{"too_many_control_frames", http2.ErrCodeEnhanceYourCalm}
	HeadersTooLong  = &Offence{"header_block_too_long", http2.ErrCodeEnhanceYourCalm}
	BadHeaders      = &Offence{"bad_header_block", http2.ErrCodeProtocol}
	NotReading      = &Offence{"not_reading", http2.ErrCodeEnhanceYourCalm}
	UnaskedPingAck  = &Offence{"unasked_ping_ack", http2.ErrCodeProtocol}
	WindowOverflow  = &Offence{"window_overflow", http2.ErrCodeFlowControl}
	offences        = [...]*Offence{TooManyResets, TooManyControls, HeadersTooLong, BadHeaders, NotReading, UnaskedPingAck, WindowOverflow}
)

// What an honest client stays far below.
const (
	// firstBudget is how many control frames a connection may send before it has earned any.
	firstBudget = 1000

	// maxBudget bounds what a connection can have earned.
	maxBudget = 10_000

	// budgetRate is what a connection earns a second for nothing.
	budgetRate = 200

	// streamsSlack is added to bounds that are made of max_concurrent_streams, which may be small.
	streamsSlack = 100

	// rapid is the age at which it is nothing unusual that a stream is reset.
	rapid = 10 * time.Millisecond

	// minBlock is what a header block may have in any case. It is not held in memory, and what is too long of it costs
	// its call alone.
	minBlock = 1 << 20
)

// guard stands between a client and Kitex's HTTP/2 transport, which believes that clients mean well. It sees every byte
// before the transport does, and says when a connection has to end:
//
//   - a client opens streams and resets them at once, or faster than their handlers end (CVE-2023-44487): TooManyResets;
//   - it sends more frames that carry nothing (PING, SETTINGS, PRIORITY, empty DATA, WINDOW_UPDATE, RST_STREAM, unknown
//     ones) than what it calls and is sent explains. Each HEADERS and DATA frame in either direction earns some;
//   - a header block has no end (CVE-2024-27316): Kitex bounds what it keeps of it, and reads on: HeadersTooLong; one that
//     cannot be decoded is BadHeaders, but that is for h2conn.Blocks to say;
//   - what Kitex queues for a client grows while the client does not read: NotReading;
//   - it answers a PING that it was not sent, which makes Kitex panic: UnaskedPingAck;
//   - it raises the connection's window over 2^31-1 (RFC 9113 §6.9.1), where Kitex's would wrap: WindowOverflow.
//
// All but sent is owned by the goroutine that reads the connection.
type guard struct {
	// set once
	maxStreams int
	maxBlock   int              // of a header block, with h2conn.BlockFrameCost for each frame
	now        func() time.Time // asked once a piece
	running    func() int       // calls that have a handler; nil before the transport is there

	preface  int // bytes of it that are still to come
	follower h2conn.Follower
	sent     sent
	offence  *Offence // the first; it stays

	// Of the frame that is being read:
	header  h2conn.FrameHeader
	payload [8]byte // its beginning
	npay    int

	// Of the piece that is being read:
	time           time.Time
	opened, resets int // streams
	rapidResets    int
	controls       int // frames for which the transport queues something

	// Of the connection:
	handled  uint32    // the highest stream that the transport knows of
	highest  uint32    // the highest stream read
	block    int       // of the header block that is being read; 0 outside of one
	budget   int64     // control frames that may come
	refilled time.Time // when the budget was last raised for the time that passed
	window   int64     // bytes that the client allows, counted from the start

	older, newer, last mark      // the first is at least rapid ago, the last that of the last stream
	resetBudget        int64     // what is left for rapid resets
	resetsGrew         time.Time // when that was last raised for the time that passed

	// Of one write that takes its time:
	stalled       int // the write, by its number
	stalledFrames int // that came meanwhile
}

// mark says up to which stream a client had opened them at a time.
type mark struct {
	stream uint32
	time   time.Time
}

// noBoundStreams stands for max_concurrent_streams where there is none.
const noBoundStreams = 1000

func newGuard(maxStreams, maxHeaderBytes uint32) *guard {
	if maxStreams == 0 {
		maxStreams = noBoundStreams
	}
	g := &guard{
		maxStreams: int(min(maxStreams, math.MaxInt32/4)), maxBlock: int(min(2*uint64(maxHeaderBytes)+minBlock, math.MaxInt32)),
		now: time.Now, preface: len(http2.ClientPreface), budget: firstBudget, window: 65535, // RFC 9113 §6.9.2
	}
	g.follower.To, g.sent.follower.To = g, &g.sent
	g.refilled = g.now()
	g.resetsGrew, g.resetBudget = g.refilled, g.maxResets()
	return g
}

// read takes what was read from the client: whole or parts of frames, of which the transport has seen nothing. writes is
// the number of writes to the client that were begun or done, odd while one is under way. The offence, if there is one,
// means that the transport must see no more.
func (g *guard) read(p []byte, writes int) *Offence {
	n := min(g.preface, len(p))
	g.preface -= n
	g.handled = g.highest
	g.time = g.now()
	switch {
	case g.time.Sub(g.last.time) >= rapid:
		g.older, g.newer = g.last, g.last
	case g.time.Sub(g.newer.time) >= rapid:
		g.older, g.newer = g.newer, g.last
	}
	g.opened, g.resets, g.rapidResets, g.controls = 0, 0, 0, 0
	g.follower.Follow(p[n:])
	if g.opened > 0 {
		g.last = mark{g.highest, g.time}
	}
	g.checkStreams()
	g.checkStall(writes)
	return g.offence
}

func (g *guard) offend(o *Offence) {
	if g.offence == nil {
		g.offence = o
	}
}

// maxResets is how many streams a client may reset rapidly before it has to wait. It earns max_concurrent_streams a
// second.
func (g *guard) maxResets() int64 { return int64(g.maxStreams + streamsSlack) }

// checkStreams bills the resets of a piece. A call costs more than a reset, so a client that resets what it has just
// opened can keep a server busy for little. Calls that are given up later, at a deadline perhaps, cost nothing, and
// neither does it if every other call is given up at once (a hedge, say).
//
// The handlers of what was reset end soon, but not at once: their number has a bound too.
func (g *guard) checkStreams() {
	if g.opened == 0 && g.resets == 0 {
		return
	}
	g.resetBudget = min(g.resetBudget+int64(g.opened)-2*int64(g.rapidResets), g.maxResets())
	if g.resets == 0 {
		return
	}
	if g.resetBudget < 0 {
		g.resetBudget = min(g.resetBudget+int64(g.time.Sub(g.resetsGrew).Seconds()*float64(g.maxStreams)), g.maxResets())
		g.resetsGrew = g.time
	}
	if g.resetBudget < 0 || g.running != nil && g.running() > 2*g.maxStreams+streamsSlack {
		g.offend(TooManyResets)
	}
}

// checkStall bounds what is queued for a client while one write to it takes its time.
func (g *guard) checkStall(writes int) {
	if writes%2 == 0 || g.stalled != writes {
		g.stalled, g.stalledFrames = writes, 0
		return
	}
	g.stalledFrames += g.controls
	if g.stalledFrames > 4*g.maxStreams+firstBudget {
		g.offend(NotReading)
	}
}

// Begin implements h2conn.Frames.
func (g *guard) Begin(h h2conn.FrameHeader) (wantPayload bool) {
	g.header, g.npay = h, 0
	switch h.Type {
	case http2.FrameData:
		if h.Length > 0 {
			g.earn(1)
		} else {
			g.spend()
		}
		return false
	case http2.FrameHeaders:
		g.opened++
		g.controls++
		g.highest = max(g.highest, h.Stream)
		g.earn(2) // to be reset, or half-closed by an empty DATA
		g.addBlock(h)
		return false
	case http2.FrameContinuation:
		g.addBlock(h)
		return false
	case http2.FrameRSTStream:
		g.resets++
		if h.Stream > g.older.stream {
			g.rapidResets++
		}
	}
	g.controls++
	ack := h.Flags&0x1 != 0
	if h.Type == http2.FramePing && ack {
		return true // must have been asked for, and so needs no budget
	}
	g.spend()
	return h.Type == http2.FrameWindowUpdate && h.Stream == 0
}

// Payload implements h2conn.Frames.
func (g *guard) Payload(p []byte) {
	if g.npay < len(g.payload) {
		g.npay += copy(g.payload[g.npay:], p)
	}
}

// End implements h2conn.Frames.
func (g *guard) End() {
	switch {
	case g.header.Type == http2.FramePing && g.header.Flags.Has(http2.FlagPingAck):
		if !g.sent.answered(g.payload) {
			g.offend(UnaskedPingAck)
		}
	case g.header.Type == http2.FrameWindowUpdate && g.header.Stream == 0 && g.npay >= 4:
		g.window += int64(binary.BigEndian.Uint32(g.payload[:]) & math.MaxInt32)
		if g.window-g.sent.data.Load() > math.MaxInt32 {
			g.offend(WindowOverflow)
		}
	}
}

func (g *guard) addBlock(h h2conn.FrameHeader) {
	g.block += h.Length + h2conn.BlockFrameCost
	if g.block > g.maxBlock {
		g.offend(HeadersTooLong)
	}
	if h.Flags.Has(http2.FlagHeadersEndHeaders) { // the same bit in CONTINUATION
		g.block = 0
	}
}

func (g *guard) earn(n int64) { g.budget = min(g.budget+n, maxBudget) }

func (g *guard) spend() {
	if g.budget--; g.budget >= 0 {
		return
	}
	g.earn(g.sent.earned.Swap(0))
	g.earn(int64(g.time.Sub(g.refilled).Seconds() * budgetRate))
	g.refilled = g.time
	if g.budget < 0 {
		g.offend(TooManyControls)
	}
}

// sent follows what is written to the client. follower, pinging, payload, npay and inBlock are guarded by the
// connection's wmu; the rest is read by the guard.
type sent struct {
	follower h2conn.Follower
	pinging  bool // the frame that is being written is a PING without ACK
	payload  [8]byte
	npay     int
	inBlock  bool // a CONTINUATION must come next

	data   atomic.Int64 // bytes of DATA frames
	earned atomic.Int64 // control frames that the client may send for what it was sent
	pings  atomic.Int64 // without an answer
	goAway atomic.Bool  // the PING that goes with Kitex's first GOAWAY was sent
}

// goAwayPing is what Kitex's transport sends with its first GOAWAY to hear when the client has it.
var goAwayPing = [8]byte{1, 6, 1, 8, 0, 3, 3, 9}

// answered counts the answer to a PING, and reports whether there was one.
func (s *sent) answered(data [8]byte) bool {
	return s.pings.Add(-1) >= 0 && (data != goAwayPing || s.goAway.Load())
}

// Begin implements h2conn.Frames.
func (s *sent) Begin(h h2conn.FrameHeader) (wantPayload bool) {
	s.pinging, s.npay = h.Type == http2.FramePing && !h.Flags.Has(http2.FlagPingAck), 0
	switch h.Type {
	case http2.FrameData:
		s.data.Add(int64(h.Length))
		s.earned.Add(4 + int64(h.Length)/256) // windows may be given back in small pieces, and twice
	case http2.FrameHeaders, http2.FrameContinuation:
		s.inBlock = !h.Flags.Has(http2.FlagHeadersEndHeaders)
		s.earned.Add(1)
	case http2.FrameSettings:
		s.earned.Add(1)
	case http2.FramePing:
		if s.pinging {
			s.pings.Add(1)
		}
	}
	return s.pinging
}

// Payload implements h2conn.Frames.
func (s *sent) Payload(p []byte) {
	if s.npay < len(s.payload) {
		s.npay += copy(s.payload[s.npay:], p)
	}
}

// End implements h2conn.Frames.
func (s *sent) End() {
	if s.pinging && s.payload == goAwayPing {
		s.goAway.Store(true)
	}
}

// atBoundary reports whether another frame may be written now.
func (s *sent) atBoundary() bool { return s.follower.AtBoundary() && !s.inBlock }
