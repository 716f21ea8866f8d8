package transserver

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cloudwego/kitex/pkg/klog"
	kgrpc "github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/grpc"
	"github.com/cloudwego/kitex/server"
	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"

	"github.com/framegate/framegate/handler/acceptor"
	v1 "github.com/framegate/framegate/kitex_gen/grpc/health/v1"
	healthsvc "github.com/framegate/framegate/kitex_gen/grpc/health/v1/health"
	"github.com/framegate/framegate/test/leak"
	"github.com/framegate/framegate/test/testlog"
	"github.com/framegate/framegate/test/together"
)

func TestMain(m *testing.M) {
	klog.SetLevel(klog.LevelError)
	klog.SetOutput(&kitexLog)
	together.Wait(8)
	os.Exit(m.Run())
}

// kitexLog has what Kitex logs.
var kitexLog testlog.Buffer

const waitLimit = 30 * time.Second

// health holds each Watch until release.
type health struct {
	entered chan struct{}
	release chan struct{}
}

func (*health) Check(context.Context, *v1.HealthCheckRequest) (*v1.HealthCheckResponse, error) {
	return &v1.HealthCheckResponse{Status: v1.HealthCheckResponse_SERVING}, nil
}

func (h *health) Watch(_ *v1.HealthCheckRequest, stream v1.Health_WatchServer) error {
	close(h.entered)
	<-h.release
	return stream.Send(&v1.HealthCheckResponse{Status: v1.HealthCheckResponse_SERVING})
}

type running struct {
	acceptor *acceptor.Acceptor
	addr     string
	health   *health
	exit     chan error
	done     chan struct{}
}

func start(t *testing.T, prefaceTimeout time.Duration) *running {
	t.Helper()
	return startWith(t, "127.0.0.1:0", Config{prefaceTimeout: prefaceTimeout})
}

func startWith(t *testing.T, addr string, cfg Config, options ...server.Option) *running {
	t.Helper()
	ln, err := net.Listen("tcp", addr)
	require.NoError(t, err)
	return startOn(t, ln, cfg, options...)
}

func startOn(t *testing.T, ln net.Listener, cfg Config, options ...server.Option) *running {
	t.Helper()
	a := acceptor.New(acceptor.Config{}, New(cfg))
	r := &running{acceptor: a, addr: ln.Addr().String(), health: &health{make(chan struct{}), make(chan struct{})}, exit: make(chan error, 1), done: make(chan struct{})}
	svr := healthsvc.NewServer(r.health, append(append(Options(a),
		server.WithListener(ln),
		server.WithExitWaitTime(waitLimit),
		server.WithExitSignal(func() <-chan error { return r.exit })), options...)...)
	go func() {
		defer close(r.done)
		_ = svr.Run()
	}()
	t.Cleanup(func() { r.stop(t) })
	<-a.Serving()
	require.NoError(t, r.check())
	return r
}

func (r *running) stop(t *testing.T) {
	select {
	case r.exit <- nil:
	default:
	}
	select {
	case <-r.done:
	case <-time.After(2 * waitLimit):
		t.Error("the server did not stop")
	}
}

