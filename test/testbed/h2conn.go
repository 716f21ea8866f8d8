package testbed

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

const (
	defaultWindow  = 65535   // RFC 9113 §6.9.2
	defaultFrame   = 16384   // RFC 9113 §4.2
	maxHeaderBytes = 8 << 20 // what the raw peers accept

	// creditStep is how many received bytes a raw peer collects before it sends WINDOW_UPDATE. Smaller steps would make the
	// other side send ever smaller frames.
	creditStep = defaultWindow / 4
)

var errConnOver = errors.New("testbed: the connection is over")

// H2Option is an option of a raw peer, a client or a server.
type H2Option func(*h2Options)

type h2Options struct {
	settings    []http2.Setting
	holdWindows bool
	onData      func(p []byte)
}

// Settings adds settings to the first SETTINGS frame that the peer sends.
func Settings(s ...http2.Setting) H2Option {
	return func(o *h2Options) { o.settings = append(o.settings, s...) }
}

// HoldWindows makes the peer never send WINDOW_UPDATE, so that the other side can send it only one window.
func HoldWindows() H2Option {
	return func(o *h2Options) { o.holdWindows = true }
}

// OnData makes the connection's reader goroutine call f with the payload of every DATA frame, instead of keeping it for the
// stream. f must not use p after it returns.
func OnData(f func(p []byte)) H2Option {
	return func(o *h2Options) { o.onData = f }
}

// H2Conn is an HTTP/2 connection whose frames a test sends and receives. By itself it only answers SETTINGS and PING, and
// sends WINDOW_UPDATE. Methods may be called from any goroutine.
type H2Conn struct {
	nc       net.Conn
	framer   *http2.Framer // read by serve only; written under wmu
	opts     h2Options
	accepted func(*H2Stream) // called with each stream that the peer opens; nil on a client's connection
	done     chan struct{}   // closed by serve on exit

	unreturned int // bytes received since the last WINDOW_UPDATE of the connection; owned by serve

	wmu    sync.Mutex // guards writing, henc, hbuf, nextID
	henc   *hpack.Encoder
	hbuf   bytes.Buffer
	nextID uint32

	mu            sync.Mutex    // guards what follows, and the events of all streams
	changed       chan struct{} // closed and replaced at every change of these fields
	streams       map[uint32]*H2Stream
	sendWindow    int64 // of the connection
	initialWindow int64 // of new streams
	goAway        *GoAway
	err           error // why the connection is over
}

// GoAway is the content of the peer's GOAWAY frame.
type GoAway struct {
	LastStreamID uint32
	Code         http2.ErrCode
	Debug        string
}

func newH2Conn(nc net.Conn, accepted func(*H2Stream), options []H2Option) *H2Conn {
	c := &H2Conn{
		nc:            nc,
		framer:        http2.NewFramer(nc, nc),
		accepted:      accepted,
		done:          make(chan struct{}),
		nextID:        1,
		changed:       make(chan struct{}),
		streams:       map[uint32]*H2Stream{},
		sendWindow:    defaultWindow,
		initialWindow: defaultWindow,
	}
	for _, o := range options {
		o(&c.opts)
	}
	c.henc = hpack.NewEncoder(&c.hbuf)
	c.framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	c.framer.MaxHeaderListSize = maxHeaderBytes
	c.framer.AllowIllegalWrites = true
	return c
}

// DialH2 connects to addr as an HTTP/2 client with prior knowledge.
func DialH2(t testing.TB, addr string, options ...H2Option) *H2Conn {
	t.Helper()
	nc, err := net.DialTimeout("tcp", addr, Patience)
	if err != nil {
		t.Fatalf("dial %s: got %v, want a connection", addr, err)
	}
	return NewH2Client(t, nc, options...)
}

// NewH2Client is DialH2 on an existing connection, which it takes over.
func NewH2Client(t testing.TB, nc net.Conn, options ...H2Option) *H2Conn {
	t.Helper()
	c := newH2Conn(nc, nil, options)
	t.Cleanup(c.Close)
	if _, err := nc.Write([]byte(http2.ClientPreface)); err != nil {
		t.Fatalf("write the preface to %s: %v", nc.RemoteAddr(), err)
	}
	if err := c.Write(func(fr *http2.Framer) error { return fr.WriteSettings(c.opts.settings...) }); err != nil {
		t.Fatalf("write SETTINGS to %s: %v", nc.RemoteAddr(), err)
	}
	go c.serve()
	return c
}

// Close ends the TCP connection and waits for its reader.
func (c *H2Conn) Close() {
	c.nc.Close()
	<-c.done
}

