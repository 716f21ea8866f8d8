package load

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cloudwego/kitex/pkg/kerrors"
	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/codes"
	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/status"
	"github.com/stretchr/testify/require"

	pb "github.com/framegate/framegate/kitex_gen/echo"
	"github.com/framegate/framegate/test/refusing"
)

func TestRun_CountsErrorsByCode(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		err  error
		code string
	}{
		{status.Err(codes.PermissionDenied, "not you"), "PERMISSION_DENIED"},
		{status.Err(codes.Unauthenticated, "who?"), "UNAUTHENTICATED"},
		{errors.New("a plain error"), "INTERNAL"},
		{kerrors.NewGRPCBizStatusError(404, "no such thing"), "BIZ_STATUS(404)"},
	} {
		for _, mode := range modes {
			t.Run(tc.code+"/"+string(mode), func(t *testing.T) {
				var n atomic.Int64
				s := startServer(t, func() error {
					if n.Add(1)%3 == 0 {
						return tc.err
					}
					return nil
				})
				cfg := short(mode, s.address)
				cfg.Warmup = 0
				r := run(t, t.Context(), cfg)
				require.NoError(t, r.Err(), "some calls succeeded")
				require.Positive(t, r.Target.Calls)
				require.Len(t, r.Target.Errors, 1, "%v, first: %s", r.Target.Errors, r.Target.FirstError)
				require.Positive(t, r.Target.Errors[tc.code], r.Target.Errors)
				require.Less(t, r.Target.ErrorCount, r.Target.Calls, "every third call fails")
			})
		}
	}
}

func TestRun_RefusedConnectionIsUnavailable(t *testing.T) {
	t.Parallel()
	for _, mode := range modes {
		t.Run(string(mode), func(t *testing.T) {
			address := refusing.Address(t)
			cfg := short(mode, address)
			cfg.Duration, cfg.Warmup = 100*time.Millisecond, 0
			r := run(t, t.Context(), cfg)
			require.Zero(t, r.Target.Calls)
			require.Equal(t, map[string]int64{"UNAVAILABLE": r.Target.ErrorCount}, r.Target.Errors)
			require.LessOrEqual(t, r.Target.ErrorCount, int64(8*11), "workers pause after a refusal")
			require.ErrorContains(t, r.Err(), "not one call to "+address+" succeeded; the first error: ")
			require.ErrorContains(t, r.Err(), "connection refused")
		})
	}
}

func TestRun_BaselineWithoutSuccessIsAnError(t *testing.T) {
	t.Parallel()
	s := startServer(t, nil)
	cfg := short(Unary, s.address)
	cfg.Baseline = refusing.Address(t)
	r := run(t, t.Context(), cfg)
	require.Positive(t, r.Target.Calls)
	require.Nil(t, r.Ratio)
	require.ErrorContains(t, r.Err(), "not one call to "+cfg.Baseline+" succeeded")
}

// endsEarly ends its streams with status OK before all messages that were asked for.
type endsEarly struct{ *echoServer }

func (*endsEarly) Stream(req *pb.Request, stream pb.Echo_StreamServer) error {
	return stream.Send(&pb.Reply{})
}
func (*endsEarly) Chat(stream pb.Echo_ChatServer) error { return nil }

// sendsMore answers with a message too many.
type sendsMore struct{ *echoServer }

func (s *sendsMore) Stream(req *pb.Request, stream pb.Echo_StreamServer) error {
	req.Count++
	return s.echoServer.Stream(req, stream)
}

func TestRun_WrongNumberOfRepliesIsAnError(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		service pb.Echo
		mode    Mode
		want    string
	}{
		"server too few":  {&endsEarly{newEchoServer()}, Server, "the stream ended with OK before reply 2 of 5"},
		"server too many": {&sendsMore{newEchoServer()}, Server, "6 replies, 5 were asked for"},
		"bidi too few":    {&endsEarly{newEchoServer()}, Bidi, ""},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := short(tc.mode, serveEcho(t, tc.service))
			cfg.Warmup = 0
			r := run(t, t.Context(), cfg)
			require.Zero(t, r.Target.Calls)
			require.Equal(t, map[string]int64{"INTERNAL": r.Target.ErrorCount}, r.Target.Errors)
			require.ErrorContains(t, r.Err(), tc.want)
		})
	}
}

func TestRun_CallsLeftUnansweredAreErrorsAndTheNextSliceGoesOn(t *testing.T) {
	// The calls of the first slice get no answer: all that begin within a second, when the second slice is still to come.
	var mu sync.Mutex
	var first time.Time
	var held int64
	release := make(chan struct{})
	s := startServer(t, func() error {
		mu.Lock()
		if first.IsZero() {
			first = time.Now()
		}
		hold := time.Since(first) < time.Second
		if hold {
			held++
		}
		mu.Unlock()
		if hold {
			<-release
		}
		return nil
	})
	t.Cleanup(func() { close(release) })
	cfg := short(Unary, s.address)
	cfg.Warmup, cfg.Baseline = 0, startServer(t, nil).address
	r := run(t, t.Context(), cfg)
	require.NoError(t, r.Err())
	require.LessOrEqual(t, held, int64(cfg.Concurrency))
	require.Equal(t, map[string]int64{"DEADLINE_EXCEEDED": held}, r.Target.Errors)
	require.Equal(t, errNoAnswer.Error(), r.Target.FirstError)
	require.Positive(t, r.Target.Calls)
	require.Len(t, s.peers, int(r.Target.ConnectionsDialed))
	require.LessOrEqual(t, r.Target.ConnectionsDialed, int64(4), "each client dials once more after the first slice")
	require.InDelta(t, 0.2, r.Target.ElapsedSeconds, 1e-9, "the wait is not measured time")
	require.Empty(t, r.Baseline.Errors)
}

func TestRun_UnknownHostIsAnError(t *testing.T) {
	t.Parallel()
	cfg := short(Unary, "no-such-host.invalid:1")
	_, err := Run(t.Context(), cfg, nil)
	require.ErrorContains(t, err, "target no-such-host.invalid:1")
}

// A peer that accepts connections and never says a word.
func TestRun_SilentPeerDoesNotHoldTheRun(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			defer conn.Close()
			cancel()
		}
	}()
	t.Cleanup(func() {
		_ = ln.Close()
		<-done
	})
	cfg := short(Unary, ln.Addr().String())
	cfg.Duration = time.Minute
	r := run(t, ctx, cfg)
	require.True(t, r.Interrupted)
	require.Zero(t, r.Target.Calls)
}
