package test

import (
	"bytes"
	"fmt"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"

	"github.com/framegate/framegate/test/refusing"
	"github.com/framegate/framegate/test/testbed"
)

const hedgeDelay = 150 * time.Millisecond

func hedge(more string) string { return fmt.Sprintf("hedge: {delay: %s%s}", hedgeDelay, more) }

// longDelay is for what has to happen before there is a second try, also on a busy machine.
const longDelay = time.Second

func hedgeLate(more string) string { return fmt.Sprintf("hedge: {delay: %s%s}", longDelay, more) }

// acceptBoth returns the two attempts of a call.
func (u *upstreams) acceptBoth(t testing.TB) (first, second *testbed.H2Stream) {
	t.Helper()
	return u.accept(t), u.accept(t)
}

// wantCancel checks that an attempt was reset with CANCEL not long after a time.
func wantCancel(t testing.TB, st *testbed.H2Stream, after time.Time) {
	t.Helper()
	code, at := st.AwaitReset()
	require.Equal(t, http2.ErrCodeCancel, code)
	require.WithinDuration(t, after, at, inTime)
}

func TestHedge_FirstAnswerWinsAndTheOtherIsCanceledAtOnce(t *testing.T) {
	t.Parallel()
	eachRouting(t, func(t *testing.T, routes routing) {
		u := newUpstreams(t, routes, 2, hedge(""))
		for i := range 4 {
			began := time.Now()
			cs := u.client.Open(t, testbed.RequestFields("x-id", "1"))
			body := testbed.Frame(text("request"))
			cs.SendEnd(body)
			first, second := u.acceptBoth(t)
			wantAfter(t, hedgeDelay, time.Since(began))
			require.NotSame(t, first.Conn(), second.Conn(), "another endpoint")
			for _, st := range []*testbed.H2Stream{first, second} {
				got := st.Outcome()
				require.Equal(t, body, got.Body)
				require.Equal(t, []string{"1"}, got.Headers.Values("x-id"))
				require.Equal(t, st == second, got.Headers.Has("grpc-previous-rpc-attempts"))
			}
			winner, loser := first, second
			if i%2 > 0 {
				winner, loser = second, first
			}
			began = time.Now()
			winner.SendHeaders(testbed.ResponseFields("x-header", "theirs"))
			wantCancel(t, loser, began)
			require.Equal(t, "theirs", cs.ReadHeaders().Get("x-header"))
			winner.Send(testbed.Frame(text("reply")))
			winner.SendTrailers(testbed.StatusFields(0, "", "x-trailer", "theirs"))
			wantAnswer(t, cs, "reply")
			require.Equal(t, "theirs", cs.Outcome().Trailers.Get("x-trailer"))
			u.requireIdle(t)
		}
	})
}

func TestHedge_NoSecondTryForAnAnswerBeforeTheDelay(t *testing.T) {
	t.Parallel()
	eachRouting(t, func(t *testing.T, routes routing) {
		u := newUpstreams(t, routes, 2, hedgeLate(""))
		for name, end := range map[string]func(st *testbed.H2Stream){
			"OK":                 func(st *testbed.H2Stream) { answer(st, "reply") },
			"NOT_FOUND":          func(st *testbed.H2Stream) { fail(st, 5) },
			"RESOURCE_EXHAUSTED": func(st *testbed.H2Stream) { fail(st, 8) },
			"headers, then slow": func(st *testbed.H2Stream) {
				st.SendHeaders(testbed.ResponseFields())
				time.Sleep(longDelay * 5 / 4)
				st.SendTrailers(testbed.StatusFields(0, ""))
			},
			"not to be tried again": func(st *testbed.H2Stream) { fail(st, 14, "grpc-retry-pushback-ms", "-1") },
		} {
			t.Run(name, func(t *testing.T) {
				cs := u.client.OpenEnd(t, testbed.RequestFields())
				end(u.accept(t))
				require.True(t, cs.Outcome().Ended)
				u.requireIdle(t)
			})
		}
	})
}

