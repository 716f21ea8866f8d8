package test

import (
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"

	"github.com/framegate/framegate/test/refusing"
	"github.com/framegate/framegate/test/testbed"
)

// Who cannot be connected to has seen nothing: another endpoint is asked, whatever the route says.
func TestRetry_RefusedConnectionIsTriedElsewhereWithoutAPolicy(t *testing.T) {
	t.Parallel()
	eachRouting(t, func(t *testing.T, routes routing) {
		u := upstreams{servers: []*testbed.H2Server{testbed.NewH2Server(t)}}
		u.proxy = testbed.NewProxy(t, routes(t, []string{u.servers[0].Addr, refusing.Address(t)}))
		u.client = testbed.DialH2(t, u.proxy.Addr)
		for range 10 {
			cs := u.client.Open(t, testbed.RequestFields())
			cs.SendEnd(testbed.Frame(text("request")))
			st := u.accept(t)
			require.Equal(t, testbed.Frame(text("request")), st.Outcome().Body)
			answer(st, "reply")
			wantAnswer(t, cs, "reply")
		}
		u.requireIdle(t)
	})
}

// So has who has no room for it.
func TestRetry_FullEndpointIsPassedByWithoutAPolicy(t *testing.T) {
	t.Parallel()
	eachRouting(t, func(t *testing.T, routes routing) {
		u := upstreams{servers: []*testbed.H2Server{testbed.NewH2Server(t), testbed.NewH2Server(t)}}
		u.proxy = testbed.NewProxy(t, strings.Replace(routes(t, u.addresses()),
			"endpoints:", "pool: {connections: {max: 1}, streams_per_connection: 2, when_full: fail}, endpoints:", 1))
		u.client = testbed.DialH2(t, u.proxy.Addr)
		var calls [][2]*testbed.H2Stream
		for range 4 {
			cs := u.client.OpenEnd(t, testbed.RequestFields())
			calls = append(calls, [2]*testbed.H2Stream{cs, u.accept(t)})
		}
		for range 4 {
			wantLocal(t, u.client.OpenEnd(t, testbed.RequestFields()).Outcome(), 8, "overloaded")
		}
		answer(calls[0][1], "reply")
		wantAnswer(t, calls[0][0], "reply")
		for range 6 { // whichever endpoint comes first, there is room at one
			cs := u.client.OpenEnd(t, testbed.RequestFields())
			answer(u.accept(t), "reply")
			wantAnswer(t, cs, "reply")
		}
	})
}

// A refused stream was certainly not processed: the call waits for room, for as long as its deadline lets it.
func TestRetry_RefusedStreamWaitsForRoom(t *testing.T) {
	t.Parallel()
	eachRouting(t, func(t *testing.T, routes routing) {
		for name, keys := range map[string][]string{
			"no policy": nil, "retry": {"retry: {attempts: 2, codes: [ABORTED], " + fast + "}"}, "hedge": {"hedge: {delay: 20s}"},
		} {
			t.Run(name, func(t *testing.T) {
				u := newUpstreams(t, routes, 2, keys...)
				for _, fields := range [][]string{nil, {"grpc-timeout", "20S"}} {
					cs := u.client.OpenEnd(t, testbed.RequestFields(fields...))
					for i := range 6 {
						st := u.accept(t)
						require.False(t, st.ReadHeaders().Has("grpc-previous-rpc-attempts"), "attempt %d: none was seen", i)
						st.Reset(http2.ErrCodeRefusedStream)
					}
					answer(u.accept(t), "reply")
					wantAnswer(t, cs, "reply")
					u.requireIdle(t)
				}
			})
		}
	})
}

// refuse resets every attempt until stop is called, which returns how many there were.
func (u *upstreams) refuse(t testing.TB) (stop func() int) {
	ended, over := make(chan int), make(chan struct{})
	go func() {
		for n := 0; ; {
			select {
			case <-over:
				ended <- n
				return
			default:
			}
			if u.unaccepted() == 0 {
				time.Sleep(time.Millisecond)
				continue
			}
			_ = u.accept(t).TryReset(http2.ErrCodeRefusedStream) // or the call has ended
			n++
		}
	}()
	return func() int { close(over); return <-ended }
}

func TestRetry_RefusedStreamWaitsNoLongerThanItMay(t *testing.T) {
	t.Parallel()
	eachRouting(t, func(t *testing.T, routes routing) {
		for name, keys := range map[string][]string{
			"no policy": nil, "retry": {"retry: {attempts: 5, codes: [UNAVAILABLE], " + fast + "}"}, "hedge": {"hedge: {delay: 20s}"},
		} {
			t.Run(name, func(t *testing.T) {
				u := upstreams{servers: []*testbed.H2Server{testbed.NewH2Server(t)}}
				u.proxy = testbed.NewProxy(t, inBackend(routes(t, u.addresses(), keys...), "pool: {connect_timeout: 1s}"))
				u.client = testbed.DialH2(t, u.proxy.Addr)
				stop := u.refuse(t)
				began := time.Now()
				o := u.client.OpenEnd(t, testbed.RequestFields("grpc-timeout", "300m")).Outcome()
				require.Equal(t, 4, o.Code(), o)
				wantAfter(t, 300*time.Millisecond, time.Since(began))
				began = time.Now()
				wantLocal(t, u.client.OpenEnd(t, testbed.RequestFields()).Outcome(), 14, "upstream_reset")
				wantAfter(t, time.Second, time.Since(began))
				cs := u.client.OpenEnd(t, testbed.RequestFields())
				require.NoError(t, waits(cs))
				cs.Reset(http2.ErrCodeCancel)
				testbed.Poll(t, func() error { return noUpstreamBut(u.proxy, 0) })
				u.requireUncounted(t)
				tries := stop()
				require.Greater(t, tries, 3, "of three calls")
				require.Less(t, tries, 200, "no hot loop")
			})
		}
	})
}

