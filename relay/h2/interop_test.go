package h2

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/framegate/framegate/relay/h2/hpack"
)

// mib is a body that no period of a buffer's size makes right by accident.
var mib = func() []byte {
	b := make([]byte, 1<<20)
	for i := range b {
		b[i] = byte(i % 251)
	}
	return b
}()

// clearText is HTTP/2 without TLS for net/http.
func clearText() *http.Protocols {
	p := new(http.Protocols)
	p.SetUnencryptedHTTP2(true)
	return p
}

// A server echoes to net/http as a client.
func TestInterop_NetClient(t *testing.T) {
	t.Parallel()
	ours, theirs := loopback(t)
	k := &hooks{
		opened: func() *Stream { return &Stream{} },
		head: func(s *Stream, h *Head) {
			if h.Trailer {
				s.WriteTrailers(h.Fields)
				return
			}
			s.WriteHeaders([]*hpack.Field{fieldOK}, h.End)
		},
		data: func(s *Stream, p []byte, end bool) { s.Consumed(s.WriteData(p, end)) },
		sent: func(s *Stream, n int) { s.Consumed(n) },
	}
	server := newSocket(new(sync.Mutex), ours, k, false, Config{})
	defer server.close()

	client := &http.Transport{Protocols: clearText(), DialContext: func(context.Context, string, string) (net.Conn, error) { return theirs, nil }, MaxConnsPerHost: 1}
	defer client.CloseIdleConnections()
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			size := [...]int{1 << 20, 1, 16384, 100_000}[i%4]
			req, err := http.NewRequest(http.MethodPost, "http://a/b", bytes.NewReader(mib[:size]))
			if err != nil {
				t.Error(err)
				return
			}
			req.ContentLength = -1
			req.Trailer = http.Header{"X-End": []string{fmt.Sprint(size)}}
			resp, err := client.RoundTrip(req)
			if err != nil {
				t.Error(err)
				return
			}
			body, err := io.ReadAll(resp.Body)
			if err != nil || !bytes.Equal(body, mib[:size]) || resp.Trailer.Get("X-End") != fmt.Sprint(size) {
				t.Errorf("got %d bytes, trailers %v, error %v; want %d bytes and the trailer", len(body), resp.Trailer, err, size)
			}
		})
	}
	wg.Wait()
}

// A client speaks with net/http as a server that echoes.
func TestInterop_NetServer(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	server := &http.Server{Protocols: clearText(), Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Trailer", "X-End")
		n, _ := io.Copy(w, r.Body)
		w.Header().Set("X-End", fmt.Sprint(n))
	})}
	var serving sync.WaitGroup
	serving.Go(func() { _ = server.Serve(ln) })
	defer serving.Wait()
	defer server.Close()
	ours, err := net.Dial("tcp", ln.Addr().String())
	require.NoError(t, err)

	type result struct {
		body    bytes.Buffer
		trailer string
		reset   error
		done    chan struct{}
	}
	k := &hooks{}
	client := newSocket(new(sync.Mutex), ours, k, true, Config{})
	defer client.close()
	client.mu.Lock()
	k.head = func(s *Stream, h *Head) {
		if h.Trailer {
			s.Owner.(*result).trailer = h.Fields[0].Value
		}
	}
	k.data = func(s *Stream, p []byte, _ bool) {
		s.Owner.(*result).body.Write(p)
		s.Consumed(len(p))
	}
	k.done = func(s *Stream) { close(s.Owner.(*result).done) }
	k.reset = func(s *Stream, r *Reset) { s.Owner.(*result).reset = r; close(s.Owner.(*result).done) }
	var results []*result
	for range 4 {
		r := &result{done: make(chan struct{})}
		results = append(results, r)
		s := &Stream{Owner: r}
		client.conn.Open(s, fieldList(":method=POST", ":scheme=http", ":path=/", ":authority=a"), false)
		s.WriteData(mib, true)
	}
	client.mu.Unlock()
	for _, r := range results {
		<-r.done
		require.NoError(t, r.reset)
		require.True(t, bytes.Equal(mib, r.body.Bytes()))
		require.Equal(t, fmt.Sprint(len(mib)), r.trailer)
	}
}

// bytesCodec takes messages as they are.
type bytesCodec struct{}

func (bytesCodec) Marshal(v any) ([]byte, error)   { return *v.(*[]byte), nil }
func (bytesCodec) Unmarshal(b []byte, v any) error { *v.(*[]byte) = bytes.Clone(b); return nil }
func (bytesCodec) Name() string                    { return "bytes" }

