// Package handlertest runs a handler.Proxy between real peers, for tests: it is served by a Kitex server, its clients and
// endpoints are grpc-go's, and messages are plain bytes.
package handlertest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"testing"
	"time"

	"github.com/cloudwego/kitex/pkg/klog"
	"github.com/cloudwego/kitex/server"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/framegate/framegate/handler"
	"github.com/framegate/framegate/handler/acceptor"
	"github.com/framegate/framegate/handler/kitexstream"
	"github.com/framegate/framegate/handler/stream"
	"github.com/framegate/framegate/handler/transserver"
	v1 "github.com/framegate/framegate/kitex_gen/grpc/health/v1"
	healthsvc "github.com/framegate/framegate/kitex_gen/grpc/health/v1/health"
	"github.com/framegate/framegate/pool"
	"github.com/framegate/framegate/pool/kitexconn"
	"github.com/framegate/framegate/resolver/cluster"
	"github.com/framegate/framegate/resolver/spec"
)

// Listener is the name of the Proxy's only listener.
const Listener = "main"

// RouterFunc is a handler.Router that chooses by the method alone.
type RouterFunc func(method string) (cluster.Target, bool)

// Resolve implements handler.Router.
func (f RouterFunc) Resolve(t *cluster.Target, req spec.Request) (ok bool) {
	*t, ok = f(req.Method)
	return ok
}

// To returns a router that sends every call to a target.
func To(t cluster.Target) RouterFunc { return func(string) (cluster.Target, bool) { return t, true } }

// Main runs the tests of a package without Kitex's log.
func Main(m *testing.M) {
	klog.SetLevel(klog.LevelFatal)
	os.Exit(m.Run())
}

// Start serves a Proxy with cfg until the test has ended, and returns it with a client. If cfg has no Pool, it gets a real
// one; if it has no Log, log lines are discarded.
func Start(t testing.TB, cfg handler.Config) (*handler.Proxy, *grpc.ClientConn) {
	t.Helper()
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Pool == nil {
		pl := pool.New(pool.Config{}, kitexconn.Dialer{}, cfg.Log)
		t.Cleanup(pl.Close)
		cfg.Pool = stream.From(pl.Default())
	}
	p := handler.New(cfg)
	t.Cleanup(p.Close)
	ln := listen(t)
	exit, done := make(chan error, 1), make(chan struct{})
	conns := acceptor.New(acceptor.Config{}, transserver.New(transserver.Config{Refuse: p.Refuse(Listener)}))
	svr := healthsvc.NewServer(&health{}, append(transserver.Options(conns), server.WithListener(ln),
		server.WithGRPCUnknownServiceHandler(kitexstream.Handler(p.Serve(Listener))),
		server.WithStreamOptions(server.WithStreamMiddleware(kitexstream.BuiltinService(p.Serve(Listener), "grpc.health.v1"))),
		server.WithExitWaitTime(time.Second), server.WithExitSignal(func() <-chan error { return exit }))...)
	go func() {
		defer close(done)
		_ = svr.Run()
	}()
	t.Cleanup(func() { exit <- nil; <-done })
	cc, err := grpc.NewClient("passthrough:///"+ln.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithUserAgent("handlertest"), grpc.WithDefaultCallOptions(grpc.ForceCodec(codec{})))
	if err != nil {
		t.Fatalf("grpc.NewClient: %v", err)
	}
	t.Cleanup(func() { _ = cc.Close() })
	return p, cc
}

// Backend starts a grpc-go server that answers every method with handle until the test has ended, and returns its address.
func Backend(t testing.TB, handle func(stream grpc.ServerStream) error) string {
	t.Helper()
	ln := listen(t)
	s := grpc.NewServer(grpc.ForceServerCodec(codec{}), grpc.UnknownServiceHandler(func(_ any, stream grpc.ServerStream) error { return handle(stream) }))
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := s.Serve(ln); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
			t.Errorf("grpc-go server: %v", err)
		}
	}()
	t.Cleanup(func() { s.Stop(); <-done })
	return ln.Addr().String()
}

// Echo answers each message with the same message.
func Echo(stream grpc.ServerStream) error {
	for {
		var m []byte
		if err := stream.RecvMsg(&m); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		if err := stream.SendMsg(&m); err != nil {
			return err
		}
	}
}

// Unary makes a unary call.
func Unary(ctx context.Context, cc *grpc.ClientConn, method string, msg []byte, options ...grpc.CallOption) ([]byte, error) {
	var reply []byte
	err := cc.Invoke(ctx, method, &msg, &reply, options...)
	return reply, err
}

// Open opens a bidirectional stream.
func Open(ctx context.Context, cc *grpc.ClientConn, method string) (grpc.ClientStream, error) {
	return cc.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, method)
}

func listen(t testing.TB) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("listen: %v", err)
	}
	return ln
}

// codec is a codec whose messages are *[]byte.
type codec struct{}

func (codec) Marshal(v any) ([]byte, error)      { return *v.(*[]byte), nil }
func (codec) Unmarshal(data []byte, v any) error { *v.(*[]byte) = bytes.Clone(data); return nil }
func (codec) Name() string                       { return "proto" }

// health is a service for the Kitex server, which needs at least one.
type health struct{}

func (*health) Check(context.Context, *v1.HealthCheckRequest) (*v1.HealthCheckResponse, error) {
	return &v1.HealthCheckResponse{Status: v1.HealthCheckResponse_SERVING}, nil
}
func (*health) Watch(*v1.HealthCheckRequest, v1.Health_WatchServer) error { return nil }

// Ends is an Observer that passes on every call's end, as soon as somebody takes it.
type Ends chan handler.Record

// CallStarted implements handler.Observer.
func (e Ends) CallStarted(*handler.Record) handler.EndObserver { return e }

// CallEnded implements handler.EndObserver.
func (e Ends) CallEnded(r *handler.Record) { e <- r.Values() }