// Where calls are not to wait for room, a refused stream is tried once more, and then as often as the route says.
func TestRetry_RefusedStreamDoesNotWaitWhereTheRouteWantsNone(t *testing.T) {
	t.Parallel()
	eachRouting(t, func(t *testing.T, routes routing) {
		for tries, keys := range map[int][]string{1 + 1: nil, 1 + 3: {"retry: {attempts: 3, " + fast + "}"}} {
			u := upstreams{servers: []*testbed.H2Server{testbed.NewH2Server(t), testbed.NewH2Server(t)}}
			u.proxy = testbed.NewProxy(t, inBackend(routes(t, u.addresses(), keys...), "pool: {when_full: fail}"))
			u.client = testbed.DialH2(t, u.proxy.Addr)
			cs := u.client.OpenEnd(t, testbed.RequestFields())
			for range tries {
				u.accept(t).Reset(http2.ErrCodeRefusedStream)
			}
			wantLocal(t, cs.Outcome(), 14, "upstream_reset")
			u.requireIdle(t)
		}
	})
}

// Calls that wait so are among those that limits.pending bounds.
func TestRetry_RefusedStreamWaitsAsAPendingCall(t *testing.T) {
	t.Parallel()
	eachRouting(t, func(t *testing.T, routes routing) {
		u := newUpstreams(t, routes, 1, "limits: {pending: 4}")
		u.good(t) // the connection
		stop := u.refuse(t)
		var calls []*testbed.H2Stream
		for range 40 {
			calls = append(calls, u.client.OpenEnd(t, testbed.RequestFields("grpc-timeout", "3S")))
		}
		late := 0
		for _, cs := range calls {
			switch o := cs.Outcome(); o.Code() {
			case 4:
				late++
			default:
				wantLocal(t, o, 8, "overloaded")
			}
		}
		require.GreaterOrEqual(t, late, 1)
		require.LessOrEqual(t, late, 20, "those beyond the bound end")
		u.requireUncounted(t)
		stop()
	})
}

// lateLimit serves the streams of a server, limit at a time, each for so long, and refuses the others. It announces the
// limit 300 ms after the first of them. stop returns how many it has served.
func lateLimit(t testing.TB, server *testbed.H2Server, limit int, each time.Duration) (stop func() int) {
	over, served := make(chan struct{}), make(chan int)
	var running atomic.Int32
	serve := func(st *testbed.H2Stream) {
		_ = st.TryHeaders(testbed.ResponseFields())
		_ = st.TrySend(testbed.Frame(text("reply")))
		running.Add(-1)
		_ = st.TryTrailers(testbed.StatusFields(0, ""))
	}
	go func() {
		n, announced := 0, false
		var first time.Time
		for {
			select {
			case <-over:
				served <- n
				return
			default:
			}
			if !announced && n > 0 && time.Since(first) > 300*time.Millisecond {
				announced = true
				for _, c := range server.Conns() {
					_ = c.Write(func(fr *http2.Framer) error {
						return fr.WriteSettings(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: uint32(limit)})
					})
				}
			}
			if server.Unaccepted() == 0 {
				time.Sleep(time.Millisecond)
				continue
			}
			st := server.Accept(t)
			if running.Load() >= int32(limit) {
				_ = st.TryReset(http2.ErrCodeRefusedStream)
				continue
			}
			if n++; n == 1 {
				first = time.Now()
			}
			running.Add(1)
			time.AfterFunc(each, func() { serve(st) })
		}
	}()
	return func() int { close(over); return <-served }
}

// A limit that is announced late costs no call, and no endpoint its place: each takes what it can.
func TestRetry_LimitThatIsAnnouncedLateLosesNoCall(t *testing.T) {
	t.Parallel()
	const limit, calls = 6, 60
	eachRouting(t, func(t *testing.T, routes routing) {
		for servers := 1; servers <= 3; servers++ {
			t.Run(strconv.Itoa(servers), func(t *testing.T) {
				u := newUpstreams(t, routes, servers)
				var stops []func() int
				for _, s := range u.servers {
					stops = append(stops, lateLimit(t, s, limit, 100*time.Millisecond))
				}
				var all []*testbed.H2Stream
				for i := range calls {
					fields := testbed.RequestFields("grpc-timeout", "20S")
					if i%2 == 0 {
						fields = testbed.RequestFields()
					}
					all = append(all, u.client.OpenEnd(t, fields))
				}
				for _, cs := range all {
					wantAnswer(t, cs, "reply")
				}
				for i, stop := range stops {
					require.Greater(t, stop(), calls/servers/2, "calls of server %d", i)
				}
				u.requireIdle(t)
			})
		}
	})
}
