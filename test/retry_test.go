package test

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/framegate/framegate/kitex_gen/echo"
	"github.com/framegate/framegate/test/refusing"
	"github.com/framegate/framegate/test/testbed"
)

// fast is a retry without a wait worth mentioning.
const fast = "backoff: {base: 1ms}"

func TestRetry_ListedCodeIsTriedAtAnotherEndpointWithTheSameRequest(t *testing.T) {
	t.Parallel()
	eachRouting(t, func(t *testing.T, routes routing) {
		u := newUpstreams(t, routes, 3, "retry: {attempts: 3, codes: [UNAVAILABLE, ABORTED], "+fast+"}")
		cs := u.client.Open(t, testbed.RequestFields("x-id", "1"))
		body := append(testbed.Frame(text("one")), testbed.Frame(pattern(20000, 1))...)
		cs.SendEnd(body)
		seen := map[*testbed.H2Conn]bool{}
		for i, code := range []int{14, 10, 0} {
			st := u.accept(t)
			got := st.Outcome()
			require.False(t, seen[st.Conn()], "endpoint of attempt %d", i)
			seen[st.Conn()] = true
			require.Equal(t, body, got.Body, "attempt %d", i)
			require.Equal(t, []string{"1"}, got.Headers.Values("x-id"))
			if i == 0 {
				require.False(t, got.Headers.Has("grpc-previous-rpc-attempts"))
			} else {
				require.Equal(t, []string{strconv.Itoa(i)}, got.Headers.Values("grpc-previous-rpc-attempts"))
			}
			if code == 0 {
				answer(st, "reply")
			} else {
				fail(st, code)
			}
		}
		wantAnswer(t, cs, "reply")
		u.requireIdle(t)
	})
}

func TestRetry_OtherCodesPassAfterTheFirstTry(t *testing.T) {
	t.Parallel()
	eachRouting(t, func(t *testing.T, routes routing) {
		u := newUpstreams(t, routes, 2, "retry: {attempts: 3, codes: [UNAVAILABLE], "+fast+"}")
		for _, code := range []int{1, 2, 5, 8, 13, 16, 77} {
			cs := u.client.OpenEnd(t, testbed.RequestFields())
			fail(u.accept(t), code, "x-trailer", "theirs")
			o := cs.Outcome()
			wantUpstream(t, o, code, "no")
			require.Equal(t, "theirs", o.Trailers.Get("x-trailer"))
			u.requireIdle(t)
		}
	})
}

// Without listed codes a call reaches a server once if the server may have seen it.
func TestRetry_CallThatMayHaveBeenSeenIsSentOnce(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(st *testbed.H2Stream){
		"UNAVAILABLE":     func(st *testbed.H2Stream) { fail(st, 14) },
		"RST_STREAM":      func(st *testbed.H2Stream) { st.Reset(http2.ErrCodeInternal) },
		"connection lost": func(st *testbed.H2Stream) { st.Conn().Close() },
		"GOAWAY above it": func(st *testbed.H2Stream) {
			_ = st.Conn().Write(func(fr *http2.Framer) error { return fr.WriteGoAway(st.ID, http2.ErrCodeNo, nil) })
			st.Reset(http2.ErrCodeInternal)
		},
	} {
		t.Run(name, func(t *testing.T) {
			eachRouting(t, func(t *testing.T, routes routing) {
				for _, keys := range []string{"", "retry: {attempts: 5, codes: [ABORTED], " + fast + "}"} {
					u := newUpstreams(t, routes, 2, keys)
					cs := u.client.OpenEnd(t, testbed.RequestFields())
					end(u.accept(t))
					require.NotZero(t, cs.Outcome().Code())
					u.requireIdle(t)
				}
			})
		})
	}
}

func TestRetry_StatusAndTrailersOfTheLastTryPass(t *testing.T) {
	t.Parallel()
	eachRouting(t, func(t *testing.T, routes routing) {
		u := newUpstreams(t, routes, 2, "retry: {attempts: 3, codes: [UNAVAILABLE], "+fast+"}")
		cs := u.client.OpenEnd(t, testbed.RequestFields())
		for i := range 3 {
			fail(u.accept(t), 14, "x-try", strconv.Itoa(i), "x-data-bin", "AAE")
		}
		o := cs.Outcome()
		wantUpstream(t, o, 14, "no")
		require.Equal(t, []string{"2"}, o.Trailers.Values("x-try"))
		require.Equal(t, []string{"\x00\x01"}, o.Trailers.Binary("x-data-bin"))
		require.True(t, o.TrailersOnly(), "%s", o)
		u.requireIdle(t)
	})
}

