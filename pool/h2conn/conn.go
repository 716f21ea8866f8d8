// Package h2conn is the connection that framegate puts under a Kitex nphttp2 client transport. It reads in large pieces
// (reader.go), keeps from it what it cannot take (blocks.go, answers.go), follows the peer's frames (follower.go,
// observer.go) to learn what the transport keeps to itself, and keeps the connection alive (keepalive.go) within what
// gRPC servers allow.
//
// Enter at New; then conn.go.
package h2conn

import (
	"math"
	"net"
	"sync"
	"sync/atomic"

	"github.com/cloudwego/kitex/pkg/gofunc"
	"github.com/cloudwego/netpoll"
	"golang.org/x/net/http2"
)

// Conn is one HTTP/2 client connection. The transport above it is the only reader; writes may come from the transport
// and from the keepalive.
type Conn struct {
	net.Conn
	reader   *Reader
	observer observer

	wmu           sync.Mutex // serializes Write; held only while the socket takes the bytes
	inHeaderBlock bool       // guarded by wmu: a CONTINUATION frame must come next
	pingIsDue     bool       // guarded by wmu: a ping waits for the end of the header block

	pmu    sync.Mutex // guards closed, and the starting of pings
	closed bool
	pings  sync.WaitGroup // those that are being written

	over     chan struct{} // closed by end
	overOnce sync.Once

	name      string        // for the transport, see Name
	crashed   chan struct{} // closed by crash
	crashOnce sync.Once
	unwatch   func() // does not call crash any more

	settings chan struct{} // closed when the transport has the peer's first SETTINGS frame
	changed  func()        // called when maxStreams has changed; nil for nobody

	// maxStreams and opening keep a NewStream of the transport from ever waiting for a slot: see Reserve.
	maxStreams atomic.Uint32
	opening    sync.RWMutex // held for reading while a stream is being opened

	// Owned by the reader:
	announced      uint32 // the limit that the transport has, or will have when it has handled the frames read so far
	unlimited      uint32 // what a first SETTINGS frame without the limit means to the transport
	settingsSeen   bool   // the first SETTINGS frame has been read,
	settingsSignal bool   // and settings is closed

	calls atomic.Uint64 // DATA and HEADERS frames that came in; Heard and the keepalive read it
	pongs atomic.Uint64 // answers to our own pings

	resets resets
}

// maxBlockBytes bounds a header block from a peer: it is what gRPC libraries allow at most by themselves.
const maxBlockBytes = 16 << 20

// New wraps nc. It owns nc from here on. A call whose header blocks are longer than maxHeaderBytes ends, see
// HeadersTooLarge; the transport must take blocks of that length. changed, if not nil, is called from the reading
// goroutine each time MaxStreams has changed; it must not block.
func New(nc net.Conn, maxHeaderBytes uint32, changed func()) *Conn {
	c := &Conn{
		Conn: nc, over: make(chan struct{}), crashed: make(chan struct{}), settings: make(chan struct{}), changed: changed, unlimited: math.MaxUint32,
	}
	addr := nc.RemoteAddr().String()
	c.name = uniqueName(addr)
	c.unwatch = WatchCrashes(gofunc.Info{RemoteService: c.name, RemoteAddr: addr}, c.crash)
	c.observer.to = c
	blocks := NewBlocks(socket{c}, BlocksConfig{Judge: answers{c}, MaxList: maxHeaderBytes, MaxBytes: max(maxBlockBytes, 2*int(maxHeaderBytes))})
	c.reader = NewReader(blocks, c.observer.observe)
	return c
}

// socket is what the Reader reads from, through the Blocks.
type socket struct{ c *Conn }

// Read comes only when the transport needs bytes beyond the last whole frame that it can have: it has handled every frame
// read so far, or that was made of what was read.
func (s socket) Read(p []byte) (int, error) {
	s.c.transportCaughtUp()
	return s.c.Conn.Read(p)
}

// Reader gives the transport its reader (Kitex asks for it by this name).
func (c *Conn) Reader() netpoll.Reader { return c.reader }

// Read implements net.Conn over the same buffer as Reader.
func (c *Conn) Read(p []byte) (int, error) { return c.reader.Read(p) }

// Write implements net.Conn. Kitex hands over whole frames: its Framer writes each frame at once and its write buffer
// flushes only between such writes. So a ping may go between two Writes, unless they part a header block.
func (c *Conn) Write(p []byte) (int, error) {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	n, err := c.Conn.Write(p)
	if err != nil {
		c.end()
		return n, err
	}
	c.inHeaderBlock = endsInHeaderBlock(p)
	if c.pingIsDue && !c.inHeaderBlock {
		c.pingIsDue = false
		_, _ = c.Conn.Write(pingFrame) // if it fails, the next Write does
	}
	return n, nil
}

