// Package h2conn is the connection that framegate puts under a Kitex nphttp2 client transport. It reads in large pieces
// (reader.go); it removes or rewrites header blocks that the transport cannot handle (blocks.go, answers.go); it follows the
// peer's frames (follower.go, observer.go) for what the transport does not tell, such as how a stream was reset (reset.go);
// it sends keepalive pings (keepalive.go) within the limits of gRPC servers; and it finds out when the transport has
// panicked (crash.go).
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

	"github.com/framegate/framegate/pool/transport"
)

// Conn is one HTTP/2 client connection. Only the transport above it reads; the transport and the keepalive write.
type Conn struct {
	net.Conn
	reader   *Reader
	observer observer

	wmu           sync.Mutex // serializes Write; held only while the socket takes the bytes
	inHeaderBlock bool       // guarded by wmu: a CONTINUATION frame must come next
	pingIsDue     bool       // guarded by wmu: a ping waits for the end of the header block

	pmu    sync.Mutex // guards closed, and the starting of pings
	closed bool
	pings  sync.WaitGroup // the goroutines that write a ping

	over     chan struct{} // closed by end; see Over
	overOnce sync.Once

	name        string        // the transport's RemoteService; see Name
	crashed     chan struct{} // closed by crash; see Crashed
	crashOnce   sync.Once
	unsubscribe func() // ends the calls of crash

	settings chan struct{} // closed when the transport has handled the peer's first SETTINGS frame
	changed  func()        // called when maxStreams has changed; may be nil

	// maxStreams and opening make sure that NewStream of the transport never waits for a stream; see Reserve.
	maxStreams atomic.Uint32
	opening    sync.RWMutex // held for reading while a stream is being opened

	// Owned by the goroutine that reads:
	announced      uint32 // the limit on streams that the transport has when it has handled the frames read so far
	unlimited      uint32 // the limit that the transport takes from a first SETTINGS frame without one
	settingsSeen   bool   // the first SETTINGS frame was read
	settingsSignal bool   // settings is closed

	calls atomic.Uint64 // DATA and HEADERS frames received
	pongs atomic.Uint64 // answers received to pings of the keepalive

	resets resets
}

// maxBlockBytes is how long a header block may be on the wire before the connection ends, unless maxHeaderBytes is large.
// gRPC libraries do not accept longer blocks by default.
const maxBlockBytes = 16 << 20

// New returns a Conn over nc, which it takes over. A stream with a header block of more than maxHeaderBytes ends; see
// transport.HeadersTooLarge. The transport must accept header blocks of maxHeaderBytes. changed, if not nil, is called by the
// goroutine that reads each time MaxStreams has changed; it must not block.
func New(nc net.Conn, maxHeaderBytes uint32, changed func()) *Conn {
	c := &Conn{
		Conn: nc, over: make(chan struct{}), crashed: make(chan struct{}), settings: make(chan struct{}), changed: changed, unlimited: math.MaxUint32,
	}
	addr := nc.RemoteAddr().String()
	c.name = uniqueName(addr)
	c.unsubscribe = SubscribeCrashes(gofunc.Info{RemoteService: c.name, RemoteAddr: addr}, c.crash)
	c.observer.to = c
	blocks := NewBlocks(socket{c}, BlocksConfig{Judge: answers{c}, MaxList: maxHeaderBytes, MaxBytes: max(maxBlockBytes, 2*int(maxHeaderBytes))})
	c.reader = NewReader(blocks, c.observer.observe)
	return c
}

// socket reads from the peer's socket, for the Blocks.
type socket struct{ c *Conn }

// Read implements io.Reader. It is called only when the transport needs bytes behind the last whole frame, so that the
// transport has handled all frames read before.
func (s socket) Read(p []byte) (int, error) {
	s.c.transportCaughtUp()
	return s.c.Conn.Read(p)
}

// Reader returns the connection's reader. Kitex looks for a method of this name.
func (c *Conn) Reader() netpoll.Reader { return c.reader }

// Read implements net.Conn over the same buffer as Reader.
func (c *Conn) Read(p []byte) (int, error) { return c.reader.Read(p) }