// What an endpoint said is told, not that the next one could not be reached.
func TestRetry_EndpointsStatusPassesWhenNoOtherCanBeReached(t *testing.T) {
	t.Parallel()
	eachRouting(t, func(t *testing.T, routes routing) {
		var u upstreams
		u.servers = []*testbed.H2Server{testbed.NewH2Server(t)}
		u.proxy = testbed.NewProxy(t, routes(t, []string{u.servers[0].Addr, refusing.Address(t)}, "retry: {attempts: 2, codes: [UNAVAILABLE], "+fast+"}"))
		u.client = testbed.DialH2(t, u.proxy.Addr)
		for range 2 { // each endpoint comes first once
			cs := u.client.OpenEnd(t, testbed.RequestFields())
			fail(u.accept(t), 14, "x-trailer", "theirs")
			var o testbed.Outcome
			if again, over := u.servers[0].AcceptUnless(t, cs); again != nil {
				fail(again, 14, "x-trailer", "theirs")
				o = cs.Outcome()
			} else {
				o = over
			}
			wantUpstream(t, o, 14, "no")
			require.Equal(t, "theirs", o.Trailers.Get("x-trailer"))
		}
		u.requireIdle(t)
	})
}

func TestRetry_NotOnceHeadersWerePassedOn(t *testing.T) {
	t.Parallel()
	eachRouting(t, func(t *testing.T, routes routing) {
		for name, end := range map[string]func(st *testbed.H2Stream){
			"trailers": func(st *testbed.H2Stream) { st.SendTrailers(testbed.StatusFields(14, "no")) },
			"reset":    func(st *testbed.H2Stream) { st.Reset(http2.ErrCodeRefusedStream) },
			"lost":     func(st *testbed.H2Stream) { st.Conn().Close() },
		} {
			t.Run(name, func(t *testing.T) {
				u := newUpstreams(t, routes, 2, "retry: {attempts: 5, codes: [UNAVAILABLE], "+fast+"}")
				cs := u.client.OpenEnd(t, testbed.RequestFields())
				st := u.accept(t)
				st.SendHeaders(testbed.ResponseFields("x-header", "theirs"))
				require.Equal(t, "theirs", cs.ReadHeaders().Get("x-header"))
				end(st)
				require.Equal(t, 14, cs.Outcome().Code())
				u.requireIdle(t)
			})
		}
	})
}

func TestRetry_ClientsOwnCountOfAttemptsIsAddedTo(t *testing.T) {
	t.Parallel()
	eachRouting(t, func(t *testing.T, routes routing) {
		u := newUpstreams(t, routes, 2, "retry: {attempts: 2, codes: [UNAVAILABLE], "+fast+"}")
		for own, want := range map[string]string{"3": "4", "-7": "1", "many": "1"} {
			cs := u.client.OpenEnd(t, testbed.RequestFields("grpc-previous-rpc-attempts", own, "x-other", "a", "x-other", "b"))
			first := u.accept(t)
			require.Equal(t, []string{own}, first.ReadHeaders().Values("grpc-previous-rpc-attempts"))
			fail(first, 14)
			second := u.accept(t)
			got := second.ReadHeaders()
			require.Equal(t, []string{want}, got.Values("grpc-previous-rpc-attempts"))
			require.Equal(t, []string{"a", "b"}, got.Values("x-other"))
			answer(second, "reply")
			wantAnswer(t, cs, "reply")
		}
	})
}

func TestRetry_WaitsBetweenTries(t *testing.T) {
	t.Parallel()
	const most = 150 * time.Millisecond
	eachRouting(t, func(t *testing.T, routes routing) {
		u := newUpstreams(t, routes, 1, fmt.Sprintf("retry: {attempts: 10, codes: [UNAVAILABLE], backoff: {base: %s, max: %s}}", most, most))
		cs := u.client.OpenEnd(t, testbed.RequestFields())
		var all time.Duration
		for i := range 10 {
			began := time.Now()
			st := u.accept(t)
			if took := time.Since(began); i > 0 {
				all += took
				require.Less(t, took, most+inTime, "before attempt %d", i)
			}
			fail(st, 14)
		}
		wantUpstream(t, cs.Outcome(), 14, "no")
		require.Greater(t, all, most, "nine waits, of half of %s on average", most) // less: once in 362,880 times
	})
}