// There is no reason to wait for the delay when the first has failed; that it has failed does not end the call.
func TestHedge_FailedTryLeavesTheCallToTheOther(t *testing.T) {
	t.Parallel()
	eachRouting(t, func(t *testing.T, routes routing) {
		u := newUpstreams(t, routes, 2, hedge(""))
		t.Run("the first, before the delay", func(t *testing.T) {
			u := newUpstreams(t, routes, 2, "hedge: {delay: 20s}") // longer than accept waits
			cs := u.client.OpenEnd(t, testbed.RequestFields())
			fail(u.accept(t), 14)
			st := u.accept(t)
			time.Sleep(2 * hedgeDelay) // there is no third
			answer(st, "reply")
			wantAnswer(t, cs, "reply")
			u.requireIdle(t)
		})
		t.Run("the first, when there is a second", func(t *testing.T) {
			cs := u.client.OpenEnd(t, testbed.RequestFields())
			first, second := u.acceptBoth(t)
			fail(first, 14)
			testbed.Poll(t, func() error { return noUpstreamBut(u.proxy, 1) })
			answer(second, "reply")
			wantAnswer(t, cs, "reply")
			u.requireIdle(t)
		})
		t.Run("the second", func(t *testing.T) {
			cs := u.client.OpenEnd(t, testbed.RequestFields())
			first, second := u.acceptBoth(t)
			fail(second, 14)
			testbed.Poll(t, func() error { return noUpstreamBut(u.proxy, 1) })
			answer(first, "reply")
			wantAnswer(t, cs, "reply")
			u.requireIdle(t)
		})
		t.Run("both", func(t *testing.T) {
			cs := u.client.OpenEnd(t, testbed.RequestFields())
			first, second := u.acceptBoth(t)
			fail(first, 14, "x-trailer", "first")
			second.AwaitBytes(0)
			fail(second, 14, "x-trailer", "second")
			o := cs.Outcome()
			wantUpstream(t, o, 14, "no")
			require.Contains(t, []string{"first", "second"}, o.Trailers.Get("x-trailer"))
			u.requireIdle(t)
		})
		t.Run("the first, and the other waits as it was told", func(t *testing.T) {
			u := newUpstreams(t, routes, 2, "hedge: {delay: 20s}")
			cs := u.client.OpenEnd(t, testbed.RequestFields())
			st := u.accept(t)
			began := time.Now()
			fail(st, 14, "grpc-retry-pushback-ms", "400")
			st = u.accept(t)
			wantAfter(t, 400*time.Millisecond, time.Since(began))
			answer(st, "reply")
			wantAnswer(t, cs, "reply")
			u.requireIdle(t)
		})
		t.Run("the first, and the client goes while the other waits", func(t *testing.T) {
			u := newUpstreams(t, routes, 2, "hedge: {delay: 20s}")
			cs := u.client.OpenEnd(t, testbed.RequestFields("grpc-timeout", "1S"))
			fail(u.accept(t), 14, "grpc-retry-pushback-ms", "20000")
			began := time.Now()
			require.NotZero(t, cs.Outcome().Code())
			require.Less(t, time.Since(began), inTime)
			u.requireIdle(t)
		})
	})
}

func TestHedge_RefusedTryIsMadeAgainBesideTheBudget(t *testing.T) {
	t.Parallel()
	eachRouting(t, func(t *testing.T, routes routing) {
		u := newUpstreams(t, routes, 3, hedgeLate(", budget: {percent: 1, min: 1}"))
		cs := u.client.OpenEnd(t, testbed.RequestFields())
		u.accept(t).Reset(http2.ErrCodeRefusedStream)
		first, second := u.acceptBoth(t)
		require.False(t, first.ReadHeaders().Has("grpc-previous-rpc-attempts"))
		require.True(t, second.ReadHeaders().Has("grpc-previous-rpc-attempts"))
		second.Reset(http2.ErrCodeRefusedStream)
		answer(first, "reply")
		wantAnswer(t, cs, "reply")
		u.requireIdle(t)
	})
}

