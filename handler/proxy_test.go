package handler

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"testing"
	"time"

	"github.com/cloudwego/kitex/server"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/framegate/framegate/handler/acceptor"
	"github.com/framegate/framegate/handler/kitexstream"
	"github.com/framegate/framegate/handler/local"
	"github.com/framegate/framegate/handler/stream"
	"github.com/framegate/framegate/handler/transserver"
	v1 "github.com/framegate/framegate/kitex_gen/grpc/health/v1"
	healthsvc "github.com/framegate/framegate/kitex_gen/grpc/health/v1/health"
	"github.com/framegate/framegate/pool"
	"github.com/framegate/framegate/pool/kitexconn"
	"github.com/framegate/framegate/pool/policy"
	"github.com/framegate/framegate/pool/transport"
	"github.com/framegate/framegate/resolver/cluster"
	"github.com/framegate/framegate/resolver/spec"
	"github.com/framegate/framegate/test/testlog"
)

// rawCodec passes bytes.
type rawCodec struct{}

func (rawCodec) Marshal(v any) ([]byte, error)      { return *v.(*[]byte), nil }
func (rawCodec) Unmarshal(data []byte, v any) error { *v.(*[]byte) = bytes.Clone(data); return nil }
func (rawCodec) Name() string                       { return "proto" }

// startBackend starts a grpc-go server that answers every method with handle.
func startBackend(t *testing.T, handle grpc.StreamHandler) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s := grpc.NewServer(grpc.ForceServerCodec(rawCodec{}), grpc.UnknownServiceHandler(handle))
	go func() { _ = s.Serve(ln) }()
	t.Cleanup(s.Stop)
	return ln.Addr().String()
}

// echoOnce answers one message with the same message.
func echoOnce(_ any, s grpc.ServerStream) error {
	var m []byte
	if err := s.RecvMsg(&m); err != nil {
		return err
	}
	return s.SendMsg(&m)
}

type noHealth struct{}

func (*noHealth) Check(context.Context, *v1.HealthCheckRequest) (*v1.HealthCheckResponse, error) {
	return &v1.HealthCheckResponse{}, nil
}
func (*noHealth) Watch(*v1.HealthCheckRequest, v1.Health_WatchServer) error { return nil }

// startProxy serves p on a Kitex server and returns a client of it.
func startProxy(t *testing.T, p *Proxy) *grpc.ClientConn {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	exit, done := make(chan error, 1), make(chan struct{})
	svr := healthsvc.NewServer(&noHealth{}, append(transserver.Options(acceptor.New(acceptor.Config{}, transserver.New(transserver.Config{}))), server.WithListener(ln),
		server.WithGRPCUnknownServiceHandler(kitexstream.Handler(p.Serve("main"))),
		server.WithExitWaitTime(time.Second), server.WithExitSignal(func() <-chan error { return exit }))...)
	go func() {
		defer close(done)
		_ = svr.Run()
	}()
	t.Cleanup(func() { exit <- nil; <-done })
	cc, err := grpc.NewClient("passthrough:///"+ln.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.ForceCodec(rawCodec{})))
	require.NoError(t, err)
	t.Cleanup(func() { _ = cc.Close() })
	return cc
}

func invoke(t *testing.T, cc *grpc.ClientConn, method string) (reply []byte, trailer metadata.MD, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	in := []byte("hello")
	err = cc.Invoke(ctx, method, &in, &reply, grpc.Trailer(&trailer))
	return reply, trailer, err
}

// routerFunc is a Router.
type routerFunc func(method string) (cluster.Target, bool)

func (f routerFunc) Resolve(t *cluster.Target, req spec.Request) (ok bool) {
	*t, ok = f(req.Method)
	return ok
}

// panickingPool panics on /panic/Open, and on /panic/Write makes the call's own goroutines panic.
type panickingPool struct{ stream.Opener }

func (p panickingPool) Open(ctx context.Context, addr string, hdr *transport.Header, opts pool.OpenOptions) (stream.Upstream, error) {
	s, err := p.Opener.Open(ctx, addr, hdr, opts)
	switch hdr.Method {
	case "/panic/Open":
		panic("open")
	case "/panic/Write":
		return panickingStream{s}, err
	}
	return s, err
}

// panickingStream makes both directions of the call panic.
type panickingStream struct{ stream.Upstream }

