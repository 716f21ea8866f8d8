package pool

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/framegate/framegate/pool/kitexconn"
	"github.com/framegate/framegate/pool/policy"
	"github.com/framegate/framegate/pool/transport"
)

// patience is how long a test waits for what must happen. slack is what a busy machine may add to a time.
const (
	patience = 30 * time.Second
	slack    = 5 * time.Second
)

// eventually polls until cond holds.
func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !cond(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited %s in vain: %s", patience, what)
		}
	}
}

// receive takes the next value of a channel.
func receive[T any](t *testing.T, what string, ch <-chan T) T {
	t.Helper()
	select {
	case v := <-ch:
		return v
	case <-time.After(patience):
		t.Fatalf("waited %s in vain: %s", patience, what)
		panic("unreachable")
	}
}

// server is a raw HTTP/2 server on loopback, every frame of its connections in the test's hands.
type server struct {
	ln   net.Listener
	addr string
	wg   sync.WaitGroup

	// Set before start.
	first     []http2.Setting                    // of the SETTINGS frame with which it begins
	begin     func(c *serverConn)                // instead of that
	onHeaders func(c *serverConn, stream uint32) // a new stream, from the connection's reader
	network   string                             // default tcp

	accepts  atomic.Int64
	accepted chan *serverConn

	mu    sync.Mutex // guards conns
	conns []*serverConn
}

// serverConn is one connection to a server.
type serverConn struct {
	server  *server
	nc      net.Conn
	framer  *http2.Framer
	wmu     sync.Mutex // guards writes
	streams chan uint32
	resets  chan reset
	data    chan string
	ended   chan struct{} // closed when the reader has ended
	opened  int           // owned by the reader
}

type reset struct {
	stream uint32
	code   http2.ErrCode
}

// startServer starts a server that change has set up; it ends with the test.
func startServer(t testing.TB, change func(*server)) *server {
	t.Helper()
	s := &server{network: "tcp", accepted: make(chan *serverConn, 1<<14)}
	if change != nil {
		change(s)
	}
	addr := "127.0.0.1:0"
	if s.network == "unix" {
		addr = filepath.Join(t.TempDir(), "s")
	}
	ln, err := net.Listen(s.network, addr)
	require.NoError(t, err)
	s.ln, s.addr = ln, ln.Addr().String()
	if s.network == "unix" {
		s.addr = "unix:" + s.addr
	}
	s.wg.Go(s.accept)
	t.Cleanup(s.stop)
	return s
}

func (s *server) accept() {
	for {
		nc, err := s.ln.Accept()
		if err != nil {
			return
		}
		c := &serverConn{
			server: s, nc: nc, framer: http2.NewFramer(nc, nc),
			streams: make(chan uint32, 1<<12), resets: make(chan reset, 1<<12), data: make(chan string, 1<<12),
			ended: make(chan struct{}),
		}
		c.framer.SetReuseFrames()
		s.mu.Lock()
		s.conns = append(s.conns, c)
		s.mu.Unlock()
		s.accepts.Add(1)
		record(s.accepted, c)
		s.wg.Go(c.serve)
	}
}

func (s *server) all() []*serverConn {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]*serverConn(nil), s.conns...)
}

func (s *server) stop() {
	_ = s.ln.Close()
	for _, c := range s.all() {
		_ = c.nc.Close()
	}
	s.wg.Wait()
	for _, c := range s.all() { // accepted while we looked
		_ = c.nc.Close()
	}
}

func (c *serverConn) serve() {
	defer close(c.ended)
	defer c.nc.Close()
	if c.server.begin != nil {
		c.server.begin(c)
	} else {
		c.settings(c.server.first...)
	}
	preface := make([]byte, len(http2.ClientPreface))
	if _, err := io.ReadFull(c.nc, preface); err != nil || string(preface) != http2.ClientPreface {
		return
	}
	for {
		f, err := c.framer.ReadFrame()
		if err != nil {
			return
		}
		switch f := f.(type) {
		case *http2.SettingsFrame:
			if !f.IsAck() {
				c.write(func(fr *http2.Framer) error { return fr.WriteSettingsAck() })
			}
		case *http2.PingFrame:
			if !f.IsAck() {
				data := f.Data
				c.write(func(fr *http2.Framer) error { return fr.WritePing(true, data) })
			}
		case *http2.HeadersFrame:
			c.opened++
			record(c.streams, f.StreamID)
			if c.server.onHeaders != nil {
				c.server.onHeaders(c, f.StreamID)
			}
		case *http2.RSTStreamFrame:
			record(c.resets, reset{f.StreamID, f.ErrCode})
		case *http2.DataFrame:
			if n := f.Length; n > 0 {
				stream := f.StreamID
				c.write(func(fr *http2.Framer) error { return fr.WriteWindowUpdate(0, n) })
				c.write(func(fr *http2.Framer) error { return fr.WriteWindowUpdate(stream, n) })
			}
			text := string(f.Data())
			if f.StreamEnded() {
				text += "<end>"
			}
			record(c.data, text)
		}
	}
}

// record keeps a value for the test. It never holds up the server: a test that takes none of them loses those which the
// channel has no room for.
func record[T any](ch chan<- T, v T) {
	select {
	case ch <- v:
	default:
	}
}

// write writes with the connection's framer. Errors show as the end of the connection.
func (c *serverConn) write(f func(*http2.Framer) error) {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	_ = f(c.framer)
}

func (c *serverConn) settings(s ...http2.Setting) {
	c.write(func(fr *http2.Framer) error { return fr.WriteSettings(s...) })
}

func (c *serverConn) goAway(last uint32) {
	c.write(func(fr *http2.Framer) error { return fr.WriteGoAway(last, http2.ErrCodeNo, nil) })
}

