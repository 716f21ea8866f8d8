package handler_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/framegate/framegate/handler/handlertest"
	"github.com/framegate/framegate/handler/local"
	"github.com/framegate/framegate/test/leak"
	"github.com/framegate/framegate/test/routetest"
)

func requireDraining(t testing.TB, err error, trailer metadata.MD) {
	t.Helper()
	require.Equal(t, codes.Unavailable, status.Code(err), "%v", err)
	require.Equal(t, []string{"draining"}, trailer.Get(local.ReasonTrailer))
}

// Either endpoint of a call that waits for two ends it when it leaves.
func TestHedge_EitherEndpointThatLeavesEndsTheCall(t *testing.T) {
	t.Parallel()
	began := make(chan string, 2)
	var addrs [2]string
	for i := range addrs {
		addrs[i] = handlertest.Backend(t, func(stream grpc.ServerStream) error {
			if isFurther(stream) {
				began <- addrs[1-i] + " " + addrs[i]
			}
			return saysNothing(stream)
		})
	}
	r := startRouted(t, routetest.Doc("r", "*", routetest.Backend("", addrs[:]...), "hedge: {delay: 10ms}"), nil)
	for i := range 2 {
		done := make(chan struct{})
		go func() {
			defer close(done)
			var both [2]string
			_, _ = fmt.Sscan(<-began, &both[0], &both[1])
			r.EndCallsAt("127.0.0.1:1")
			r.EndCallsAt(both[i])
		}()
		var trailer metadata.MD
		_, err := handlertest.Unary(timeout(t), r.cc, "/s/m", nil, grpc.Trailer(&trailer))
		requireDraining(t, err, trailer)
		<-done
		r.requireIdle(t)
	}
}

// However hedged calls end, no goroutine is left of them.
func TestHedge_NoGoroutineIsLeft(t *testing.T) {
	serve := func(stream grpc.ServerStream) error {
		md, _ := metadata.FromIncomingContext(stream.Context())
		switch how := md.Get("x-how"); {
		case how[0] == "silent", how[0] == "slow" && !isFurther(stream):
			return saysNothing(stream)
		case how[0] == "fail", how[0] == "flaky" && !isFurther(stream):
			return unavailable(stream)
		}
		return handlertest.Echo(stream)
	}
	a, b := handlertest.Backend(t, serve), handlertest.Backend(t, serve)
	r := startRouted(t, routetest.Doc("r", "*", routetest.Backend(routetest.NeverEjected, a, b), "hedge: {delay: 3ms, budget: {percent: 100}}"), nil)
	calls := func() {
		for _, how := range []string{"silent", "slow", "fail", "flaky", "good"} {
			for range 20 {
				ctx, cancel := context.WithTimeout(metadata.AppendToOutgoingContext(t.Context(), "x-how", how), 15*time.Millisecond)
				_, _ = handlertest.Unary(ctx, r.cc, "/s/m", []byte("hello"))
				cancel()
			}
		}
		r.requireIdle(t)
	}
	calls() // connections, and what Kitex keeps
	before := leak.IgnoreCurrent(t)
	calls()
	require.NoError(t, leak.Await(before))
}
