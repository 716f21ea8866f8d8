package handler_test

import (
	"context"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"github.com/framegate/framegate/handler/handlertest"
	"github.com/framegate/framegate/handler/stream"
	"github.com/framegate/framegate/pool"
	"github.com/framegate/framegate/pool/transport"
	"github.com/framegate/framegate/test/routetest"
)

// A panic while the second try is opened gives back what both tries took: the one call that may be under way, and the one
// retry.
func TestRetry_PanicInASecondTryLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	for name, keys := range map[string]string{
		"retry": "retry: {attempts: 2, codes: [UNAVAILABLE], budget: {percent: 1, min: 1}, backoff: {base: 1ms}}",
		"hedge": "hedge: {delay: 10ms, budget: {percent: 1, min: 1}}",
	} {
		t.Run(name, func(t *testing.T) {
			backend := handlertest.Backend(t, func(stream grpc.ServerStream) error {
				if name == "hedge" {
					return saysNothing(stream)
				}
				return unavailable(stream)
			})
			var opened atomic.Int64
			r := startRouted(t, routetest.Doc("r", "*", routetest.Backend("", backend), "balancer: {policy: least_request}, limits: {concurrent: 1}", keys),
				func(next stream.Opener) stream.Opener {
					return openerFunc(func(ctx context.Context, addr string, hdr *transport.Header, opts pool.OpenOptions) (stream.Upstream, error) {
						if opened.Add(1)%2 == 0 {
							panic("open")
						}
						return next.Open(ctx, addr, hdr, opts)
					})
				})
			for i := range 5 {
				require.Equal(t, codes.Internal, r.unary(t, "/s/m"))
				r.requireIdle(t)
				require.EqualValues(t, 2*(i+1), opened.Load(), "tries")
			}
		})
	}
}

// Where a call was tried is where it is ended when the endpoint leaves, and no other is.
func TestRetry_EndpointThatLeavesEndsItsCallsAlone(t *testing.T) {
	t.Parallel()
	var addrs [2]string
	at := make(chan int, 10)
	for i := range addrs {
		addrs[i] = handlertest.Backend(t, func(stream grpc.ServerStream) error {
			if !isFurther(stream) {
				return unavailable(stream)
			}
			at <- i
			return handlertest.Echo(stream)
		})
	}
	r := startRouted(t, routetest.Doc("r", "*", routetest.Backend(routetest.NeverEjected, addrs[:]...),
		"retry: {attempts: 2, codes: [UNAVAILABLE], budget: {min: 1000}, backoff: {base: 1ms}}"), nil)
	streams := map[int]grpc.ClientStream{}
	for len(streams) < 2 {
		stream, err := handlertest.Open(timeout(t), r.cc, "/s/m")
		require.NoError(t, err)
		msg := []byte("one")
		require.NoError(t, stream.SendMsg(&msg))
		require.NoError(t, stream.RecvMsg(&msg))
		streams[<-at] = stream
	}
	var msg []byte
	for i := range addrs {
		r.EndCallsAt(addrs[i])
		requireDraining(t, streams[i].RecvMsg(&msg), streams[i].Trailer())
		if i == 0 {
			msg = []byte("two")
			require.NoError(t, streams[1].SendMsg(&msg))
			require.NoError(t, streams[1].RecvMsg(&msg))
			require.Equal(t, "two", string(msg))
		}
	}
	r.requireIdle(t)
}