func (c *serverConn) reset(stream uint32, code http2.ErrCode) {
	c.write(func(fr *http2.Framer) error { return fr.WriteRSTStream(stream, code) })
}

// headers sends response headers.
func (c *serverConn) headers(stream uint32) {
	c.writeHeaders(stream, false, ":status", "200", "content-type", "application/grpc")
}

// trailers ends a stream after headers.
func (c *serverConn) trailers(stream uint32, code string) {
	c.writeHeaders(stream, true, "grpc-status", code)
}

// finish answers a stream with headers and OK.
func (c *serverConn) finish(stream uint32) {
	c.headers(stream)
	c.trailers(stream, "0")
}

func (c *serverConn) writeHeaders(stream uint32, end bool, fields ...string) {
	var block bytes.Buffer
	enc := hpack.NewEncoder(&block) // a new one each time: it refers to nothing that was sent before
	for i := 0; i < len(fields); i += 2 {
		_ = enc.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	c.write(func(fr *http2.Framer) error {
		return fr.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: block.Bytes(), EndHeaders: true, EndStream: end})
	})
}

// kill breaks the connection.
func (c *serverConn) kill() {
	if tcp, ok := c.nc.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = c.nc.Close()
}

func maxStreams(v uint32) []http2.Setting {
	return []http2.Setting{{ID: http2.SettingMaxConcurrentStreams, Val: v}}
}

// newPool makes a pool that ends with the test. Its limits are those of tests, unless change sets others.
func newPool(t *testing.T, change func(*Config)) *Pool {
	t.Helper()
	cfg := Config{ConnectTimeout: patience, IdleTimeout: -1}
	if change != nil {
		change(&cfg)
	}
	p := New(cfg, dialer{}, discard)
	t.Cleanup(p.Close)
	return p
}

// errTest is the error of streams that a test resets.
var errTest = errors.New("reset by the test")

var discard = slog.New(slog.DiscardHandler)

var hdr = &transport.Header{Authority: "test", Method: "/test.Test/Call"}

// dialer makes connections with Kitex's transport, and keeps whose they are.
type dialer struct{ kitexconn.Dialer }

var owners sync.Map // transport.Conn -> *conn

func (d dialer) Dial(ctx context.Context, addr string, p *policy.Policy, o transport.Owner) (transport.Conn, error) {
	c, err := d.Dialer.Dial(ctx, addr, p, o)
	if err == nil {
		owners.Store(c, o)
	}
	return c, err
}

// Stream is a stream with its connection.
type Stream struct {
	*kitexconn.Stream
	conn *conn
}

// ResetCode is that of a stream that may not have ended.
func (s *Stream) ResetCode() (http2.ErrCode, bool) {
	select {
	case <-s.Done():
		return s.Stream.ResetCode()
	default:
		return 0, false
	}
}

// made returns what Open has returned.
func made(s transport.Stream, err error) (*Stream, error) {
	if err != nil {
		return nil, err
	}
	c, _ := owners.Load(s.Conn())
	return &Stream{s.(*kitexconn.Stream), c.(*conn)}, nil
}

// open opens a stream that must open.
func open(t *testing.T, p *Pool, addr string) *Stream {
	t.Helper()
	s, err := made(p.Default().Open(t.Context(), addr, hdr, OpenOptions{}))
	require.NoError(t, err)
	return s
}

// reopen opens a stream for a call that the endpoint did not process.
func reopen(ctx context.Context, p *Pool, failed *Stream) (*Stream, error) {
	return made(p.Default().Open(ctx, failed.Address(), hdr, OpenOptions{Avoid: failed.Conn()}))
}

// opened is the result of an Open.
type opened struct {
	stream *Stream
	err    error
	took   time.Duration
}

// goOpen opens a stream in the background.
func goOpen(ctx context.Context, p *Pool, addr string, opts ...OpenOptions) <-chan opened {
	return goOpenIn(ctx, p.Default(), addr, opts...)
}

func goOpenIn(ctx context.Context, g *Group, addr string, opts ...OpenOptions) <-chan opened {
	result := make(chan opened, 1)
	go func() {
		start := time.Now()
		s, err := made(g.Open(ctx, addr, hdr, append(opts, OpenOptions{})[0]))
		result <- opened{s, err, time.Since(start)}
	}()
	return result
}

// waiting polls until n calls wait for a slot or a connection.
func waiting(t *testing.T, p *Pool, addr string, n int) {
	t.Helper()
	eventually(t, "calls that wait", func() bool {
		e, ok := p.Default().endpoints.Load(addr)
		return ok && e.(*endpoint).waiting.Load() == int32(n)
	})
}

// requireDialError checks that err is a *DialError of addr that came in time for a ConnectTimeout.
func requireDialError(t *testing.T, got opened, addr string, timeout time.Duration) *DialError {
	t.Helper()
	var d *DialError
	if !errors.As(got.err, &d) {
		t.Fatalf("got %v, want a *DialError", got.err)
	}
	require.Equal(t, addr, d.Address)
	require.Less(t, got.took, timeout+slack, "Open must return in ConnectTimeout")
	return d
}

// requireFullError checks that err is a *FullError of addr with so many connections.
func requireFullError(t *testing.T, got opened, addr string, connections int) *FullError {
	t.Helper()
	var full *FullError
	if !errors.As(got.err, &full) {
		t.Fatalf("got %v, want a *FullError", got.err)
	}
	require.Equal(t, addr, full.Address)
	require.Equal(t, connections, full.Connections)
	return full
}

// ends waits for the end of a stream and returns what reading it says.
func ends(t *testing.T, s *Stream) error {
	t.Helper()
	receive(t, "the end of the stream", s.Done())
	_, err := s.Read(make([]byte, 1))
	return err
}