func TestHedge_BudgetBoundsSecondTries(t *testing.T) {
	t.Parallel()
	eachRouting(t, func(t *testing.T, routes routing) {
		u := newUpstreams(t, routes, 2, hedge(", budget: {percent: 20, min: 1}"))
		const calls = 10
		for range 2 {
			var clients, attempts []*testbed.H2Stream
			for range calls {
				clients = append(clients, u.client.OpenEnd(t, testbed.RequestFields()))
			}
			for range calls + calls/5 {
				attempts = append(attempts, u.accept(t))
			}
			time.Sleep(2 * hedgeDelay)
			require.Zero(t, u.unaccepted())
			for _, st := range attempts {
				_ = st.TryTrailers(append(testbed.ResponseFields(), testbed.StatusFields(0, "")...)) // of some, the other has
			}
			for _, cs := range clients {
				wantUpstream(t, cs.Outcome(), 0, "")
			}
			u.requireIdle(t) // and so for the second round
		}
	})
}

func TestHedge_StreamGoesToBothByteForByte(t *testing.T) {
	t.Parallel()
	eachRouting(t, func(t *testing.T, routes routing) {
		u := newUpstreams(t, routes, 2, hedge(", buffer_bytes: 1048576"))
		for _, size := range []int{10, 5000, 90_000} {
			t.Run(strconv.Itoa(size), func(t *testing.T) {
				cs := u.client.Open(t, testbed.RequestFields())
				body := upload{cs: cs, size: size}
				body.send(1)
				body.send(2)
				first, second := u.acceptBoth(t)
				for i := range 3 {
					body.send(10 + i)
				}
				cs.SendEnd(nil)
				for _, st := range []*testbed.H2Stream{first, second} {
					got := st.Outcome()
					require.True(t, bytes.Equal(body.sent, got.Body) && got.Ended, "%d bytes, want %d", len(got.Body), len(body.sent))
				}
				answer(second, "reply")
				wantAnswer(t, cs, "reply")
				u.requireIdle(t)
			})
		}
	})
}

// The winner gets the rest of a stream that goes on after its answer has begun.
func TestHedge_StreamGoesOnWithTheWinner(t *testing.T) {
	t.Parallel()
	eachRouting(t, func(t *testing.T, routes routing) {
		u := newUpstreams(t, routes, 2, hedge(""))
		for i := range 2 {
			cs := u.client.Open(t, testbed.RequestFields())
			cs.Send(testbed.Frame(text("before")))
			first, second := u.acceptBoth(t)
			winner := []*testbed.H2Stream{first, second}[i]
			winner.SendHeaders(testbed.ResponseFields())
			cs.ReadHeaders()
			body := testbed.Frame(text("before"))
			for j := range 200 {
				f := testbed.Frame(pattern(2000, j))
				cs.Send(f)
				body = append(body, f...)
			}
			cs.SendEnd(nil)
			require.True(t, bytes.Equal(body, winner.Outcome().Body))
			winner.SendTrailers(testbed.StatusFields(0, ""))
			wantUpstream(t, cs.Outcome(), 0, "")
			u.requireIdle(t)
		}
	})
}

// An endpoint that reads nothing holds up neither the other nor the client, be the request shorter or longer than what
// is kept.
func TestHedge_SlowReaderHoldsUpNobody(t *testing.T) {
	t.Parallel()
	eachRouting(t, func(t *testing.T, routes routing) {
		for name, size := range map[string]int{"kept": 400_000, "longer": 3_000_000} {
			t.Run(name, func(t *testing.T) {
				slow, good := testbed.NewH2Server(t, testbed.HoldWindows()), testbed.NewH2Server(t)
				u := upstreams{servers: []*testbed.H2Server{slow, good}}
				u.start(t, routes, hedge(", buffer_bytes: 1048576"))
				for range 2 { // each is the first once
					cs := u.client.Open(t, testbed.RequestFields())
					var body []byte
					for i := 0; len(body) < size; i++ {
						body = append(body, testbed.Frame(pattern(50_000, i))...)
					}
					sent := make(chan error, 1)
					go func() { sent <- cs.TrySendEnd(body) }()
					st := good.Accept(t)
					got := st.Outcome()
					require.True(t, bytes.Equal(body, got.Body), "%d bytes, want %d", len(got.Body), len(body))
					require.NoError(t, <-sent)
					answer(st, "reply")
					wantAnswer(t, cs, "reply")
					for slow.Unaccepted() > 0 {
						slow.Accept(t).AwaitReset()
					}
				}
				u.requireIdle(t)
			})
		}
	})
}

