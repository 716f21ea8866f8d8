package test

import (
	"context"
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/framegate/framegate/test/testbed"
)

// inTime is how late an expired deadline may be seen. It is generous: a hang is what the tests look for.
const inTime = testbed.Patience / 2

// wantAfter checks that something came when so much time had passed since the cause, and in time. took is measured from
// before the cause, so that it cannot be less.
func wantAfter(t testing.TB, want, took time.Duration) {
	t.Helper()
	require.GreaterOrEqual(t, took, want)
	require.Less(t, took, want+inTime)
}

var timeoutUnits = map[byte]time.Duration{
	'H': time.Hour, 'M': time.Minute, 'S': time.Second, 'm': time.Millisecond, 'u': time.Microsecond, 'n': time.Nanosecond,
}

// timeoutOf decodes the only grpc-timeout of a request.
func timeoutOf(t testing.TB, request testbed.Fields) time.Duration {
	t.Helper()
	values := request.Values("grpc-timeout")
	require.Len(t, values, 1, "grpc-timeout fields")
	v := values[0]
	unit := timeoutUnits[v[len(v)-1]]
	n, err := strconv.Atoi(v[:len(v)-1])
	if err != nil || unit == 0 {
		t.Fatalf("got grpc-timeout %q, want a number and a unit", v)
	}
	return time.Duration(n) * unit
}

func TestDeadline_UpstreamSeesNoMoreThanTheClientHas(t *testing.T) {
	t.Parallel()
	eachPath(t, func(t *testing.T, to via) {
		p := newRawPair(t, to)
		for timeout, limit := range map[string]time.Duration{
			"30S": 30 * time.Second, "20000m": 20 * time.Second, "1H": time.Hour, "99999999S": 99999999 * time.Second,
		} {
			t.Run(timeout, func(t *testing.T) {
				_, _, request := p.open(t, testbed.RequestFields("grpc-timeout", timeout))
				got := timeoutOf(t, request)
				if got > limit || got < limit-testbed.Patience {
					t.Errorf("got %s at the upstream, want %s less what the way took", got, limit)
				}
			})
		}
	})
}

func TestDeadline_UpstreamSeesNoneIfTheClientSetNone(t *testing.T) {
	t.Parallel()
	eachPath(t, func(t *testing.T, to via) {
		p := newRawPair(t, to)
		_, _, request := p.open(t, testbed.RequestFields())
		require.Empty(t, request.Values("grpc-timeout"), "grpc-timeout")
	})
}

// The client here keeps no clock: what ends the call is framegate.
func TestDeadline_ExpiryEndsTheCallWhileTheUpstreamSleeps(t *testing.T) {
	t.Parallel()
	eachMode(t, func(t *testing.T, to via) {
		const timeout = 500 * time.Millisecond
		for name, before := range map[string]func(cs, ss *testbed.H2Stream){
			"before headers": func(_, _ *testbed.H2Stream) {},
			"after headers": func(cs, ss *testbed.H2Stream) {
				ss.SendHeaders(testbed.ResponseFields())
				cs.ReadHeaders()
			},
			"within a response message": func(cs, ss *testbed.H2Stream) {
				ss.SendHeaders(testbed.ResponseFields())
				ss.Send(testbed.Prefix(0, 10))
			},
			"within a request message": func(cs, _ *testbed.H2Stream) { cs.Send(testbed.Prefix(0, 10)) },
			"after the half-close":     func(cs, _ *testbed.H2Stream) { cs.SendEnd(testbed.Frame(text("request"))) },
		} {
			t.Run(name, func(t *testing.T) {
				p := newRawPair(t, to)
				start := time.Now()
				cs, ss, _ := p.open(t, testbed.RequestFields("grpc-timeout", fmt.Sprintf("%dm", timeout.Milliseconds())))
				before(cs, ss)
				o := cs.Outcome()
				wantLocal(t, o, 4, "timeout")
				if took := o.At.Sub(start); took < timeout || took > timeout+inTime {
					t.Errorf("got the end after %s, want %s", took, timeout)
				}
				_, at := ss.AwaitReset()
				if late := at.Sub(start) - timeout; late > inTime {
					t.Errorf("got RST_STREAM at the upstream %s after the deadline, want at most %s", late, inTime)
				}
			})
		}
	})
}

func TestDeadline_ExpirySeenByGRPCGo(t *testing.T) {
	t.Parallel()
	const timeout = 500 * time.Millisecond
	eachPath(t, func(t *testing.T, to via) {
		ended := make(chan struct{})
		cc := goPair(t, to, func(stream grpc.ServerStream) error {
			<-stream.Context().Done()
			close(ended)
			return stream.Context().Err()
		})
		ctx, cancel := context.WithTimeout(context.Background(), timeout)
		defer cancel()
		start := time.Now()
		_, err := testbed.Unary(ctx, cc, text("request"))
		require.Equal(t, codes.DeadlineExceeded, status.Code(err), "%v", err)
		require.Less(t, time.Since(start), timeout+inTime, "time until the client sees the expiry")
		testbed.Await(t, ended, "the end of the call at the server")
	})
}

// A server that keeps the deadline itself resets the call when it has passed (grpc-go: CANCEL), at the moment at which
// framegate's own clock ends it. Whichever is first, the client's answer is the same.
func TestDeadline_ExpiryAtBothEndsIsATimeout(t *testing.T) {
	t.Parallel()
	eachMode(t, func(t *testing.T, to via) {
		const rounds, calls = 10, 100
		client := testbed.DialH2(t, to(t, testbed.NewRaw(t, func(stream grpc.ServerStream) error {
			<-stream.Context().Done()
			return stream.Context().Err()
		})))
		for range rounds {
			var streams [calls]*testbed.H2Stream
			for i := range streams {
				streams[i] = client.Open(t, testbed.RequestFields("grpc-timeout", "20m"))
			}
			for _, cs := range streams {
				o := cs.Outcome()
				if o.Reason() == "" { // the server's own DEADLINE_EXCEEDED, as it may be
					wantUpstream(t, o, 4, o.Message())
					continue
				}
				wantLocal(t, o, 4, "timeout")
			}
		}
	})
}

func TestDeadline_RouteTimeout(t *testing.T) {
	t.Parallel()
	const timeout = 500 * time.Millisecond
	server := testbed.NewH2Server(t)
	proxy := testbed.NewProxy(t, testbed.RouteWith(server.Addr, "timeout: "+timeout.String()))
	p := rawPair{client: testbed.DialH2(t, proxy.Addr), server: server}
	t.Run("bounds a client without a deadline", func(t *testing.T) {
		start := time.Now()
		cs, _, request := p.open(t, testbed.RequestFields())
		require.LessOrEqual(t, timeoutOf(t, request), timeout, "grpc-timeout")
		o := cs.Outcome()
		wantLocal(t, o, 4, "timeout")
		require.Less(t, o.At.Sub(start), timeout+inTime, "time until the end")
	})
	t.Run("bounds a client with a longer deadline", func(t *testing.T) {
		cs, _, request := p.open(t, testbed.RequestFields("grpc-timeout", "1H"))
		require.LessOrEqual(t, timeoutOf(t, request), timeout, "grpc-timeout")
		wantLocal(t, cs.Outcome(), 4, "timeout")
	})
	t.Run("does not lengthen a shorter deadline", func(t *testing.T) {
		cs, _, request := p.open(t, testbed.RequestFields("grpc-timeout", "300m"))
		require.LessOrEqual(t, timeoutOf(t, request), 300*time.Millisecond, "grpc-timeout")
		wantLocal(t, cs.Outcome(), 4, "timeout")
	})
}