// joined is a relay of one client's connection to one server's, with a server's Conn and a client's.
func joined(t *testing.T, toClient, toServer net.Conn) {
	front, back := &hooks{}, &hooks{}
	mu := new(sync.Mutex)
	mu.Lock()
	defer mu.Unlock()
	a, b := newSocket(mu, toClient, front, false, Config{}), newSocket(mu, toServer, back, true, Config{})
	t.Cleanup(func() { a.close(); b.close() })
	other := func(s *Stream) *Stream { return s.Owner.(*Stream) }
	relay := func(s *Stream, p []byte, end bool) { s.Consumed(other(s).WriteData(p, end)) }
	sent := func(s *Stream, n int) { other(s).Consumed(n) }
	reset := func(s *Stream, r *Reset) { other(s).Reset(r.Code) }
	*front = hooks{wake: front.wake, data: relay, sent: sent, reset: reset,
		opened: func() *Stream {
			ends := &[2]Stream{}
			ends[0].Owner, ends[1].Owner = &ends[1], &ends[0]
			return &ends[0]
		},
		head: func(s *Stream, h *Head) { b.conn.Open(other(s), h.Fields, h.End) },
	}
	*back = hooks{wake: back.wake, data: relay, sent: sent, reset: reset,
		head: func(s *Stream, h *Head) {
			if h.Trailer {
				other(s).WriteTrailers(h.Fields)
			} else {
				other(s).WriteHeaders(h.Fields, h.End)
			}
		},
	}
}

// grpc-go speaks with grpc-go through a server's Conn and a client's.
func TestInterop_GRPC(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	server := grpc.NewServer(grpc.ForceServerCodec(bytesCodec{}), grpc.MaxRecvMsgSize(4<<20), grpc.UnknownServiceHandler(func(_ any, stream grpc.ServerStream) error {
		stream.SetTrailer(metadata.Pairs("x-end", "yes"))
		for {
			var m []byte
			if err := stream.RecvMsg(&m); err == io.EOF {
				return nil
			} else if err != nil {
				return err
			}
			if string(m) == "fail" {
				return status.Error(codes.DataLoss, "as asked")
			}
			if err := stream.SendMsg(&m); err != nil {
				return err
			}
		}
	}))
	var serving sync.WaitGroup
	serving.Go(func() { _ = server.Serve(ln) })
	t.Cleanup(func() { server.Stop(); serving.Wait() })

	dial := func(context.Context, string) (net.Conn, error) {
		ours, theirs := loopback(t)
		up, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			return nil, err
		}
		joined(t, ours, up)
		return theirs, nil
	}
	conn, err := grpc.NewClient("passthrough:///relay", grpc.WithContextDialer(dial), grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.ForceCodec(bytesCodec{}), grpc.MaxCallRecvMsgSize(4<<20)))
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()

	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			in, out := mib[:[...]int{0, 1, 1 << 20, 70_000}[i%4]], []byte(nil)
			var trailer metadata.MD
			if err := conn.Invoke(ctx, "/s/m", &in, &out, grpc.Trailer(&trailer)); err != nil || !bytes.Equal(in, out) || len(trailer["x-end"]) != 1 {
				t.Errorf("unary of %d bytes: got %d, trailers %v, error %v", len(in), len(out), trailer, err)
			}
		})
		wg.Go(func() { // both directions at once
			stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, "/s/bidi")
			if err != nil {
				t.Error(err)
				return
			}
			wg.Go(func() {
				for range 3 {
					if err := stream.SendMsg(&mib); err != nil {
						t.Error(err)
						return
					}
				}
				_ = stream.CloseSend()
			})
			for n := 0; ; n++ {
				var m []byte
				if err := stream.RecvMsg(&m); err == io.EOF && n == 3 {
					return
				} else if err != nil || !bytes.Equal(m, mib) {
					t.Errorf("message %d: got %d bytes, error %v", n, len(m), err)
					return
				}
			}
		})
	}
	wg.Wait()

	in, out := []byte("fail"), []byte(nil)
	err = conn.Invoke(ctx, "/s/m", &in, &out)
	require.Equal(t, "as asked", status.Convert(err).Message())
	require.Equal(t, codes.DataLoss, status.Code(err))

	canceled, stop := context.WithCancel(ctx)
	stream, err := conn.NewStream(canceled, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, "/s/bidi")
	require.NoError(t, err)
	require.NoError(t, stream.SendMsg(&in))
	stop()
	require.Equal(t, codes.Canceled, status.Code(func() error {
		for {
			if err := stream.RecvMsg(&out); err != nil {
				return err
			}
		}
	}()))
}