func TestRetry_SilentEndpointIsGivenUpAfterThePerTryTimeout(t *testing.T) {
	t.Parallel()
	const perTry = time.Second // in which a busy machine answers, too
	eachRouting(t, func(t *testing.T, routes routing) {
		u := newUpstreams(t, routes, 2, fmt.Sprintf("retry: {attempts: 2, codes: [UNAVAILABLE], per_try_timeout: %s, %s}", perTry, fast))
		began := time.Now()
		cs := u.client.OpenEnd(t, testbed.RequestFields())
		first, second := u.acceptBoth(t)
		wantAfter(t, perTry, time.Since(began))
		wantCancel(t, first, time.Now())
		second.SendHeaders(testbed.ResponseFields())
		cs.ReadHeaders()
		time.Sleep(perTry * 5 / 4) // the time is for the beginning of the answer only
		second.SendTrailers(testbed.StatusFields(0, ""))
		wantUpstream(t, cs.Outcome(), 0, "")
		u.requireIdle(t)

		cs = u.client.OpenEnd(t, testbed.RequestFields())
		u.accept(t)
		u.accept(t)
		wantLocal(t, cs.Outcome(), 4, "timeout") // both silent
		u.requireIdle(t)
	})
}

// mute returns the address of an endpoint that accepts connections and says nothing.
func mute(t testing.TB) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { ln.Close() })
	return ln.Addr().String() // the kernel accepts
}

func TestRetry_PerTryTimeoutCountsWhileConnecting(t *testing.T) {
	t.Parallel()
	eachRouting(t, func(t *testing.T, routes routing) {
		requireGoodBesideMute(t, routes, "retry: {attempts: 2, codes: [UNAVAILABLE], per_try_timeout: 1s, "+fast+"}")
	})
}

// With 100 calls that fail at once, no more retries are under way than a tenth of the calls.
func TestRetry_BudgetBoundsRetriesUnderWay(t *testing.T) {
	t.Parallel()
	const calls, percent = 100, 10
	eachRouting(t, func(t *testing.T, routes routing) {
		var firsts, now, most atomic.Int64
		all, release := make(chan struct{}), make(chan struct{})
		addr := testbed.NewRaw(t, func(stream grpc.ServerStream) error {
			md, _ := metadata.FromIncomingContext(stream.Context())
			if md.Get("grpc-previous-rpc-attempts") == nil {
				if firsts.Add(1) == calls {
					close(all)
				}
				<-all
				return status.Error(codes.Unavailable, "first")
			}
			n := now.Add(1)
			for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
			}
			<-release
			now.Add(-1)
			return nil
		})
		proxy := testbed.NewProxy(t, routes(t, []string{addr}, fmt.Sprintf("retry: {attempts: 2, codes: [UNAVAILABLE], budget: {percent: %d, min: 2}, %s}", percent, fast)))
		cc := testbed.DialGRPC(t, proxy.Addr)
		results := make(chan error, calls)
		for range calls {
			go func() {
				stream, err := testbed.Call(patient(t), cc)
				if err == nil {
					_ = stream.CloseSend()
					_, err = testbed.Recv(stream)
				}
				results <- err
			}()
		}
		testbed.Await(t, all, "all calls at the server")
		failed := 0
		for failed < calls*(100-percent)/100 {
			require.Equal(t, codes.Unavailable, status.Code(testbed.Await(t, results, "a call without a retry")))
			failed++
		}
		testbed.Poll(t, func() error {
			if n := most.Load(); n < 2 {
				return fmt.Errorf("%d retries at the server, want the 2 that any budget allows", n)
			}
			return nil
		})
		require.LessOrEqual(t, most.Load(), int64(calls*percent/100))
		close(release)
	})
}

// What a retry took of the budget is there for the next retry, of the same call too, however the call ended.
func TestRetry_BudgetIsGivenBack(t *testing.T) {
	t.Parallel()
	eachRouting(t, func(t *testing.T, routes routing) {
		u := newUpstreams(t, routes, 1, "retry: {attempts: 3, codes: [UNAVAILABLE], budget: {percent: 1, min: 1}, per_try_timeout: 5s, "+fast+"}")
		try := func(ends ...func(cs, st *testbed.H2Stream)) *testbed.H2Stream {
			cs := u.client.OpenEnd(t, testbed.RequestFields())
			for _, end := range ends {
				end(cs, u.accept(t))
			}
			return cs
		}
		no := func(_, st *testbed.H2Stream) { fail(st, 14) }
		yes := func(_, st *testbed.H2Stream) { answer(st, "reply") }
		for range 3 {
			wantAnswer(t, try(no, no, yes), "reply")
			wantUpstream(t, try(no, no, no).Outcome(), 14, "no")
			try(no, func(cs, st *testbed.H2Stream) {
				cs.Reset(http2.ErrCodeCancel)
				st.AwaitReset()
			})
			u.requireIdle(t)
			try(no, func(_, st *testbed.H2Stream) { st.Conn().Close() }, yes).Outcome()
		}
		u.requireIdle(t)
	})
}