// Write calls f, which may write any frames. No other goroutine writes frames meanwhile.
func (c *H2Conn) Write(f func(*http2.Framer) error) error {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	return f(c.framer)
}

// WriteBytes writes bytes that a test has made, such as many frames at once. The peer has Patience to take them. Header blocks
// among them must leave the HPACK table as it is, or be the last of the connection.
func (c *H2Conn) WriteBytes(b []byte) error {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	if err := c.nc.SetWriteDeadline(time.Now().Add(Patience)); err != nil {
		return err
	}
	_, err := c.nc.Write(b)
	_ = c.nc.SetWriteDeadline(time.Time{})
	return err
}

// NewStream takes the next identifier of a client's connection for a stream whose HEADERS the test writes itself.
func (c *H2Conn) NewStream(t testing.TB) *H2Stream {
	t.Helper()
	c.wmu.Lock()
	defer c.wmu.Unlock()
	return c.newStreamLocked(t)
}

// newStreamLocked is NewStream with wmu held.
func (c *H2Conn) newStreamLocked(t testing.TB) *H2Stream {
	s := c.addStream(c.nextID)
	s.t = t
	c.nextID += 2
	return s
}

// Open begins a stream with HEADERS.
func (c *H2Conn) Open(t testing.TB, fields Fields) *H2Stream {
	t.Helper()
	return c.open(t, fields, 0)
}

// OpenEnd begins a stream with HEADERS that carry END_STREAM: a request without a message.
func (c *H2Conn) OpenEnd(t testing.TB, fields Fields) *H2Stream {
	t.Helper()
	return c.open(t, fields, http2.FlagHeadersEndStream)
}

func (c *H2Conn) open(t testing.TB, fields Fields, flags http2.Flags) *H2Stream {
	t.Helper()
	c.wmu.Lock()
	defer c.wmu.Unlock()
	s := c.newStreamLocked(t)
	if err := c.writeHeadersLocked(s.ID, fields, flags); err != nil {
		t.Fatalf("stream %d: write HEADERS: %v", s.ID, err)
	}
	return s
}

// writeHeadersLocked splits the block into HEADERS and CONTINUATION. The caller holds wmu, so that blocks reach the
// peer in the order in which they changed the compression state.
func (c *H2Conn) writeHeadersLocked(id uint32, fields Fields, flags http2.Flags) error {
	c.hbuf.Reset()
	for _, f := range fields {
		if err := c.henc.WriteField(f); err != nil {
			return err
		}
	}
	parts := slices.Collect(slices.Chunk(c.hbuf.Bytes(), defaultFrame))
	if len(parts) == 0 {
		parts = [][]byte{nil}
	}
	for i, part := range parts {
		last := i == len(parts)-1
		var err error
		if i == 0 {
			err = c.framer.WriteHeaders(http2.HeadersFrameParam{
				StreamID: id, BlockFragment: part, EndHeaders: last, EndStream: flags.Has(http2.FlagHeadersEndStream),
			})
		} else {
			err = c.framer.WriteContinuation(id, last, part)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// AwaitGoAway waits for the peer's GOAWAY and returns it.
func (c *H2Conn) AwaitGoAway(t testing.TB) GoAway {
	t.Helper()
	var g *GoAway
	if err := c.await(func() (bool, error) { g = c.goAway; return g != nil, c.err }); err != nil {
		t.Fatalf("got no GOAWAY: %v", err)
	}
	return *g
}

// AwaitClosed waits until the peer has closed the connection.
func (c *H2Conn) AwaitClosed(t testing.TB) {
	t.Helper()
	Await(t, c.done, "the connection closed")
}

// await calls ready, with mu held, after every change until it returns true or an error, for at most Patience.
func (c *H2Conn) await(ready func() (bool, error)) error {
	timer := time.NewTimer(Patience)
	defer timer.Stop()
	for {
		c.mu.Lock()
		ok, err := ready()
		changed := c.changed
		c.mu.Unlock()
		if ok {
			return nil // even if the connection has ended
		}
		if err != nil {
			return err
		}
		select {
		case <-changed:
		case <-timer.C:
			return fmt.Errorf("testbed: nothing in %s", Patience)
		}
	}
}

func (c *H2Conn) changedLocked() {
	close(c.changed)
	c.changed = make(chan struct{})
}

func (c *H2Conn) addStream(id uint32) *H2Stream {
	s := &H2Stream{ID: id, conn: c, over: make(chan struct{})}
	c.mu.Lock()
	defer c.mu.Unlock()
	s.sendWindow = c.initialWindow
	c.streams[id] = s
	return s
}
