package pool

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/codes"
	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"
	gogrpc "google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/stats"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/framegate/framegate/pool/policy"
)

// startGRPCGo starts a grpc-go server that answers each empty message with one, until the client half-closes.
func startGRPCGo(t *testing.T, opts ...gogrpc.ServerOption) (*gogrpc.Server, string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	server := gogrpc.NewServer(append(opts, gogrpc.UnknownServiceHandler(func(_ any, stream gogrpc.ServerStream) error {
		for {
			var m emptypb.Empty
			if err := stream.RecvMsg(&m); err == io.EOF {
				return nil
			} else if err != nil {
				return err
			}
			if err := stream.SendMsg(&m); err != nil {
				return err
			}
		}
	}))...)
	var wg sync.WaitGroup
	wg.Go(func() { _ = server.Serve(ln) })
	t.Cleanup(func() {
		server.Stop()
		wg.Wait()
	})
	return server, ln.Addr().String()
}

// emptyMessage is a gRPC message of no bytes, with the capacity that Write wants.
func emptyMessage() []byte { return payload("\x00\x00\x00\x00\x00") }

// echo sends a message and reads the answer.
func echo(s *Stream) error {
	if err := s.Write(emptyMessage()); err != nil {
		return err
	}
	_, err := s.Read(make([]byte, 5))
	return err
}

// call makes one call, and makes it again, a few times at most, when it was not processed.
func call(ctx context.Context, p *Pool, addr string) error {
	s, err := made(p.Default().Open(ctx, addr, hdr, OpenOptions{}))
	for attempt := 1; err == nil; attempt++ {
		_ = s.Write(emptyMessage()) // if it fails, Read says why
		_ = s.CloseSend()
		_, err = s.Read(make([]byte, 5))
		if err == nil || !s.Unprocessed() || attempt == 5 {
			break
		}
		failed := s
		s, err = reopen(ctx, p, failed)
		failed.Close()
	}
	if s == nil {
		return err
	}
	defer s.Close()
	if err != nil {
		return err
	}
	if _, err := s.Read(make([]byte, 1)); err != io.EOF {
		return err
	}
	if s.Status().Code() != codes.OK {
		return s.Status().Err()
	}
	return nil
}

func TestGRPCGo_GracefulStop(t *testing.T) {
	t.Parallel()
	server, addr := startGRPCGo(t)
	p := newPool(t, nil)
	s := open(t, p, addr)
	require.NoError(t, echo(s))
	stopped := make(chan struct{})
	go func() {
		server.GracefulStop()
		close(stopped)
	}()
	usable(t, p, addr, 0)
	for range 3 {
		require.NoError(t, echo(s), "the stream goes on")
	}
	_, err := p.Default().Open(t.Context(), addr, hdr, OpenOptions{})
	var d *DialError
	require.ErrorAs(t, err, &d, "nobody listens any more")
	require.NoError(t, s.CloseSend())
	require.ErrorIs(t, ends(t, s), io.EOF)
	require.Equal(t, codes.OK, s.Status().Code())
	s.Close()
	receive(t, "the server's end", stopped)
	eventually(t, "no connection", func() bool { return p.Stats().Connections == 0 })
}

// begun counts the connections that a grpc-go server takes.
type begun struct{ atomic.Int64 }

func (b *begun) HandleConn(_ context.Context, s stats.ConnStats) {
	if _, is := s.(*stats.ConnBegin); is {
		b.Add(1)
	}
}
func (*begun) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }
func (*begun) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context   { return ctx }
func (*begun) HandleRPC(context.Context, stats.RPCStats)                         {}

// A server that retires each connection after a while (and so tells its clients to spread) costs no call.
func TestGRPCGo_MaxConnectionAgeCostsNoCall(t *testing.T) {
	t.Parallel()
	// An age in which a busy machine surely gets to use a connection. One that ends unused is a failure of the endpoint's.
	const age = 500 * time.Millisecond
	var connections begun
	_, addr := startGRPCGo(t, gogrpc.StatsHandler(&connections), gogrpc.KeepaliveParams(keepalive.ServerParameters{MaxConnectionAge: age}))
	p := newPool(t, func(c *Config) { c.Connections.Max, c.StreamsPerConnection = 2, 4 })
	var calls atomic.Int64
	var wg sync.WaitGroup
	stop := make(chan struct{})
	for range 8 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if err := call(t.Context(), p, addr); err != nil {
					t.Errorf("a call failed: %v", err)
				}
				calls.Add(1)
			}
		})
	}
	eventually(t, "many calls, and connections that were retired", func() bool { return calls.Load() > 100 && connections.Load() > 6 })
	close(stop)
	wg.Wait()
	eventually(t, "no stream", func() bool { return p.Stats().Streams == 0 })
}

// grpc-go refuses streams beyond its limit: the pool's count must be the server's, whatever way streams end.
func TestGRPCGo_LimitIsNeverExceeded(t *testing.T) {
	t.Parallel()
	_, addr := startGRPCGo(t, gogrpc.MaxConcurrentStreams(3))
	p := newPool(t, func(c *Config) { c.Connections.Max, c.WhenFull = 2, policy.WhenFullWait })
	var wg sync.WaitGroup
	for g := range 20 {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(g), 7))
			for range 40 {
				s, err := made(p.Default().Open(t.Context(), addr, hdr, OpenOptions{}))
				if err != nil {
					t.Errorf("Open: %v", err)
					return
				}
				switch rnd.IntN(4) {
				case 0: // closed at once
				case 1:
					err = echo(s)
				case 2:
					s.Reset(errTest)
				default:
					if err = echo(s); err == nil {
						_ = s.CloseSend()
						<-s.Done()
					}
				}
				if err != nil && !errors.Is(err, io.EOF) {
					t.Errorf("a call: %v", err)
				}
				if code, ok := s.ResetCode(); ok && code == http2.ErrCodeRefusedStream {
					t.Error("a stream was refused")
				}
				s.Close()
			}
		})
	}
	wg.Wait()
	require.Equal(t, Stats{Endpoints: 1, Connections: 2}, p.Stats())
}

func TestGRPCGo_StopEndsStreams(t *testing.T) {
	t.Parallel()
	server, addr := startGRPCGo(t)
	p := newPool(t, nil)
	s := open(t, p, addr)
	require.NoError(t, echo(s))
	server.Stop()
	require.Error(t, ends(t, s))
	require.False(t, s.Unprocessed())
	s.Close()
	eventually(t, "no connection", func() bool { return p.Stats().Connections == 0 })
}

func BenchmarkPool_OpenClose(b *testing.B) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(b, err)
	server := gogrpc.NewServer(gogrpc.UnknownServiceHandler(func(any, gogrpc.ServerStream) error { return nil }))
	go func() { _ = server.Serve(ln) }()
	defer server.Stop()
	p := New(Config{}, dialer{}, discard)
	defer p.Close()
	b.ReportAllocs()
	for b.Loop() {
		s, err := made(p.Default().Open(b.Context(), ln.Addr().String(), hdr, OpenOptions{}))
		if err != nil {
			b.Fatal(err)
		}
		<-s.Done()
		s.Close()
	}
}