func (r *running) dial() (*grpc.ClientConn, error) {
	return grpc.NewClient("passthrough:///"+r.addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
}

func (r *running) check() error {
	cc, err := r.dial()
	if err != nil {
		return err
	}
	defer cc.Close()
	ctx, cancel := context.WithTimeout(context.Background(), waitLimit)
	defer cancel()
	_, err = grpc_health_v1.NewHealthClient(cc).Check(ctx, &grpc_health_v1.HealthCheckRequest{}, grpc.WaitForReady(true))
	return err
}

func TestServer_AnswersHTTP1AndClosesGarbage(t *testing.T) {
	t.Parallel()
	r := start(t, waitLimit)
	for sent, want := range map[string]int{
		"GET / HTTP/1.1\r\nHost: x\r\n\r\n":             http.StatusHTTPVersionNotSupported,
		"POST /a.S/M HTTP/1.1\r\nHost: x\r\n\r\n":       http.StatusHTTPVersionNotSupported,
		"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03":  0,
		"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n0123456789abc": 0,
		"\x00\x00\x00\x10\x82\x21\x00\x01thrift call":   0,
	} {
		nc, err := net.Dial("tcp", r.addr)
		require.NoError(t, err)
		require.NoError(t, nc.SetDeadline(time.Now().Add(waitLimit)))
		_, err = io.WriteString(nc, sent)
		require.NoError(t, err)
		if want != 0 {
			resp, err := http.ReadResponse(bufio.NewReader(nc), nil)
			require.NoError(t, err, sent)
			require.Equal(t, want, resp.StatusCode, sent)
			body, err := io.ReadAll(resp.Body)
			require.NoError(t, err)
			require.Equal(t, "this port speaks gRPC, which needs HTTP/2.\n", string(body))
		}
		_, err = io.Copy(io.Discard, nc)
		var timeout net.Error
		if errorsAs(err, &timeout) {
			require.False(t, timeout.Timeout(), "%q was not closed", sent)
		}
		require.NoError(t, nc.Close())
		require.NoError(t, r.check())
	}
}

// Half a preface, or nothing, held a connection of Kitex's for ever.
func TestServer_ClosesConnectionsWithoutAPreface(t *testing.T) {
	t.Parallel()
	r := start(t, 50*time.Millisecond)
	for _, sent := range []string{"", "PRI", "PRI * HTTP/2.0\r\n\r\nSM", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"} {
		nc, err := net.Dial("tcp", r.addr)
		require.NoError(t, err)
		require.NoError(t, nc.SetDeadline(time.Now().Add(waitLimit)))
		_, err = io.WriteString(nc, sent)
		require.NoError(t, err)
		_, err = io.Copy(io.Discard, nc)
		var timeout net.Error
		require.False(t, errorsAs(err, &timeout) && timeout.Timeout(), "%q was not closed", sent)
		require.NoError(t, nc.Close())
	}
}

func errorsAs(err error, target *net.Error) bool {
	e, ok := err.(net.Error)
	*target = e
	return ok
}

// leavesNoGoroutine returns what waits until all goroutines that were not there before have ended. It is for tests that run
// alone.
func leavesNoGoroutine(t *testing.T) func() {
	before := leak.IgnoreCurrent(t)
	return func() { require.NoError(t, leak.Await(before)) }
}

func TestServer_StopsWhileClientsStayAndServesTheirCallsToTheEnd(t *testing.T) {
	defer leavesNoGoroutine(t)()
	r := start(t, waitLimit)
	cc, err := r.dial()
	require.NoError(t, err)
	defer cc.Close()
	ctx, cancel := context.WithTimeout(context.Background(), waitLimit)
	defer cancel()
	w, err := grpc_health_v1.NewHealthClient(cc).Watch(ctx, &grpc_health_v1.HealthCheckRequest{})
	require.NoError(t, err)
	<-r.health.entered
	idle, err := net.Dial("tcp", r.addr)
	require.NoError(t, err)
	defer idle.Close()

	r.exit <- nil
	select {
	case <-r.done:
		t.Fatal("stopped with a call under way")
	case <-time.After(200 * time.Millisecond):
	}
	close(r.health.release)
	_, err = w.Recv()
	require.NoError(t, err)
	_, err = w.Recv()
	require.ErrorIs(t, err, io.EOF)
	r.stop(t)
}

// Kitex's server over netpoll v0.7.2 closes its listener's descriptor twice, and so one that somebody else opened
// between.
func TestServer_StopClosesNobodyElsesDescriptors(t *testing.T) {
	t.Parallel()
	r := start(t, waitLimit)
	r.exit <- nil
	type pair struct{ r, w *os.File }
	var pipes []pair
	for stopped := false; !stopped || len(pipes) < 8; {
		select {
		case <-r.done:
			stopped = true
		case <-time.After(5 * time.Millisecond):
		}
		pr, pw, err := os.Pipe()
		require.NoError(t, err)
		pipes = append(pipes, pair{pr, pw})
	}
	for i, p := range pipes {
		_, err := p.w.Write([]byte{1})
		require.NoError(t, err, "pipe %d of %d", i, len(pipes))
		var b [1]byte
		_, err = p.r.Read(b[:])
		require.NoError(t, err, "pipe %d of %d", i, len(pipes))
		require.NoError(t, p.w.Close())
		require.NoError(t, p.r.Close())
	}
}

// Clients that connect while the server stops get a gate as any other: the race detector tells whether somebody uses the
// transport meanwhile.
func TestShutdown_WhileGatedConnectionsCome(t *testing.T) {
	t.Parallel()
	const clients, each = 8, 75
	r := startWith(t, "127.0.0.1:0", Config{Gate: func(kgrpc.ServerTransport, *kgrpc.Stream, bool) bool { return false }})
	var hello bytes.Buffer
	hello.WriteString(http2.ClientPreface)
	require.NoError(t, http2.NewFramer(&hello, nil).WriteSettings())
	var connected atomic.Int64
	var all sync.WaitGroup
	for range clients {
		all.Go(func() {
			for range each {
				nc, err := net.Dial("tcp", r.addr)
				if err != nil {
					return // it has stopped
				}
				defer nc.Close()
				_, _ = nc.Write(hello.Bytes())
				connected.Add(1)
			}
		})
	}
	require.Eventually(t, func() bool { return connected.Load() > clients*each/4 }, waitLimit, time.Millisecond)
	r.exit <- nil
	all.Wait()
}