// A failed try gives its slot back before the next one needs it.
func TestRetry_EndpointWithOneStreamIsTriedAgain(t *testing.T) {
	t.Parallel()
	eachRouting(t, func(t *testing.T, routes routing) {
		for _, whenFull := range []string{"fail", "wait"} {
			t.Run(whenFull, func(t *testing.T) {
				server := testbed.NewH2Server(t)
				doc := strings.Replace(routes(t, []string{server.Addr}, "retry: {attempts: 3, codes: [UNAVAILABLE], "+fast+"}"),
					"endpoints:", "pool: {connections: {max: 1}, streams_per_connection: 1, when_full: "+whenFull+"}, endpoints:", 1)
				u := upstreams{servers: []*testbed.H2Server{server}, proxy: testbed.NewProxy(t, doc)}
				u.client = testbed.DialH2(t, u.proxy.Addr)
				cs := u.client.OpenEnd(t, testbed.RequestFields())
				fail(u.accept(t), 14)
				fail(u.accept(t), 14)
				answer(u.accept(t), "reply")
				wantAnswer(t, cs, "reply")
				require.Len(t, server.Conns(), 1)
				u.requireIdle(t)
			})
		}
	})
}

func TestRetry_HonoursTheClientsDeadline(t *testing.T) {
	t.Parallel()
	eachRouting(t, func(t *testing.T, routes routing) {
		t.Run("the next try gets what is left", func(t *testing.T) {
			u := newUpstreams(t, routes, 2, "retry: {attempts: 2, codes: [UNAVAILABLE], "+fast+"}")
			cs := u.client.OpenEnd(t, testbed.RequestFields("grpc-timeout", "10000m"))
			first := u.accept(t)
			before := timeoutOf(t, first.ReadHeaders())
			const held = 400 * time.Millisecond
			time.Sleep(held)
			fail(first, 14)
			second := u.accept(t)
			after := timeoutOf(t, second.ReadHeaders())
			require.LessOrEqual(t, after, before-held)
			require.Greater(t, after, before-held-inTime)
			answer(second, "reply")
			wantAnswer(t, cs, "reply")
		})
		t.Run("no wait beyond it", func(t *testing.T) {
			u := newUpstreams(t, routes, 2, "retry: {attempts: 2, codes: [UNAVAILABLE]}")
			cs := u.client.OpenEnd(t, testbed.RequestFields("grpc-timeout", "8000m"))
			began := time.Now()
			fail(u.accept(t), 14, "grpc-retry-pushback-ms", "9000")
			wantUpstream(t, cs.Outcome(), 14, "no")
			require.Less(t, time.Since(began), inTime)
			u.requireIdle(t)
		})
		t.Run("no try after it", func(t *testing.T) {
			u := newUpstreams(t, routes, 2, "retry: {attempts: 5, codes: [UNAVAILABLE, DEADLINE_EXCEEDED, CANCELLED], "+fast+"}")
			cs := u.client.OpenEnd(t, testbed.RequestFields("grpc-timeout", "1S"))
			u.accept(t)
			wantLocal(t, cs.Outcome(), 4, "timeout")
			u.requireIdle(t)
		})
	})
}

func TestRetry_HonoursPushback(t *testing.T) {
	t.Parallel()
	eachRouting(t, func(t *testing.T, routes routing) {
		u := newUpstreams(t, routes, 2, "retry: {attempts: 2, codes: [UNAVAILABLE], backoff: {base: 20s, max: 20s}}")
		for _, wait := range []time.Duration{0, 300 * time.Millisecond} {
			cs := u.client.OpenEnd(t, testbed.RequestFields())
			st := u.accept(t)
			began := time.Now()
			fail(st, 14, "grpc-retry-pushback-ms", strconv.FormatInt(wait.Milliseconds(), 10))
			st = u.accept(t)
			wantAfter(t, wait, time.Since(began))
			answer(st, "reply")
			wantAnswer(t, cs, "reply")
		}
		for _, pushback := range [][]string{{"-1"}, {""}, {"soon"}, {"1.5"}, {"99999999999999999999"}, {"600000"}, {"1", "2"}} {
			var fields []string
			for _, v := range pushback {
				fields = append(fields, "grpc-retry-pushback-ms", v)
			}
			cs := u.client.OpenEnd(t, testbed.RequestFields())
			fail(u.accept(t), 14, fields...)
			o := cs.Outcome()
			wantUpstream(t, o, 14, "no")
			require.Equal(t, pushback, o.Trailers.Values("grpc-retry-pushback-ms"), "the client is told")
			u.requireIdle(t)
		}
	})
}

