package handler_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/framegate/framegate/handler/handlertest"
	"github.com/framegate/framegate/test/routetest"
)

// An endpoint that says nothing in the route's time has failed; a client that does not wait says nothing about it.
func TestTimeout_BlamesTheEndpointForTheRoutesTimeOnly(t *testing.T) {
	for name, c := range map[string]struct {
		route  string
		client time.Duration
		blamed bool
	}{
		"route's time":                 {"400ms", patience, true},
		"client's time":                {"30s", 400 * time.Millisecond, false}, // in which the endpoint surely has the call
		"client's time, without other": {"0s", 400 * time.Millisecond, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var calls atomic.Int64
			mute := handlertest.Backend(t, func(stream grpc.ServerStream) error {
				calls.Add(1)
				return saysNothing(stream)
			})
			r := startRouted(t, routetest.Doc("r", "*", "balancer: {policy: round_robin}, timeout: "+c.route,
				routetest.Backend("ejection: {consecutive_failures: 1}", mute, handlertest.Backend(t, handlertest.Echo))), nil)
			for range 20 {
				ctx, cancel := context.WithTimeout(t.Context(), c.client)
				_, err := handlertest.Unary(ctx, r.cc, "/s/m", nil)
				cancel()
				require.Contains(t, []codes.Code{codes.OK, codes.DeadlineExceeded}, status.Code(err))
				r.requireIdle(t)
			}
			if c.blamed {
				require.Less(t, calls.Load(), int64(5), "calls at the endpoint before it is ejected") // once it may say itself that it is late
			} else {
				require.EqualValues(t, 10, calls.Load())
			}
		})
	}
}