// Write implements net.Conn. Each Write of Kitex has whole frames, because its Framer writes each frame at once and its
// write buffer is flushed only between two frames. So a ping may be sent between two Writes, unless the first ends within a
// header block.
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
		_, _ = c.Conn.Write(pingFrame) // if it fails, so will the next Write
	}
	return n, nil
}

// endsInHeaderBlock reports whether the last of the frames in p is a HEADERS or CONTINUATION without END_HEADERS, which only a
// CONTINUATION may follow (RFC 9113 §6.10). The client preface, which is not a frame, reads as a frame of an unknown type.
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

// writePing writes a ping. Within a header block it leaves that to the Write that ends the block.
func (c *Conn) writePing() {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	if c.inHeaderBlock {
		c.pingIsDue = true
		return
	}
	_, _ = c.Conn.Write(pingFrame) // if it fails, ping gets no answer
}

// Close closes the connection and waits for a ping that is being written. It may be called more than once.
func (c *Conn) Close() error {
	err := c.Conn.Close()
	c.unsubscribe()
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

// Name returns a unique name, which the transport must get as its RemoteService: by it Crashed finds the transport that has
// panicked.
func (c *Conn) Name() string { return c.name }

// Crashed returns a channel that is closed when a goroutine of the transport has ended with a panic. Over is closed then,
// too. The transport does nothing any more: its owner must close it at once.
func (c *Conn) Crashed() <-chan struct{} { return c.crashed }

// Over returns a channel that is closed when the connection was closed, a Write has failed, or the transport has crashed.
// The transport's owner must close the transport soon after that. Kitex's transport usually closes itself, but not if it had
// 50 answers to the peer in its queue: then its reader waits for its writer, which has ended.
func (c *Conn) Over() <-chan struct{} { return c.over }

// Settings returns a channel that is closed when the transport has handled the peer's first SETTINGS frame: the peer speaks
// HTTP/2.
func (c *Conn) Settings() <-chan struct{} { return c.settings }

// MaxStreams returns the peer's MAX_CONCURRENT_STREAMS (RFC 9113 §6.5.2) as the transport knows it: math.MaxUint32 if the
// peer set none, and 0 before Settings is closed.
func (c *Conn) MaxStreams() uint32 { return c.maxStreams.Load() }

// Heard returns the number of DATA and HEADERS frames and of answers to keepalive pings that the peer has sent.
func (c *Conn) Heard() uint64 { return c.calls.Load() + c.pongs.Load() }

// Reserve says that the caller is about to open a stream. After Reserve, the caller compares its number of streams with
// MaxStreams; it calls Unreserve when the stream is open or was not opened. Between the two calls, a SETTINGS frame with a
// lower limit does not reach the transport. MaxStreams returns a higher limit only when the transport knows it. So NewStream
// never waits for a caller that keeps within MaxStreams.
func (c *Conn) Reserve() { c.opening.RLock() }

// Unreserve ends a Reserve.
func (c *Conn) Unreserve() { c.opening.RUnlock() }

// onSettings is called before the transport handles the SETTINGS frame. It waits for the reservations that a lower limit may
// concern.
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
		c.opening.Lock() // waits until callers that have compared with the higher limit have opened their streams
		c.maxStreams.Store(c.announced)
		c.opening.Unlock()
		if c.changed != nil {
			c.changed()
		}
	}
}

// onSettingsAck is called for a SETTINGS frame with ACK. If it comes before any other SETTINGS, the transport takes it for
// the peer's first SETTINGS, and keeps its default limit when the next one sets none.
func (c *Conn) onSettingsAck() {
	const transportDefault = 100 // defaultMaxStreamsClient of Kitex's nphttp2/grpc
	if !c.settingsSeen {
		c.unlimited = transportDefault
	}
}

// transportCaughtUp is called when the transport has handled all frames read so far.
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

func (c *Conn) onBareEnd(stream uint32) { c.resets.add(stream, transport.BareEnd) }

func (c *Conn) onReset(stream uint32, code http2.ErrCode) { c.resets.add(stream, code) }