// A client that gives up is not waited for, and nothing is sent for it any more.
func TestRetry_CancelEndsTheWait(t *testing.T) {
	t.Parallel()
	eachRouting(t, func(t *testing.T, routes routing) {
		u := newUpstreams(t, routes, 2, "retry: {attempts: 2, codes: [UNAVAILABLE], budget: {percent: 1, min: 1}}")
		for range 3 {
			cs := u.client.OpenEnd(t, testbed.RequestFields())
			fail(u.accept(t), 14, "grpc-retry-pushback-ms", "30000")
			testbed.Poll(t, func() error { // the failed try is closed before the wait
				if n := u.proxy.UpstreamStreams(); n != 0 {
					return fmt.Errorf("%d streams", n)
				}
				return nil
			})
			cs.Reset(http2.ErrCodeCancel)
		}
		cs := u.client.OpenEnd(t, testbed.RequestFields())
		fail(u.accept(t), 14, "grpc-retry-pushback-ms", "0")
		testbed.Poll(t, func() error { // the budget is there again
			if u.unaccepted() == 0 {
				return fmt.Errorf("no second try: %s", cs.History())
			}
			return nil
		})
		answer(u.accept(t), "reply")
		wantAnswer(t, cs, "reply")
		u.requireIdle(t)
	})
}

func TestRetry_BadRequestEndsTheWait(t *testing.T) {
	t.Parallel()
	eachRouting(t, func(t *testing.T, routes routing) {
		u := newUpstreams(t, routes, 2, "retry: {attempts: 2, codes: [UNAVAILABLE]}")
		cs := u.client.Open(t, testbed.RequestFields())
		fail(u.accept(t), 14, "grpc-retry-pushback-ms", "30000")
		began := time.Now()
		cs.Send([]byte{9, 0, 0, 0, 1, 'x'})
		wantLocal(t, cs.Outcome(), 13, "bad_request_framing")
		require.Less(t, time.Since(began), inTime)
		u.requireIdle(t)
	})
}

// A request without a message may end with its headers, before the next try or after it.
func TestRetry_EmptyRequest(t *testing.T) {
	t.Parallel()
	eachRouting(t, func(t *testing.T, routes routing) {
		for _, key := range []string{"retry: {attempts: 2, codes: [UNAVAILABLE], " + fast + "}", hedge("")} {
			u := newUpstreams(t, routes, 2, key)
			for i := range 3 {
				cs := u.client.Open(t, testbed.RequestFields())
				if i == 0 {
					cs.SendEnd(nil)
				}
				first := u.accept(t)
				if i == 1 {
					cs.SendEnd(nil)
					require.True(t, first.Outcome().Ended)
				}
				fail(first, 14)
				second := u.accept(t)
				if i == 2 {
					cs.SendEnd(nil)
				}
				got := second.Outcome()
				require.True(t, got.Ended && len(got.Body) == 0, "%s", got)
				answer(second, "reply")
				wantAnswer(t, cs, "reply")
			}
			u.requireIdle(t)
		}
	})
}

// Kitex servers and clients see nothing of it.
func TestRetry_KitexCallIsTriedAgain(t *testing.T) {
	t.Parallel()
	var calls atomic.Int64
	flaky := testbed.NewRaw(t, func(grpc.ServerStream) error {
		calls.Add(1)
		return status.Error(codes.Unavailable, "not now")
	})
	good := testbed.NewEcho(t, &testbed.Echo{})
	eachRouting(t, func(t *testing.T, routes routing) {
		calls.Store(0)
		proxy := testbed.NewProxy(t, routes(t, []string{flaky, good}, "balancer: {policy: round_robin}", "retry: {attempts: 2, codes: [UNAVAILABLE], "+fast+"}"))
		client := testbed.DialEcho(t, proxy.Addr)
		for i := range 10 {
			reply, err := client.Say(context.Background(), &echo.Request{Message: strconv.Itoa(i)})
			require.NoError(t, err)
			require.Equal(t, strconv.Itoa(i), reply.Message)
		}
		require.NotZero(t, calls.Load())
	})
}
