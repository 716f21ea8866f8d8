package test

import (
	"bytes"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"

	"github.com/framegate/framegate/test/testbed"
)

// endsAfter opens a call that the endpoint never ends, and returns how it ended and after what time.
func (u *upstreams) endsAfter(t testing.TB, enter func(cs, st *testbed.H2Stream), fields ...string) (testbed.Outcome, time.Duration) {
	t.Helper()
	began := time.Now()
	cs := u.client.Open(t, testbed.RequestFields(fields...))
	st := u.accept(t)
	enter(cs, st)
	o := cs.Outcome()
	took := o.At.Sub(began)
	code, at := st.AwaitReset()
	require.Equal(t, http2.ErrCodeCancel, code)
	require.WithinDuration(t, o.At, at, inTime)
	return o, took
}

// wantEndForSlowReader makes a call whose client never reads: it ends upstream, although the status cannot pass what the
// client has no window for.
func (u *upstreams) wantEndForSlowReader(t testing.TB, within time.Duration) {
	t.Helper()
	began := time.Now()
	cs := u.client.Open(t, testbed.RequestFields())
	st := u.accept(t)
	headers(cs, st)
	sent := make(chan error, 1)
	go func() { sent <- st.TrySend(bytes.Repeat(testbed.Frame(pattern(1<<20, 1)), 3)) }()
	code, at := st.AwaitReset()
	require.Equal(t, http2.ErrCodeCancel, code)
	require.Less(t, at.Sub(began), within)
	require.Error(t, <-sent)
	u.requireIdle(t)
}

func nothing(_, _ *testbed.H2Stream) {}

func headers(_, st *testbed.H2Stream) { st.SendHeaders(testbed.ResponseFields()) }

// message is a call of which each side has sent a message.
func message(cs, st *testbed.H2Stream) {
	cs.Send(testbed.Frame(text("request")))
	headers(cs, st)
	st.Send(testbed.Frame(text("reply")))
}

// talk has both sides, or one, send a message again and again for a time.
func talk(d, every time.Duration, who ...func(cs, st *testbed.H2Stream)) func(cs, st *testbed.H2Stream) {
	return func(cs, st *testbed.H2Stream) {
		headers(cs, st)
		for began := time.Now(); time.Since(began) < d; time.Sleep(every) {
			for _, say := range who {
				say(cs, st)
			}
		}
	}
}

func clientSays(cs, _ *testbed.H2Stream) { _ = cs.TrySend(testbed.Frame(text("request"))) }
func serverSays(_, st *testbed.H2Stream) { _ = st.TrySend(testbed.Frame(text("reply"))) }

// requireTimeout makes calls that the endpoint never ends, of a route with a timeout and further keys.
func requireTimeout(t *testing.T, routes routing, keys ...string) {
	const timeout = time.Second
	u := newUpstreams(t, routes, 1, append(keys, "timeout: 1s")...)
	for name, enter := range map[string]func(cs, st *testbed.H2Stream){
		"silent": nothing, "after headers": headers, "after a message": message,
		"busy": talk(timeout, 50*time.Millisecond, clientSays, serverSays),
	} {
		t.Run(name, func(t *testing.T) {
			o, took := u.endsAfter(t, enter)
			wantLocal(t, o, 4, "timeout")
			wantAfter(t, timeout, took)
			u.awaitFurther(t) // of a hedged call, the second
			u.requireIdle(t)
		})
	}
}

func TestTimeout_EndsTheWholeHedgedCall(t *testing.T) {
	t.Parallel()
	eachRouting(t, func(t *testing.T, routes routing) { requireTimeout(t, routes, hedge(", buffer_bytes: 1000")) })
}

func TestTimeout_EndsAllAttempts(t *testing.T) {
	t.Parallel()
	eachRouting(t, func(t *testing.T, routes routing) {
		requireTimeout(t, routes, "retry: {attempts: 3, codes: [DEADLINE_EXCEEDED, CANCELLED, UNAVAILABLE]}")
	})
}