// endsInHeaderBlock reports whether the last of the frames in p is HEADERS or CONTINUATION without END_HEADERS: only a
// CONTINUATION may follow it (RFC 9113 §6.10). The client preface, which is no frame, reads as one of an unknown type.
func endsInHeaderBlock(p []byte) bool {
	var last []byte
	for len(p) >= frameHeaderLen {
		last = p
		p = p[min(len(p), frameHeaderLen+payloadLen(p)):]
	}
	if last == nil {
		return false
	}
	typ, flags := http2.FrameType(last[3]), http2.Flags(last[4])
	return (typ == http2.FrameHeaders || typ == http2.FrameContinuation) && !flags.Has(http2.FlagHeadersEndHeaders)
}

// writePing writes a ping, or leaves it to the Write that ends the header block under way.
func (c *Conn) writePing() {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	if c.inHeaderBlock {
		c.pingIsDue = true
		return
	}
	_, _ = c.Conn.Write(pingFrame) // if it fails, no answer comes
}

// Close closes the connection and waits for a ping that is being written. It may be called more than once.
func (c *Conn) Close() error {
	err := c.Conn.Close()
	c.unwatch()
	c.end()
	c.pmu.Lock()
	c.closed = true
	c.pmu.Unlock()
	c.pings.Wait()
	return err
}

func (c *Conn) end() { c.overOnce.Do(func() { close(c.over) }) }

func (c *Conn) crash() {
	c.crashOnce.Do(func() { close(c.crashed) })
	c.end()
}

// Name is what the transport must get as its RemoteService: it tells whose transport has crashed.
func (c *Conn) Name() string { return c.name }

// Crashed is closed when a goroutine of the transport has ended with a panic. Over is closed then too. Nothing moves on
// the connection any more: whoever owns the transport must close it at once.
func (c *Conn) Crashed() <-chan struct{} { return c.crashed }

// Over is closed when the connection was closed, a Write has failed, or the transport has crashed. Kitex's transport closes itself then, unless it
// had 50 answers to the peer in its queue (resets, mostly): its reader waits for its writer to send them, and its writer
// has ended. Whoever owns the transport must close it soon after Over.
func (c *Conn) Over() <-chan struct{} { return c.over }

// Settings is closed when the transport has the peer's first SETTINGS frame: the peer speaks HTTP/2.
func (c *Conn) Settings() <-chan struct{} { return c.settings }

// MaxStreams is the peer's MAX_CONCURRENT_STREAMS as the transport knows it, math.MaxUint32 if it set none (RFC 9113
// §6.5.2), and 0 before Settings is closed.
func (c *Conn) MaxStreams() uint32 { return c.maxStreams.Load() }

// Heard counts what has come from the peer: DATA and HEADERS frames and answers to our own pings. It grows with each.
func (c *Conn) Heard() uint64 { return c.calls.Load() + c.pongs.Load() }

// Reserve announces that the caller is about to open a stream. The caller compares its number of streams with
// MaxStreams after Reserve and calls Unreserve when the stream is open or given up. While any reservation is held the
// transport does not learn of a lower limit, and MaxStreams tells of a higher one only when the transport knows it, so a
// caller that is within the limit never waits in NewStream.
func (c *Conn) Reserve() { c.opening.RLock() }

// Unreserve ends a Reserve.
func (c *Conn) Unreserve() { c.opening.RUnlock() }

// onSettings comes before the transport handles the frame.
func (c *Conn) onSettings(maxStreams uint32, set bool) {
	first := !c.settingsSeen
	c.settingsSeen = true
	switch {
	case set:
		c.announced = maxStreams
	case first:
		c.announced = c.unlimited
	}
	if c.announced < c.maxStreams.Load() {
		c.opening.Lock() // those who saw the higher limit have opened their streams
		c.maxStreams.Store(c.announced)
		c.opening.Unlock()
		if c.changed != nil {
			c.changed()
		}
	}
}

// onSettingsAck before any SETTINGS: the transport takes this frame for the peer's first, and does not raise its own
// limit when the next sets none.
func (c *Conn) onSettingsAck() {
	const transportDefault = 100 // defaultMaxStreamsClient of Kitex's nphttp2/grpc
	if !c.settingsSeen {
		c.unlimited = transportDefault
	}
}

// transportCaughtUp says that the transport has handled every frame read so far.
func (c *Conn) transportCaughtUp() {
	if c.announced > c.maxStreams.Load() {
		c.maxStreams.Store(c.announced)
		if c.changed != nil {
			c.changed()
		}
	}
	if c.settingsSeen && !c.settingsSignal {
		c.settingsSignal = true
		close(c.settings)
	}
}

func (c *Conn) onPong(data [8]byte) {
	if data == pingData {
		c.pongs.Add(1)
	}
}

func (c *Conn) onCall() { c.calls.Add(1) }

func (c *Conn) onBareEnd(stream uint32) { c.resets.add(stream, BareEnd) }

func (c *Conn) onReset(stream uint32, code http2.ErrCode) { c.resets.add(stream, code) }
