package h2conn

import (
	"context"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/grpc"
	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// patience is how long a test waits for what must happen.
const patience = 10 * time.Second

// eventually polls until cond holds.
func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !cond(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited %s in vain: %s", patience, what)
		}
	}
}

// peer is the server's end of one connection, every frame of it in the test's hands.
type peer struct {
	nc     net.Conn
	framer *http2.Framer
	wmu    sync.Mutex // guards writes
	readWG sync.WaitGroup
	err    error // of the reader; read after readWG

	// Set before serve.
	first   []http2.Setting // of the SETTINGS frame that it begins with
	mute    bool            // begins with none
	silent  bool            // answers no PING
	onFrame func(http2.Frame)

	pings   atomic.Int64
	acks    atomic.Int64  // of SETTINGS
	headers chan uint32   // streams as they are opened
	closed  chan struct{} // closed when the reader has ended
}

// listen makes a listener for one client on loopback.
func listen(t *testing.T) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = ln.Close() })
	return ln
}

// newPeer connects a client to a raw server and returns both ends. change may set the peer's fields.
func newPeer(t *testing.T, change func(*peer)) (net.Conn, *peer) {
	t.Helper()
	ln := listen(t)
	client, err := net.Dial("tcp", ln.Addr().String())
	require.NoError(t, err)
	t.Cleanup(func() { _ = client.Close() })
	server, err := ln.Accept()
	require.NoError(t, err)
	p := &peer{nc: server, framer: http2.NewFramer(server, server), headers: make(chan uint32, 1<<16), closed: make(chan struct{})}
	p.framer.SetReuseFrames()
	if change != nil {
		change(p)
	}
	p.readWG.Go(p.serve)
	t.Cleanup(p.close)
	return client, p
}

func (p *peer) close() {
	_ = p.nc.Close()
	p.readWG.Wait()
}

// serve reads every frame, checks it (the Framer knows the order that RFC 9113 wants) and answers what must be answered.
func (p *peer) serve() {
	defer close(p.closed)
	if !p.mute {
		p.settings(p.first...)
	}
	preface := make([]byte, len(http2.ClientPreface))
	if _, err := io.ReadFull(p.nc, preface); err != nil || string(preface) != http2.ClientPreface {
		p.err = err
		return
	}
	for {
		f, err := p.framer.ReadFrame()
		if err != nil {
			p.err = err
			_ = p.nc.Close()
			return
		}
		switch f := f.(type) {
		case *http2.SettingsFrame:
			if f.IsAck() {
				p.acks.Add(1)
			} else {
				p.write(func(fr *http2.Framer) error { return fr.WriteSettingsAck() })
			}
		case *http2.PingFrame:
			p.pings.Add(1)
			if !p.silent {
				data := f.Data
				p.write(func(fr *http2.Framer) error { return fr.WritePing(true, data) })
			}
		case *http2.HeadersFrame:
			select {
			case p.headers <- f.StreamID:
			default:
			}
		case *http2.DataFrame:
			if n := uint32(f.Length); n > 0 {
				stream := f.StreamID
				p.write(func(fr *http2.Framer) error { return fr.WriteWindowUpdate(0, n) })
				p.write(func(fr *http2.Framer) error { return fr.WriteWindowUpdate(stream, n) })
			}
		}
		if p.onFrame != nil {
			p.onFrame(f)
		}
	}
}

// write writes with the connection's framer. Errors show as the end of the connection.
func (p *peer) write(f func(*http2.Framer) error) {
	p.wmu.Lock()
	defer p.wmu.Unlock()
	_ = f(p.framer)
}

// writeRaw writes bytes as they are, in one piece.
func (p *peer) writeRaw(b []byte) {
	p.wmu.Lock()
	defer p.wmu.Unlock()
	_, _ = p.nc.Write(b)
}

func (p *peer) settings(s ...http2.Setting) {
	p.write(func(fr *http2.Framer) error { return fr.WriteSettings(s...) })
}

func maxStreams(v uint32) http2.Setting {
	return http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: v}
}

// answer sends response headers on a stream.
func (p *peer) answer(stream uint32) {
	p.write(func(fr *http2.Framer) error {
		var block sliceWriter
		enc := hpack.NewEncoder(&block)
		_ = enc.WriteField(hpack.HeaderField{Name: ":status", Value: "200"})
		_ = enc.WriteField(hpack.HeaderField{Name: "content-type", Value: "application/grpc"})
		return fr.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: block, EndHeaders: true})
	})
}

func (p *peer) data(stream uint32, b []byte) {
	p.write(func(fr *http2.Framer) error { return fr.WriteData(stream, false, b) })
}

type sliceWriter []byte

func (w *sliceWriter) Write(p []byte) (int, error) {
	*w = append(*w, p...)
	return len(p), nil
}

// transportOn puts a Kitex client transport on c, as package pool does, and returns it with a channel that is closed
// when it has ended.
func transportOn(t *testing.T, c *Conn) (grpc.ClientTransport, <-chan struct{}) {
	t.Helper()
	lost := make(chan struct{})
	tr, err := grpc.NewClientTransportWithConfig(t.Context(), c, grpc.ConnectOptions{
		InitialWindowSize: 256 << 10, InitialConnWindowSize: 1 << 20,
	}, grpc.ClientConfig{
		RemoteService: "test",
		OnClose:       func(context.Context, grpc.ClientTransport, error) { close(lost) },
	})
	require.NoError(t, err)
	t.Cleanup(func() {
		_ = tr.Close(grpc.ErrConnClosing)
		<-lost
	})
	return tr, lost
}

func waitSettings(t *testing.T, c *Conn) {
	t.Helper()
	select {
	case <-c.Settings():
	case <-time.After(patience):
		t.Fatal("no SETTINGS seen")
	}
}

func newStream(t *testing.T, tr grpc.ClientTransport) *grpc.Stream {
	t.Helper()
	s, err := tr.NewStream(t.Context(), &grpc.CallHdr{Host: "test", Method: "/test.Test/Call"})
	require.NoError(t, err)
	return s
}