// An endpoint that never takes the request, and answers nothing, does not grow framegate's memory: the client waits.
func TestHedge_RequestThatNobodyReadsIsNotKeptWithoutBound(t *testing.T) {
	t.Parallel()
	eachRouting(t, func(t *testing.T, routes routing) {
		u := upstreams{servers: []*testbed.H2Server{testbed.NewH2Server(t, testbed.HoldWindows()), testbed.NewH2Server(t, testbed.HoldWindows())}}
		u.start(t, routes, hedge(", buffer_bytes: 300000"))
		cs := u.client.Open(t, testbed.RequestFields())
		sent := make(chan error, 1)
		go func() { sent <- cs.TrySend(bytes.Repeat(testbed.Frame(pattern(50_000, 1)), 100)) }()
		first, second := u.acceptBoth(t)
		cs.AwaitBlocked()
		cs.Reset(http2.ErrCodeCancel)
		wantCancel(t, first, time.Now())
		wantCancel(t, second, time.Now())
		u.requireIdle(t)
	})
}

// An endpoint that takes connections and says nothing is as slow as any.
func TestHedge_SecondTryWhileTheFirstConnects(t *testing.T) {
	t.Parallel()
	eachRouting(t, func(t *testing.T, routes routing) {
		requireGoodBesideMute(t, routes, hedge(""))
	})
}

// Wherever the client gives up, both tries end at once, and nothing is left.
func TestHedge_CancelEndsBothTries(t *testing.T) {
	t.Parallel()
	eachRouting(t, func(t *testing.T, routes routing) {
		t.Run("both wait", func(t *testing.T) {
			u := newUpstreams(t, routes, 2, hedge(""))
			for _, end := range []bool{true, false} {
				cs := u.client.Open(t, testbed.RequestFields())
				if cs.Send(testbed.Frame(text("request"))); end {
					cs.SendEnd(nil)
				}
				first, second := u.acceptBoth(t)
				cs.Reset(http2.ErrCodeCancel)
				began := time.Now()
				wantCancel(t, first, began)
				wantCancel(t, second, began)
				u.requireIdle(t)
			}
		})
		t.Run("before the delay", func(t *testing.T) {
			u := newUpstreams(t, routes, 2, hedgeLate(""))
			cs := u.client.OpenEnd(t, testbed.RequestFields())
			st := u.accept(t)
			cs.Reset(http2.ErrCodeCancel)
			wantCancel(t, st, time.Now())
			time.Sleep(longDelay * 5 / 4)
			u.requireIdle(t)
		})
		t.Run("one connects", func(t *testing.T) {
			u := upstreams{servers: []*testbed.H2Server{testbed.NewH2Server(t)}}
			u.proxy = testbed.NewProxy(t, routes(t, []string{u.servers[0].Addr, mute(t)}, hedge(", budget: {percent: 1, min: 1}")))
			u.client = testbed.DialH2(t, u.proxy.Addr)
			for range 4 {
				cs := u.client.OpenEnd(t, testbed.RequestFields("grpc-timeout", "800m"))
				st := u.accept(t)
				wantLocal(t, cs.Outcome(), 4, "timeout")
				wantCancel(t, st, time.Now())
				u.requireUncounted(t)
				u.awaitFurther(t) // once the other is known to be no good
			}
		})
		t.Run("both connect", func(t *testing.T) {
			u := upstreams{proxy: testbed.NewProxy(t, routes(t, []string{mute(t), mute(t)}, hedge("")))}
			u.client = testbed.DialH2(t, u.proxy.Addr)
			cs := u.client.OpenEnd(t, testbed.RequestFields("grpc-timeout", "400m"))
			wantLocal(t, cs.Outcome(), 4, "timeout")
			u.requireIdle(t)
		})
	})
}

