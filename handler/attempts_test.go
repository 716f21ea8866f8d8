package handler_test

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/framegate/framegate/handler"
	"github.com/framegate/framegate/handler/handlertest"
	"github.com/framegate/framegate/handler/stream"
	"github.com/framegate/framegate/pool"
	"github.com/framegate/framegate/pool/kitexconn"
	"github.com/framegate/framegate/pool/transport"
	"github.com/framegate/framegate/resolver"
	"github.com/framegate/framegate/resolver/cluster"
	"github.com/framegate/framegate/resolver/spec"
)

// routed is a Proxy with routes as they are in force in a gateway.
type routed struct {
	*handler.Proxy
	cc       *grpc.ClientConn
	pool     *pool.Pool
	resolver *resolver.Resolver
}

// startRouted starts a Proxy with a route; opener, unless it is nil, comes before the pool.
func startRouted(t testing.TB, route string, opener func(stream.Opener) stream.Opener) routed {
	t.Helper()
	doc, err := spec.ParseRoute([]byte(route))
	require.NoError(t, err)
	r := resolver.New(handlertest.Listener)
	t.Cleanup(r.Close)
	r.Apply("test", resolver.Bind(doc))
	pl := pool.New(pool.Config{}, kitexconn.Dialer{}, slog.New(slog.DiscardHandler))
	t.Cleanup(pl.Close)
	var o stream.Opener = stream.From(pl.Default())
	if opener != nil {
		o = opener(o)
	}
	p, cc := handlertest.Start(t, handler.Config{Router: r, Pool: o})
	return routed{p, cc, pl, r}
}

// requireIdle waits until no call has anything left upstream, and nothing is counted of any: neither more nor less than
// nothing, which is what is ended twice.
func (r routed) requireIdle(t testing.TB) {
	t.Helper()
	require.Eventually(t, func() bool { return r.pool.Stats().Streams == 0 }, patience, 2*time.Millisecond, "streams upstream")
	require.Eventually(t, func() bool { return r.Entrance(handlertest.Listener).Calls == 0 }, patience, 2*time.Millisecond, "calls")
	require.EventuallyWithT(t, func(t *assert.CollectT) {
		for _, l := range r.resolver.Loads() {
			want := cluster.RouteLoad{Source: l.Source, Route: l.Route, Budget: l.Budget}
			for _, b := range l.Backends {
				want.Backends = append(want.Backends, cluster.BackendLoad{Backend: b.Backend})
			}
			assert.Equal(t, want, l)
		}
		for _, e := range r.resolver.Endpoints() {
			assert.Zero(t, e.Active, "calls at %s", e.Address)
		}
	}, patience, 2*time.Millisecond)
}

// unary makes a call and returns its code.
func (r routed) unary(t testing.TB, method string, options ...grpc.CallOption) codes.Code {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	_, err := handlertest.Unary(ctx, r.cc, method, []byte("hello"), options...)
	return status.Code(err)
}

// openerFunc is a stream.Opener.
type openerFunc func(ctx context.Context, addr string, hdr *transport.Header, opts pool.OpenOptions) (stream.Upstream, error)

func (f openerFunc) Open(ctx context.Context, addr string, hdr *transport.Header, opts pool.OpenOptions) (stream.Upstream, error) {
	return f(ctx, addr, hdr, opts)
}

func (f openerFunc) Patience() time.Duration { return 0 }

// saysNothing takes calls and does not answer.
func saysNothing(stream grpc.ServerStream) error {
	<-stream.Context().Done()
	return stream.Context().Err()
}

// unavailable answers no call.
func unavailable(grpc.ServerStream) error { return status.Error(codes.Unavailable, "not now") }

// isFurther reports whether a call has been tried before.
func isFurther(stream grpc.ServerStream) bool {
	md, _ := metadata.FromIncomingContext(stream.Context())
	return len(md.Get("grpc-previous-rpc-attempts")) > 0
}
