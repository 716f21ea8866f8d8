package kitexconn

import (
	"io"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/framegate/framegate/pool/policy"
	"github.com/framegate/framegate/pool/transport"
)

// owner records what a connection tells its owner.
type owner struct {
	released, retired, ended chan struct{}
	err                      error
}

func newOwner() *owner {
	return &owner{released: make(chan struct{}, 16), retired: make(chan struct{}, 16), ended: make(chan struct{})}
}

func (o *owner) Streams() int    { return 1 }
func (o *owner) Release()        { o.released <- struct{}{} }
func (o *owner) LimitChanged()   {}
func (o *owner) Retire()         { o.retired <- struct{}{} }
func (o *owner) Ended(err error) { o.err = err; close(o.ended) }

// requests starts a server that takes one connection, and passes on the HEADERS that it gets.
func requests(t *testing.T) (address string, got <-chan *http2.MetaHeadersFrame) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	headers, done := make(chan *http2.MetaHeadersFrame, 16), make(chan struct{})
	t.Cleanup(func() { _ = ln.Close(); <-done })
	go func() {
		defer close(done)
		nc, err := ln.Accept()
		if err != nil {
			return
		}
		defer func() { _ = nc.Close() }()
		fr := http2.NewFramer(nc, nc)
		fr.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
		_ = fr.WriteSettings()
		if _, err := io.ReadFull(nc, make([]byte, len(http2.ClientPreface))); err != nil {
			return
		}
		for {
			f, err := fr.ReadFrame()
			if err != nil {
				return
			}
			if h, ok := f.(*http2.MetaHeadersFrame); ok {
				headers <- h
			}
		}
	}()
	return ln.Addr().String(), headers
}

func receive[T any](t *testing.T, what string, ch <-chan T) T {
	t.Helper()
	select {
	case v := <-ch:
		return v
	case <-time.After(30 * time.Second):
		t.Fatalf("waited in vain: %s", what)
		panic("unreachable")
	}
}

func TestConn_LifeOfAStreamAndItsConnection(t *testing.T) {
	address, got := requests(t)
	p := policy.Default()
	o := newOwner()
	c, err := Dialer{}.Dial(t.Context(), address, &p, o)
	require.NoError(t, err)
	for i := range 5 {
		s, err := c.Open(t.Context(), &transport.Header{
			Authority: "shop.example", Method: "/shop.Cart/Add", ContentType: "application/grpc+json", UserAgent: "ignored", Encoding: "gzip",
			Metadata: map[string][]string{
				":authority": {"other"}, "content-type": {"text/plain"}, "user-agent": {"other"}, "te": {"other"},
				"x-id": {"1", "2"}, "grpc-accept-encoding": {"gzip,zstd"},
			},
		})
		require.NoError(t, err)
		require.Same(t, c, s.Conn())
		f := receive(t, "HEADERS", got)
		require.Equal(t, f.StreamID, streamID(s.(*Stream).kitex))
		fields := map[string][]string{}
		for _, h := range f.Fields {
			fields[h.Name] = append(fields[h.Name], h.Value)
		}
		delete(fields, "user-agent") // Kitex's own
		require.Equal(t, map[string][]string{
			":method": {"POST"}, ":scheme": {"http"}, ":path": {"/shop.Cart/Add"}, ":authority": {"shop.example"}, "te": {"trailers"},
			"content-type": {"application/grpc+json"}, "grpc-encoding": {"gzip"}, "grpc-accept-encoding": {"gzip,zstd"}, "x-id": {"1", "2"},
		}, fields, "stream %d", i)
		s.Close()
		receive(t, "the slot", o.released)
	}
	require.Empty(t, o.retired)
	c.CloseNow(io.ErrClosedPipe)
	receive(t, "no new streams", o.retired)
	receive(t, "the end", o.ended)
	require.ErrorIs(t, o.err, io.ErrClosedPipe)
	_, err = c.Open(t.Context(), &transport.Header{Method: "/shop.Cart/Add"})
	require.Error(t, err)
	require.NotErrorIs(t, err, transport.ErrOverLimit)
}

func TestConn_SubtypeOfAContentType(t *testing.T) {
	for contentType, want := range map[string]string{
		"": "", "application/grpc": "", "application/grpc+proto": "proto", "application/grpc;a=b": "a=b", "application/grpc+": "",
	} {
		require.Equal(t, want, subtype(contentType), contentType)
	}
}
