package handler_test

import (
	"context"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	kcodes "github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/codes"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/framegate/framegate/handler"
	"github.com/framegate/framegate/handler/handlertest"
	"github.com/framegate/framegate/handler/local"
	"github.com/framegate/framegate/handler/stream"
	"github.com/framegate/framegate/pool"
	"github.com/framegate/framegate/pool/kitexconn"
	"github.com/framegate/framegate/pool/transport"
	"github.com/framegate/framegate/resolver/cluster"
)

// recorder is an Observer that keeps records.
type recorder struct {
	started atomic.Int64
	ended   chan *handler.Record
}

func newRecorder() *recorder { return &recorder{ended: make(chan *handler.Record, 100)} }

func (o *recorder) CallStarted(r *handler.Record) handler.EndObserver {
	o.started.Add(1)
	return o
}

func (o *recorder) CallEnded(r *handler.Record) { o.ended <- r }

// one waits for a record.
func (o *recorder) one(t *testing.T) *handler.Record {
	t.Helper()
	select {
	case r := <-o.ended:
		return r
	case <-time.After(patience):
		t.Fatalf("no record of the call within %s", patience)
		return nil
	}
}

// discard is a log to nowhere.
var discard = slog.New(slog.DiscardHandler)

func timeout(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// panickingPool panics in the places that the method names.
type panickingPool struct{ stream.Opener }

func (p panickingPool) Open(ctx context.Context, addr string, hdr *transport.Header, opts pool.OpenOptions) (stream.Upstream, error) {
	s, err := p.Opener.Open(ctx, addr, hdr, opts)
	switch hdr.Method {
	case "/panic/Open":
		if s != nil {
			s.Close()
		}
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

func TestObserver_EachEndOfACallMakesOneRecord(t *testing.T) {
	t.Parallel()
	const limit = 1000
	received, release := make(chan struct{}, 1), make(chan struct{})
	backend := handlertest.Backend(t, func(s grpc.ServerStream) error {
		var m []byte
		if err := s.RecvMsg(&m); err != nil {
			return err
		}
		method, _ := grpc.MethodFromServerStream(s)
		switch method {
		case "/s/NotFound":
			return status.Error(codes.NotFound, "no")
		case "/s/Strange":
			return status.Error(codes.Code(4711), "own code")
		case "/s/LateError":
			if err := s.SendMsg(&m); err != nil {
				return err
			}
			return status.Error(codes.DataLoss, "late")
		case "/s/Huge":
			m = make([]byte, limit+1)
			return s.SendMsg(&m)
		case "/s/Hang", "/s/Timeout":
			if method == "/s/Timeout" {
				<-release // it does not give up by itself for the same deadline
				return nil
			}
			received <- struct{}{}
			<-s.Context().Done()
			return s.Context().Err()
		}
		return s.SendMsg(&m)
	})
	t.Cleanup(func() { close(release) })
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, closed.Close())
	target := cluster.Target{Route: "r", Pattern: "/s/*", Backend: "b", Address: backend}

	rec, second := newRecorder(), newRecorder()
	pl := pool.New(pool.Config{}, kitexconn.Dialer{}, discard)
	t.Cleanup(pl.Close)
	proxy, cc := handlertest.Start(t, handler.Config{
		MaxMessageBytes: limit,
		Observers:       []handler.Observer{nobody{}, rec, second},
		Pool:            panickingPool{stream.From(pl.Default())},
		Log:             discard,
		Router: handlertest.RouterFunc(func(method string) (cluster.Target, bool) {
			to := target
			switch method {
			case "/s/NoRoute":
				return cluster.Target{}, false
			case "/s/NoEndpoint":
				to.Address = ""
			case "/s/Refused":
				to.Address = closed.Addr().String()
			case "/s/Timeout":
				to.Timeout = 50 * time.Millisecond
			case "/panic/Resolve":
				panic("resolve")
			}
			return to, true
		}),
	})

	small := []byte("hello")
	type counts struct{ requestMessages, requestBytes, responseMessages, responseBytes int64 }
	up := counts{1, 10, 0, 0}
	for _, c := range []struct {
		method   string
		send     []byte
		code     kcodes.Code
		reason   local.Reason
		endpoint string
		counts   counts
		answered bool
		during   func(cancel func()) // while the endpoint has the call
	}{
		{method: "/s/Echo", code: kcodes.OK, endpoint: backend, counts: counts{1, 10, 1, 10}, answered: true},
		{method: "/s/NotFound", code: kcodes.NotFound, endpoint: backend, counts: up, answered: true},
		{method: "/s/Strange", code: 4711, endpoint: backend, counts: up, answered: true},
		{method: "/s/LateError", code: kcodes.DataLoss, endpoint: backend, counts: counts{1, 10, 1, 10}, answered: true},
		{method: "/s/NoRoute", code: kcodes.Unimplemented, reason: local.ReasonNoRoute},
		{method: "/s/NoEndpoint", code: kcodes.Unavailable, reason: local.ReasonNoEndpoint},
		{method: "/s/Refused", code: kcodes.Unavailable, reason: local.ReasonConnectFailed, endpoint: closed.Addr().String()},
		{method: "/s/Timeout", code: kcodes.DeadlineExceeded, reason: local.ReasonTimeout, endpoint: backend, counts: up},
		{method: "/s/Echo", send: make([]byte, limit+1), code: kcodes.ResourceExhausted, reason: local.ReasonMessageTooLarge, endpoint: backend},
		{method: "/s/Huge", code: kcodes.ResourceExhausted, reason: local.ReasonMessageTooLarge, endpoint: backend, counts: up, answered: true},
		{method: "/s/Hang", code: kcodes.Canceled, reason: local.ReasonCanceled, endpoint: backend, counts: up, during: func(cancel func()) { cancel() }},
		{method: "/s/Hang", code: kcodes.Unavailable, reason: local.ReasonDraining, endpoint: backend, counts: up, during: func(func()) { proxy.EndCalls() }},
		{method: "/panic/Resolve", code: kcodes.Internal, reason: local.ReasonInternal},
		{method: "/panic/Open", code: kcodes.Internal, reason: local.ReasonInternal, endpoint: backend},
		{method: "/panic/Write", code: kcodes.Internal, reason: local.ReasonInternal, endpoint: backend},
	} {
		t.Run(strings.TrimPrefix(c.method, "/")+" "+string(c.reason), func(t *testing.T) {
			ctx, cancel := context.WithCancel(metadata.AppendToOutgoingContext(timeout(t), "x-request-id", "id-1"))
			defer cancel()
			if c.during != nil {
				go func() {
					<-received
					c.during(cancel)
				}()
			}
			msg := c.send
			if msg == nil {
				msg = small
			}
			before, started := time.Now(), rec.started.Load()
			_, err := handlertest.Unary(ctx, cc, c.method, msg)
			require.Equal(t, c.code == kcodes.OK, err == nil, "%v", err)
			r := rec.one(t)
			require.Same(t, r, second.one(t), "both observers hear of one record")
			require.Equal(t, started+1, rec.started.Load())

			require.Equal(t, handlertest.Listener, r.Listener)
			require.Equal(t, c.method, r.Method)
			require.Equal(t, c.code, r.Code)
			require.Equal(t, c.reason, r.Reason)
			require.Equal(t, c.endpoint, r.Endpoint)
			if c.method != "/panic/Write" { // where it depends on which direction came first
				require.Equal(t, c.counts, counts{r.RequestMessages, r.RequestBytes, r.ResponseMessages, r.ResponseBytes})
			}
			if c.method == "/s/NoRoute" || c.method == "/panic/Resolve" {
				require.Empty(t, r.Route+r.Backend+r.Pattern)
			} else {
				require.Equal(t, []string{"r", "b", "/s/*"}, []string{r.Route, r.Backend, r.Pattern})
			}
			require.Equal(t, c.answered, r.FirstByte > 0, "first byte %s", r.FirstByte)
			require.LessOrEqual(t, r.FirstByte, r.Duration)
			require.Positive(t, r.Duration)
			require.LessOrEqual(t, r.Duration, time.Since(before))
			require.WithinRange(t, r.Start, before, time.Now())
			require.Equal(t, cc.CanonicalTarget()[len("passthrough:///"):], r.Authority())
			require.Equal(t, "id-1", r.RequestID())
			require.True(t, strings.HasPrefix(r.UserAgent(), "handlertest"), r.UserAgent())
			host, _, err := net.SplitHostPort(r.Peer())
			require.NoError(t, err)
			require.Equal(t, "127.0.0.1", host)
		})
	}
	require.Empty(t, rec.ended, "records of no call")
}

// nobody is an Observer that does not want to hear of the end.
type nobody struct{}

func (nobody) CallStarted(*handler.Record) handler.EndObserver { return nil }

func TestObserver_CountsMessagesAndBytesOfStreams(t *testing.T) {
	t.Parallel()
	rec := newRecorder()
	_, cc := handlertest.Start(t, handler.Config{
		Observers: []handler.Observer{rec},
		Router:    handlertest.To(cluster.Target{Route: "r", Address: handlertest.Backend(t, handlertest.Echo)}),
	})
	s, err := handlertest.Open(timeout(t), cc, "/s/Chat")
	require.NoError(t, err)
	var bytes int64
	sizes := []int{0, 1, 70_000, 200_000, 5}
	for _, n := range sizes {
		m := make([]byte, n)
		require.NoError(t, s.SendMsg(&m))
		var back []byte
		require.NoError(t, s.RecvMsg(&back))
		require.Len(t, back, n)
		bytes += int64(n) + 5
	}
	require.Empty(t, rec.ended, "the call has not ended")
	require.NoError(t, s.CloseSend())
	var m []byte
	require.ErrorIs(t, s.RecvMsg(&m), io.EOF)
	r := rec.one(t)
	require.EqualValues(t, len(sizes), r.RequestMessages)
	require.EqualValues(t, len(sizes), r.ResponseMessages)
	require.Equal(t, bytes, r.RequestBytes)
	require.Equal(t, bytes, r.ResponseBytes)
}

func TestObserver_EndpointThatDiesIsUpstreamReset(t *testing.T) {
	t.Parallel()
	rec := newRecorder()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s := grpc.NewServer(grpc.UnknownServiceHandler(func(_ any, s grpc.ServerStream) error {
		if err := s.SendHeader(nil); err != nil {
			return err
		}
		<-s.Context().Done()
		return nil
	}))
	go func() { _ = s.Serve(ln) }()
	t.Cleanup(s.Stop)
	_, cc := handlertest.Start(t, handler.Config{
		Observers: []handler.Observer{rec},
		Router:    handlertest.To(cluster.Target{Route: "r", Address: ln.Addr().String()}),
	})
	call, err := handlertest.Open(timeout(t), cc, "/s/Hang")
	require.NoError(t, err)
	_, err = call.Header()
	require.NoError(t, err)
	s.Stop()
	var m []byte
	err = call.RecvMsg(&m)
	require.Equal(t, codes.Unavailable, status.Code(err), "%v", err)
	r := rec.one(t)
	require.Equal(t, local.ReasonUpstreamReset, r.Reason)
	require.Equal(t, kcodes.Unavailable, r.Code)
	require.Positive(t, r.FirstByte, "headers had come")
}

func TestObserver_DoesNotHearOfOwnServices(t *testing.T) {
	t.Parallel()
	rec := newRecorder()
	_, cc := handlertest.Start(t, handler.Config{
		Observers: []handler.Observer{rec},
		Router:    handlertest.To(cluster.Target{Route: "r", Address: handlertest.Backend(t, handlertest.Echo)}),
	})
	_, err := handlertest.Unary(timeout(t), cc, "/grpc.health.v1.Health/Check", nil)
	require.NoError(t, err)
	_, err = handlertest.Unary(timeout(t), cc, "/my.shop.Health/Check", nil) // a service of somebody else
	require.NoError(t, err)
	require.Equal(t, "/my.shop.Health/Check", rec.one(t).Method)
	require.EqualValues(t, 1, rec.started.Load())
}

// panickingObserver panics when a call starts or ends.
type panickingObserver struct{ atStart bool }

func (o panickingObserver) CallStarted(*handler.Record) handler.EndObserver {
	if o.atStart {
		panic("start")
	}
	return o
}

func (o panickingObserver) CallEnded(*handler.Record) { panic("end") }

func TestObserver_PanicStaysWithItsCall(t *testing.T) {
	t.Parallel()
	backend := handlertest.Backend(t, handlertest.Echo)
	for name, c := range map[string]struct {
		o    panickingObserver
		want codes.Code
	}{
		"at the start": {panickingObserver{atStart: true}, codes.Internal},
		"at the end":   {panickingObserver{}, codes.OK}, // the client has its result
	} {
		t.Run(name, func(t *testing.T) {
			_, cc := handlertest.Start(t, handler.Config{
				Observers: []handler.Observer{c.o},
				Router:    handlertest.To(cluster.Target{Route: "r", Address: backend}),
			})
			for range 3 {
				_, err := handlertest.Unary(timeout(t), cc, "/s/m", nil)
				require.Equal(t, c.want, status.Code(err), "%v", err)
			}
		})
	}
}

func TestNew_RefusesTooManyObservers(t *testing.T) {
	t.Parallel()
	require.PanicsWithValue(t, "handler: 5 observers, want at most 4", func() {
		handler.New(handler.Config{Observers: make([]handler.Observer, 5)})
	})
}

func TestCodeName_IsBounded(t *testing.T) {
	t.Parallel()
	require.Equal(t, "OK", local.CodeName(0))
	require.Equal(t, "UNAUTHENTICATED", local.CodeName(16))
	require.Equal(t, local.OtherCode, local.CodeName(17))
	require.Equal(t, local.OtherCode, local.CodeName(1<<32-1))
}
