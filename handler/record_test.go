package handler_test

import (
	"fmt"
	"strings"
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
	"github.com/framegate/framegate/pool/policy"
	"github.com/framegate/framegate/resolver"
	"github.com/framegate/framegate/resolver/filesource"
	"github.com/framegate/framegate/test/refusing"
	"github.com/framegate/framegate/test/routetest"
)

// routed returns a real resolver with one route to the endpoints, each "address" or "address weight", with more keys.
func routedTo(t *testing.T, keys string, endpoints ...string) *resolver.Resolver {
	t.Helper()
	return routedBy(t, keys, "", endpoints...)
}

// routedBy is routedTo with more keys of the backend, too.
func routedBy(t *testing.T, keys, backend string, endpoints ...string) *resolver.Resolver {
	t.Helper()
	named := strings.TrimSuffix("name: b, "+backend, ", ")
	route := routetest.MustRoute(t, routetest.Doc("r", "*", routetest.Backend(named, endpoints...), keys))
	r := resolver.New()
	t.Cleanup(r.Close)
	r.Apply(filesource.Name, resolver.Bind(route))
	return r
}

// attemptOf returns which attempt of its call an endpoint has, from 1.
func attemptOf(s grpc.ServerStream) int {
	md, _ := metadata.FromIncomingContext(s.Context())
	n := 1
	if v := md.Get("grpc-previous-rpc-attempts"); len(v) > 0 {
		_, _ = fmt.Sscan(v[0], &n)
		n++
	}
	return n
}

func TestRecord_CountsAttemptsByWhyTheyWereMade(t *testing.T) {
	t.Parallel()
	flaky := handlertest.Backend(t, func(s grpc.ServerStream) error { // its third attempt is good
		if attemptOf(s) < 3 {
			return status.Error(codes.Unavailable, "not yet")
		}
		return handlertest.Echo(s)
	})
	slow := handlertest.Backend(t, func(s grpc.ServerStream) error { // it answers none but a second attempt
		if attemptOf(s) == 1 {
			<-s.Context().Done()
			return s.Context().Err()
		}
		return handlertest.Echo(s)
	})
	closed := refusing.Address(t)
	for name, c := range map[string]struct {
		keys      string
		endpoints []string
		code      kcodes.Code
		want      handler.Attempts
		last      string // endpoint
	}{
		"one":             {"", []string{slow}, kcodes.DeadlineExceeded, handler.Attempts{}, slow},
		"not connected":   {"", []string{closed + " 1000000", flaky + " 1"}, kcodes.Unavailable, handler.Attempts{Transparent: 1}, flaky},
		"retries":         {"retry: {attempts: 4, codes: [UNAVAILABLE], backoff: {base: 1ms}}", []string{flaky}, kcodes.OK, handler.Attempts{Retries: 2}, flaky},
		"too few retries": {"retry: {attempts: 2, codes: [UNAVAILABLE], backoff: {base: 1ms}}", []string{flaky}, kcodes.Unavailable, handler.Attempts{Retries: 1}, flaky},
		"hedge":           {"hedge: {delay: 20ms}", []string{slow}, kcodes.OK, handler.Attempts{Hedges: 1}, slow},
	} {
		t.Run(name, func(t *testing.T) {
			rec := newRecorder()
			keys := c.keys
			if c.code == kcodes.DeadlineExceeded {
				keys = "timeout: 50ms"
			}
			_, cc := handlertest.Start(t, handler.Config{Observers: []handler.Observer{rec}, Router: routedTo(t, keys, c.endpoints...)})
			_, err := handlertest.Unary(timeout(t), cc, "/s/Say", []byte("hello"))
			require.EqualValues(t, c.code, status.Code(err), "%v", err)
			r := rec.one(t)
			require.Equal(t, c.code, r.Code)
			require.Equal(t, c.want, r.Attempts)
			require.Equal(t, c.last, r.Endpoint)
		})
	}
}

func TestRecord_EndpointThatIsLeftAloneIsNoAttempt(t *testing.T) {
	t.Parallel()
	dead, good := refusing.Address(t), handlertest.Backend(t, handlertest.Echo)
	pl := pool.New(pool.Config{Backoff: policy.Backoff{Base: time.Minute, Max: time.Minute}}, kitexconn.Dialer{}, discard)
	t.Cleanup(pl.Close)
	rec := newRecorder()
	_, cc := handlertest.Start(t, handler.Config{
		Observers: []handler.Observer{rec}, Pool: stream.From(pl.Default()),
		Router: routedBy(t, "", "ejection: {consecutive_failures: -1}", dead+" 1000000", good+" 1"),
	})
	for _, want := range []handler.Attempts{{Transparent: 1}, {}, {}} {
		_, err := handlertest.Unary(timeout(t), cc, "/s/Say", []byte("hello"))
		require.NoError(t, err)
		r := rec.one(t)
		require.Equal(t, want, r.Attempts)
		require.Equal(t, good, r.Endpoint)
	}
}