// A client's message that is refused ends the call at both endpoints.
func TestHedge_BadRequestEndsBothTries(t *testing.T) {
	t.Parallel()
	eachRouting(t, func(t *testing.T, routes routing) {
		u := newUpstreams(t, routes, 2, hedge(""))
		cs := u.client.Open(t, testbed.RequestFields())
		first, second := u.acceptBoth(t)
		cs.Send([]byte{9, 0, 0, 0, 1, 'x'})
		wantLocal(t, cs.Outcome(), 13, "bad_request_framing")
		wantCancel(t, first, time.Now())
		wantCancel(t, second, time.Now())
		u.requireIdle(t)
	})
}

// No endpoint: what a call gets is what it gets without hedging.
func TestHedge_NobodyThere(t *testing.T) {
	t.Parallel()
	eachRouting(t, func(t *testing.T, routes routing) {
		u := upstreams{proxy: testbed.NewProxy(t, routes(t, []string{refusing.Address(t)}, hedge("")))}
		u.client = testbed.DialH2(t, u.proxy.Addr)
		began := time.Now()
		wantLocal(t, u.client.OpenEnd(t, testbed.RequestFields()).Outcome(), 14, "connect_failed")
		require.Less(t, time.Since(began), inTime)
		u.requireIdle(t)
	})
}

// Endpoints that take connections, and say nothing until they hang up: the first is given up while the second is tried.
func TestHedge_CannotConnectWhileThereIsAnother(t *testing.T) {
	t.Parallel()
	eachRouting(t, func(t *testing.T, routes routing) {
		addrs := make([]string, 2)
		for i := range addrs {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			require.NoError(t, err)
			t.Cleanup(func() { _ = l.Close() })
			addrs[i] = l.Addr().String()
			go func() {
				for {
					c, err := l.Accept()
					if err != nil {
						return
					}
					time.AfterFunc(2*hedgeDelay, func() { _ = c.Close() })
				}
			}()
		}
		u := upstreams{proxy: testbed.NewProxy(t, routes(t, addrs, hedge("")))}
		u.client = testbed.DialH2(t, u.proxy.Addr)
		wantLocal(t, u.client.OpenEnd(t, testbed.RequestFields()).Outcome(), 14, "connect_failed")
		u.requireIdle(t)
	})
}

// A hedged call that goes to one endpoint alone, too, is answered once; many at once leave nothing behind.
func TestHedge_ManyAtOnceAreAnsweredOnceEach(t *testing.T) {
	t.Parallel()
	eachRouting(t, func(t *testing.T, routes routing) {
		serve := func(st *testbed.H2Stream) func() {
			return func() {
				time.Sleep(time.Duration(st.ID%7) * 2 * time.Millisecond)
				switch st.ID / 2 % 5 {
				case 0:
					_ = st.TryTrailers(append(testbed.ResponseFields(), testbed.StatusFields(14, "no")...))
				case 1:
					_ = st.TryReset(http2.ErrCodeRefusedStream)
				default:
					_ = st.TryHeaders(testbed.ResponseFields())
					_ = st.TrySend(testbed.Frame(text("reply")))
					_ = st.TryTrailers(testbed.StatusFields(0, ""))
				}
			}
		}
		var addrs []string
		for range 3 {
			addrs = append(addrs, testbed.ServeH2(t, serve).Addr)
		}
		u := upstreams{proxy: testbed.NewProxy(t, strings.Replace(routes(t, addrs, "hedge: {delay: 5ms, budget: {percent: 100}}"),
			"endpoints:", "ejection: {consecutive_failures: 1000000}, endpoints:", 1))}
		u.client = testbed.DialH2(t, u.proxy.Addr)
		good := 0
		for range 10 {
			var clients []*testbed.H2Stream
			for range 40 {
				cs := u.client.Open(t, testbed.RequestFields())
				_ = cs.TrySendEnd(testbed.Frame(text("request"))) // the call may be over by now
				clients = append(clients, cs)
			}
			for _, cs := range clients {
				o := cs.Outcome()
				require.True(t, o.Ended, "%s", o)
				if o.Code() == 0 {
					require.Equal(t, testbed.Frame(text("reply")), o.Body)
					good++
				}
			}
		}
		require.Greater(t, good, 200)
		u.requireIdle(t)
	})
}