func (panickingStream) Write([]byte) error { panic("write") }
func (panickingStream) CloseSend() error   { panic("close") }
func (panickingStream) TrailersOnly() bool { panic("read") }

func TestProxy_PanicEndsOneCallWithInternalAndIsLoggedOnce(t *testing.T) {
	t.Parallel()
	backend := startBackend(t, echoOnce)
	pl := pool.New(pool.Config{}, kitexconn.Dialer{}, slog.New(slog.DiscardHandler))
	t.Cleanup(pl.Close)
	var logged testlog.Buffer
	cc := startProxy(t, New(Config{
		Router: routerFunc(func(method string) (cluster.Target, bool) {
			if method == "/panic/Resolve" {
				panic("resolve")
			}
			return cluster.Target{Route: "r", Address: backend}, true
		}),
		Pool: panickingPool{stream.From(pl.Default())},
		Log:  slog.New(slog.NewTextHandler(&logged, nil)),
	}))
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	long, err := cc.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, "/fine/Long")
	require.NoError(t, err)

	for i, method := range []string{"/panic/Resolve", "/panic/Open", "/panic/Write"} {
		_, trailer, err := invoke(t, cc, method)
		require.Equal(t, codes.Internal, status.Code(err), "%s: %v", method, err)
		require.Equal(t, "framegate: internal error", status.Convert(err).Message())
		require.Equal(t, []string{"internal"}, trailer.Get(local.ReasonTrailer))
		require.Equal(t, i+1, logged.Count("panic in a call"), "log lines after %s", method)
	}

	in, out := []byte("still here"), []byte{}
	require.NoError(t, long.SendMsg(&in))
	require.NoError(t, long.RecvMsg(&out))
	require.Equal(t, in, out)
	require.NoError(t, long.CloseSend())
	require.ErrorIs(t, long.RecvMsg(&out), io.EOF)
	reply, _, err := invoke(t, cc, "/fine/Unary")
	require.NoError(t, err)
	require.Equal(t, []byte("hello"), reply)
}

func TestProxy_EndCallsEndsThemWithDraining(t *testing.T) {
	t.Parallel()
	started := make(chan struct{})
	backend := startBackend(t, func(_ any, s grpc.ServerStream) error {
		close(started)
		<-s.Context().Done()
		return s.Context().Err()
	})
	pl := pool.New(pool.Config{}, kitexconn.Dialer{}, slog.New(slog.DiscardHandler))
	t.Cleanup(pl.Close)
	p := New(Config{
		Router: routerFunc(func(string) (cluster.Target, bool) { return cluster.Target{Route: "r", Address: backend}, true }),
		Pool:   stream.From(pl.Default()), Log: slog.New(slog.DiscardHandler),
	})
	cc := startProxy(t, p)
	go func() {
		<-started
		p.EndCalls()
	}()
	_, trailer, err := invoke(t, cc, "/s/m")
	require.Equal(t, codes.Unavailable, status.Code(err), err)
	require.Equal(t, []string{"draining"}, trailer.Get(local.ReasonTrailer))
}

func TestProxy_FullEndpointMeansOverloaded(t *testing.T) {
	t.Parallel()
	started, release := make(chan struct{}), make(chan struct{})
	backend := startBackend(t, func(_ any, s grpc.ServerStream) error {
		close(started)
		<-release
		return status.Error(codes.NotFound, "done")
	})
	pl := pool.New(pool.Config{Connections: policy.Connections{Max: 1}, StreamsPerConnection: 1, WhenFull: policy.WhenFullFail}, kitexconn.Dialer{}, slog.New(slog.DiscardHandler))
	t.Cleanup(pl.Close)
	cc := startProxy(t, New(Config{
		Router: routerFunc(func(string) (cluster.Target, bool) { return cluster.Target{Route: "r", Address: backend}, true }),
		Pool:   stream.From(pl.Default()), Log: slog.New(slog.DiscardHandler),
	}))
	first := make(chan error, 1)
	go func() {
		_, _, err := invoke(t, cc, "/s/first")
		first <- err
	}()
	<-started
	_, trailer, err := invoke(t, cc, "/s/second")
	require.Equal(t, codes.ResourceExhausted, status.Code(err), err)
	require.Equal(t, []string{"overloaded"}, trailer.Get(local.ReasonTrailer))
	require.ErrorContains(t, err, "framegate: "+backend+" is full with 1 connections")
	close(release)
	require.Equal(t, codes.NotFound, status.Code(<-first))
}
