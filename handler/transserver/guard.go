package transserver

import (
	"encoding/binary"
	"math"
	"sync/atomic"
	"time"

	"golang.org/x/net/http2"

	"github.com/framegate/framegate/pool/h2conn"
)

// Offence is a kind of misbehaviour for which a client's connection is ended.
type Offence struct {
	Name string        // also the debug data of the GOAWAY
	code http2.ErrCode // of the GOAWAY; that of BadHeaders depends on what is wrong with the block
}

// The offences. Kitex's transport would bear some of them without a bound, and could not go on after the others.
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

// Bounds that a client without bad intent stays far below.
const (
	// firstBudget is how many control frames a connection may send at its start; see guard.
	firstBudget = 1000

	// maxBudget bounds how many control frames a connection may save up.
	maxBudget = 10_000

	// budgetRate is how many control frames a connection may send a second, whatever else it does.
	budgetRate = 200

	// streamsSlack is added to bounds that are derived from max_concurrent_streams, which may be small.
	streamsSlack = 100

	// rapid is the age of a stream under which a reset counts as rapid.
	rapid = 10 * time.Millisecond

	// minBlock is how long a header block may be even if max_header_bytes is less. The guard does not hold the block in
	// memory, and a block that is over max_header_bytes ends only its call.
	minBlock = 1 << 20
)

// guard protects Kitex's HTTP/2 transport, which trusts clients. It sees every byte before the transport does, and finds the
// offences for which a connection has to end:
//
//   - TooManyResets: the client opens streams and resets them at once, or faster than their handlers end (CVE-2023-44487);
//   - TooManyControls: the client sends more control frames (PING, SETTINGS, PRIORITY, empty DATA, WINDOW_UPDATE, RST_STREAM
//     and frames of unknown types) than its budget allows. A control frame costs one; HEADERS and DATA frames in either
//     direction, and time, add to the budget;
//   - HeadersTooLong: a header block has no end (CVE-2024-27316): Kitex bounds what it keeps of it, but reads on;
//   - NotReading: the frames that Kitex queues for the client become more and more, because the client does not read;
//   - UnaskedPingAck: the client acknowledges a PING that it was not sent, which makes Kitex panic;
//   - WindowOverflow: the client raises the connection's window over 2^31-1 (RFC 9113 §6.9.1), where Kitex's would wrap
//     around.
//
// BadHeaders, a header block that cannot be decoded, is found by h2conn.Blocks. A piece is what one read of the socket
// returns. All fields but sent are owned by the goroutine that reads the connection.
type guard struct {
	// set once
	maxStreams int              // max_concurrent_streams
	maxBlock   int              // bound of a header block in bytes, with h2conn.BlockFrameCost for each frame
	now        func() time.Time // called once a piece
	running    func() int       // returns the number of calls whose handler has not returned; nil before there is a transport

	preface  int // bytes of the client preface that are still to come
	follower h2conn.Follower
	sent     sent
	offence  *Offence // the first one found; nil if there is none

	// Of the frame that is being read:
	header  h2conn.FrameHeader
	payload [8]byte // its beginning
	npay    int     // bytes of payload that are set

	// Of the piece that is being read:
	time           time.Time
	opened, resets int // streams
	rapidResets    int // the part of resets that hit streams younger than rapid
	controls       int // frames for which the transport queues an answer or other work for its writer

	// Of the connection:
	handled  uint32    // the highest stream that the transport has seen
	highest  uint32    // the highest stream read
	block    int       // length so far of the header block that is being read; 0 outside of one
	budget   int64     // control frames that may still come
	refilled time.Time // when the time that passed was last added to budget
	window   int64     // bytes that the client has allowed so far, counted from the start of the connection

	older, newer, last mark      // older is at least rapid ago; last is that of the last piece that opened streams
	resetBudget        int64     // rapid resets that may still come; see checkStreams
	resetsGrew         time.Time // when the time that passed was last added to resetBudget

	// Of a write that does not end:
	stalled       int // number of the write; see conn.writes
	stalledFrames int // sum of controls since it was first seen
}

// mark says which stream was the highest that the client had opened at a time.
type mark struct {
	stream uint32
	time   time.Time
}

// noBoundStreams stands for max_concurrent_streams if that is 0, no bound.
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

// read examines a piece, which may begin and end within a frame, before the transport sees it. writes is the value of
// conn.writes. If it returns an offence, the transport must see nothing of the piece.
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

// offend sets the offence, unless there is one already.
func (g *guard) offend(o *Offence) {
	if g.offence == nil {
		g.offence = o
	}
}

// maxResets bounds resetBudget. A client whose resetBudget is used up gets max_concurrent_streams a second.
func (g *guard) maxResets() int64 { return int64(g.maxStreams + streamsSlack) }

// checkStreams charges the resets of a piece. A call costs the server more than a reset costs the client, so a client that
// resets the streams that it has just opened could keep a server busy at little cost. A rapid reset costs two of resetBudget
// and an opened stream earns one, so that a client may reset every other call at once, as hedging does. A reset of an older
// stream, at a deadline for example, costs nothing.
//
// The handlers of streams that were reset end soon, but not at once, so the number of running handlers is bounded too.
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

// checkStall bounds the frames that a client may send while one write to it does not end, because Kitex queues answers to
// them.
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
		g.earn(2) // the stream may be reset, or half-closed by an empty DATA
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
		return true // costs nothing: End checks that it answers a PING
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

// addBlock adds a HEADERS or CONTINUATION frame to the header block that is being read.
func (g *guard) addBlock(h h2conn.FrameHeader) {
	g.block += h.Length + h2conn.BlockFrameCost
	if g.block > g.maxBlock {
		g.offend(HeadersTooLong)
	}
	if h.Flags.Has(http2.FlagHeadersEndHeaders) { // the same bit in CONTINUATION
		g.block = 0
	}
}

// earn adds n control frames to the budget.
func (g *guard) earn(n int64) { g.budget = min(g.budget+n, maxBudget) }

// spend charges a control frame. When the budget is used up, it adds what was earned by frames to the client and by time.
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

// sent follows the frames that are written to the client.
type sent struct {
	// Guarded by the connection's wmu:
	follower h2conn.Follower
	pinging  bool    // the frame that is being written is a PING without ACK
	payload  [8]byte // of that PING
	npay     int     // bytes of payload that are set
	inBlock  bool    // a CONTINUATION must come next

	// Also read by the guard:
	data   atomic.Int64 // bytes of DATA frames
	earned atomic.Int64 // control frames that the client may send for the frames it was sent, until spend adds them to the budget
	pings  atomic.Int64 // PINGs that the client has not answered
	goAway atomic.Bool  // the PING with goAwayPing was sent
}

// goAwayPing is the payload of the PING that Kitex's transport sends with its first GOAWAY, to know when the client has read
// it.
var goAwayPing = [8]byte{1, 6, 1, 8, 0, 3, 3, 9}

// answered counts an answer to a PING, and reports whether there was a PING to answer. An answer with goAwayPing is accepted
// only after that PING was sent, because Kitex panics otherwise.
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

// atBoundary reports whether what was written ends at the end of a frame and outside of a header block. wmu is held.
func (s *sent) atBoundary() bool { return s.follower.AtBoundary() && !s.inBlock }
