package handler_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/framegate/framegate/handler/handlertest"
	"github.com/framegate/framegate/test/routetest"
)

// However an outage ends calls, each further try is given back to the budget once: a count below zero would allow so many
// more, and the budget would bound nothing when it is needed.
func TestBudget_OutageLeavesItsCountAtZero(t *testing.T) {
	failures := map[string]func(grpc.ServerStream) error{
		"says UNAVAILABLE":       unavailable,
		"says something else":    func(grpc.ServerStream) error { return status.Error(codes.Internal, "broken") },
		"pushes further tries":   pushback("1"),
		"forbids further tries":  pushback("-1"),
		"forbids after a while":  func(s grpc.ServerStream) error { time.Sleep(5 * time.Millisecond); return pushback("-1")(s) },
		"fails after the header": func(s grpc.ServerStream) error { _ = s.SendHeader(nil); return unavailable(s) },
		"says nothing":           saysNothing,
	}
	for name, keys := range map[string]string{
		"hedge":             "hedge: {delay: 1ms, budget: {percent: 1, min: 1}}",
		"retry":             "retry: {attempts: 4, codes: [UNAVAILABLE], backoff: {base: 1ms}, budget: {percent: 1, min: 1}}",
		"retry, late tries": "retry: {attempts: 4, codes: [UNAVAILABLE, DEADLINE_EXCEEDED], per_try_timeout: 2ms, backoff: {base: 1ms}, budget: {percent: 1, min: 1}}",
		"retry, long waits": "retry: {attempts: 4, codes: [UNAVAILABLE], backoff: {base: 1s}, budget: {percent: 1, min: 1}}",
	} {
		for how, serve := range failures {
			t.Run(name+", endpoints "+how, func(t *testing.T) {
				t.Parallel()
				r := startRouted(t, routetest.Doc("r", "*", "timeout: 50ms", keys,
					routetest.Backend(routetest.NeverEjected, handlertest.Backend(t, serve), handlertest.Backend(t, serve))), nil)
				for range 10 {
					require.NotEqual(t, codes.OK, r.unary(t, "/s/m"))
				}
				r.requireIdle(t)
			})
		}
	}
}

// pushback fails calls, and says when they may be tried again.
func pushback(ms string) func(grpc.ServerStream) error {
	return func(s grpc.ServerStream) error {
		s.SetTrailer(metadata.Pairs("grpc-retry-pushback-ms", ms))
		return unavailable(s)
	}
}

// After hedged calls that failed, a budget of one second try allows one.
func TestBudget_BoundsHedgesAfterAnOutage(t *testing.T) {
	t.Parallel()
	const calls = 8
	var down atomic.Bool
	var firsts, hedges atomic.Int64
	serve := func(s grpc.ServerStream) error {
		if down.Load() {
			return unavailable(s)
		}
		if isFurther(s) {
			hedges.Add(1)
		} else {
			firsts.Add(1)
		}
		return saysNothing(s)
	}
	r := startRouted(t, routetest.Doc("r", "*", "hedge: {delay: 5ms, budget: {percent: 1, min: 1}}",
		routetest.Backend(routetest.NeverEjected, handlertest.Backend(t, serve), handlertest.Backend(t, serve))), nil)
	down.Store(true)
	for range 10 {
		require.Equal(t, codes.Unavailable, r.unary(t, "/s/m"))
	}
	r.requireIdle(t)
	down.Store(false)
	ctx, cancel := context.WithCancel(timeout(t))
	defer cancel()
	for range calls {
		go func() { _, _ = handlertest.Unary(ctx, r.cc, "/s/m", nil) }()
	}
	require.Eventually(t, func() bool { return firsts.Load() == calls && hedges.Load() > 0 }, patience, time.Millisecond)
	require.Never(t, func() bool { return hedges.Load() > 1 }, 100*time.Millisecond, 5*time.Millisecond, "second tries with a budget of one")
	cancel()
	r.requireIdle(t)
}

// The wait before a further try that is never made is no latency of the endpoint that was tried: with it, an endpoint that
// failed once would get no calls for long.
func TestRetry_WaitIsNoLatencyOfTheEndpoint(t *testing.T) {
	t.Parallel()
	const slow = 200 * time.Millisecond
	failed := make(chan struct{})
	fast := handlertest.Backend(t, func(s grpc.ServerStream) error {
		if md, _ := metadata.FromIncomingContext(s.Context()); len(md.Get("x-fail")) > 0 {
			close(failed)
			return pushback("10000")(s)
		}
		return handlertest.Echo(s)
	})
	var slowCalls atomic.Int64
	other := handlertest.Backend(t, func(s grpc.ServerStream) error {
		slowCalls.Add(1)
		time.Sleep(slow)
		return handlertest.Echo(s)
	})
	r := startRouted(t, routetest.Doc("r", "*", "balancer: {policy: peak_ewma, decay: 1m}, retry: {attempts: 2, codes: [UNAVAILABLE]}",
		routetest.Backend(routetest.NeverEjected, fast, other)), nil)
	for slowCalls.Load() == 0 { // until both have answered
		require.Equal(t, codes.OK, r.unary(t, "/s/m"))
	}
	require.Equal(t, codes.OK, r.unary(t, "/s/m"))
	require.EqualValues(t, 1, slowCalls.Load(), "the next call goes to the fast one")
	ctx, cancel := context.WithCancel(metadata.AppendToOutgoingContext(timeout(t), "x-fail", "1"))
	go func() {
		<-failed
		time.Sleep(4 * slow) // what would be the latency
		cancel()
	}()
	_, err := handlertest.Unary(ctx, r.cc, "/s/m", nil)
	require.Equal(t, codes.Canceled, status.Code(err))
	r.requireIdle(t)
	require.Equal(t, codes.OK, r.unary(t, "/s/m"))
	require.EqualValues(t, 1, slowCalls.Load(), "and still does")
}