func TestTimeout_EndsTheWholeCall(t *testing.T) {
	t.Parallel()
	const timeout = time.Second
	eachRouting(t, func(t *testing.T, routes routing) {
		requireTimeout(t, routes)
		t.Run("endpoint is told", func(t *testing.T) {
			u := newUpstreams(t, routes, 1, "timeout: 5s")
			for client, want := range map[string]time.Duration{"10S": 5 * time.Second, "2S": 2 * time.Second} {
				u.client.OpenEnd(t, testbed.RequestFields("grpc-timeout", client))
				got := timeoutOf(t, u.accept(t).ReadHeaders())
				require.LessOrEqual(t, got, want)
				require.Greater(t, got, want-inTime)
			}
		})
		t.Run("while the client's own is shorter", func(t *testing.T) {
			u := newUpstreams(t, routes, 1, "timeout: 5s")
			o, took := u.endsAfter(t, nothing, "grpc-timeout", "1S")
			wantLocal(t, o, 4, "timeout")
			wantAfter(t, time.Second, took)
		})
		t.Run("while connecting", func(t *testing.T) {
			proxy := testbed.NewProxy(t, routes(t, []string{mute(t)}, "timeout: 1s"))
			began := time.Now()
			o := testbed.DialH2(t, proxy.Addr).OpenEnd(t, testbed.RequestFields()).Outcome()
			wantLocal(t, o, 4, "timeout")
			wantAfter(t, timeout, o.At.Sub(began))
		})
		t.Run("while the client reads nothing", func(t *testing.T) {
			u := newUpstreams(t, routes, 1, "timeout: 1s")
			u.client = testbed.DialH2(t, u.proxy.Addr, testbed.HoldWindows())
			u.wantEndForSlowReader(t, timeout+inTime)
		})
	})
}

func TestTimeout_IdleCallEndsAndOneThatTalksDoesNot(t *testing.T) {
	t.Parallel()
	const idle = time.Second // much longer than a busy machine keeps anybody from talking
	eachRouting(t, func(t *testing.T, routes routing) {
		u := newUpstreams(t, routes, 1, "idle_timeout: 1s")
		for name, enter := range map[string]func(cs, st *testbed.H2Stream){"silent": nothing, "after headers": headers, "after messages": message} {
			t.Run(name, func(t *testing.T) {
				o, took := u.endsAfter(t, enter)
				wantLocal(t, o, 4, "idle_timeout")
				wantAfter(t, idle, took)
			})
		}
		for name, who := range map[string]func(cs, st *testbed.H2Stream){"client": clientSays, "server": serverSays} {
			t.Run(name+" keeps it alive", func(t *testing.T) {
				const talked = 2 * idle
				o, took := u.endsAfter(t, talk(talked, idle/20, who))
				wantLocal(t, o, 4, "idle_timeout")
				wantAfter(t, talked+idle/2, took)
			})
		}
		t.Run("headers count", func(t *testing.T) {
			_, took := u.endsAfter(t, func(cs, st *testbed.H2Stream) {
				time.Sleep(idle / 2)
				headers(cs, st)
			})
			wantAfter(t, idle*3/2, took)
		})
		t.Run("client that reads nothing", func(t *testing.T) {
			u := u
			u.client = testbed.DialH2(t, u.proxy.Addr, testbed.HoldWindows())
			u.wantEndForSlowReader(t, idle+inTime)
		})
		u.requireIdle(t)
	})
}

func TestTimeout_MaxStreamAgeEndsCallsGiveOrTakeATenth(t *testing.T) {
	t.Parallel()
	const age = 500 * time.Millisecond
	eachRouting(t, func(t *testing.T, routes routing) {
		u := newUpstreams(t, routes, 1, "max_stream_age: 500ms")
		var took []time.Duration
		var clients []*testbed.H2Stream
		var began []time.Time
		for range 30 {
			began = append(began, time.Now())
			cs := u.client.Open(t, testbed.RequestFields())
			clients = append(clients, cs)
			headers(cs, u.accept(t))
		}
		for i, cs := range clients {
			o := cs.Outcome()
			wantLocal(t, o, 14, "max_stream_age")
			took = append(took, o.At.Sub(began[i]))
		}
		require.GreaterOrEqual(t, slices.Min(took), age*9/10)
		require.Less(t, slices.Max(took), age*11/10+inTime)
		require.Greater(t, slices.Max(took)-slices.Min(took), age/10, "half of what they may differ by, but for once in millions of times")
		o, _ := u.endsAfter(t, talk(age, 50*time.Millisecond, clientSays, serverSays))
		wantLocal(t, o, 14, "max_stream_age")
		u.requireIdle(t)
	})
}

func TestTimeout_NoneByDefault(t *testing.T) {
	t.Parallel()
	eachRouting(t, func(t *testing.T, routes routing) {
		u := newUpstreams(t, routes, 1)
		cs := u.client.Open(t, testbed.RequestFields())
		st := u.accept(t)
		require.False(t, st.ReadHeaders().Has("grpc-timeout"))
		time.Sleep(time.Second)
		cs.SendEnd(testbed.Frame(text("request")))
		answer(st, "reply")
		wantAnswer(t, cs, "reply")
		u.requireIdle(t)
	})
}