func TestRecord_SaysThatTheBudgetAllowedNoFurtherAttempt(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		keys string
		held handler.Attempts
	}{
		{"retry: {attempts: 2, codes: [UNAVAILABLE], backoff: {base: 1ms}, budget: {percent: 1, min: 1}}", handler.Attempts{Retries: 1}},
		{"hedge: {delay: 10ms, budget: {percent: 1, min: 1}}", handler.Attempts{Hedges: 1}},
	} {
		t.Run(c.keys, func(t *testing.T) {
			second, release := make(chan struct{}, 1), make(chan struct{})
			backend := handlertest.Backend(t, func(s grpc.ServerStream) error {
				if attemptOf(s) == 1 {
					return status.Error(codes.Unavailable, "not yet")
				}
				second <- struct{}{}
				<-release
				return handlertest.Echo(s)
			})
			rec := newRecorder()
			_, cc := handlertest.Start(t, handler.Config{Observers: []handler.Observer{rec}, Router: routedTo(t, c.keys, backend)})
			held := make(chan error, 1)
			ctx := timeout(t)
			go func() {
				_, err := handlertest.Unary(ctx, cc, "/s/Held", []byte("hello"))
				held <- err
			}()
			<-second // its further attempt is all that the budget allows
			_, err := handlertest.Unary(ctx, cc, "/s/Refused", []byte("hello"))
			require.Equal(t, codes.Unavailable, status.Code(err), err)
			require.Equal(t, handler.Attempts{OverBudget: true}, rec.one(t).Attempts)
			close(release)
			require.NoError(t, <-held)
			require.Equal(t, c.held, rec.one(t).Attempts)
		})
	}
}

func TestRecord_NamesTheLimitThatACallWasOver(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		keys, backend string
		pool          pool.Config
		maxCalls      int
		limit         string
	}{
		"calls of the route":    {keys: "limits: {concurrent: 1}", limit: "limits.concurrent"},
		"rate of the route":     {keys: "limits: {calls_per_second: 0.01, burst: 1}", limit: "limits.calls_per_second"},
		"calls of the backend":  {backend: "limits: {concurrent: 1}", limit: "backends.limits.concurrent"},
		"rate of the backend":   {backend: "limits: {calls_per_second: 0.01, burst: 1}", limit: "backends.limits.calls_per_second"},
		"streams":               {pool: pool.Config{Connections: policy.Connections{Max: 1}, StreamsPerConnection: 1, WhenFull: policy.WhenFullFail}, limit: "when_full"},
		"calls of the listener": {maxCalls: 1, limit: "max_calls"},
	} {
		t.Run(name, func(t *testing.T) {
			busy, release := make(chan struct{}, 1), make(chan struct{})
			backend := handlertest.Backend(t, func(s grpc.ServerStream) error {
				busy <- struct{}{}
				<-release
				return handlertest.Echo(s)
			})
			pl := pool.New(c.pool, kitexconn.Dialer{}, discard)
			t.Cleanup(pl.Close)
			rec := newRecorder()
			_, cc := handlertest.Start(t, handler.Config{
				Observers: []handler.Observer{rec}, Pool: stream.From(pl.Default()), MaxCalls: map[string]int{handlertest.Listener: c.maxCalls},
				Router: routedBy(t, c.keys, c.backend, backend),
			})
			held := make(chan error, 1)
			ctx := timeout(t)
			go func() {
				_, err := handlertest.Unary(ctx, cc, "/s/Held", []byte("hello"))
				held <- err
			}()
			<-busy
			_, err := handlertest.Unary(ctx, cc, "/s/Refused", []byte("hello"))
			require.Equal(t, codes.ResourceExhausted, status.Code(err), err)
			r := rec.one(t)
			require.Equal(t, []any{local.ReasonOverloaded, c.limit}, []any{r.Reason, r.Limit})
			close(release)
			require.NoError(t, <-held)
			require.Empty(t, rec.one(t).Limit)
		})
	}
}
