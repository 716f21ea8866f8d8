package test

import (
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"

	"github.com/framegate/framegate/test/race"
	"github.com/framegate/framegate/test/testbed"
)

// refused makes a call that must be refused for its route's limit, and returns how long that took.
func (u *upstreams) refused(t testing.TB, limit string, fields ...string) time.Duration {
	t.Helper()
	began := time.Now()
	o := u.client.OpenEnd(t, testbed.RequestFields(fields...)).Outcome()
	wantLocal(t, o, 8, "overloaded")
	require.Equal(t, "framegate: route all is over "+limit, o.Message())
	ms, err := strconv.Atoi(o.Trailers.Get("grpc-retry-pushback-ms"))
	require.NoError(t, err)
	require.Positive(t, ms)
	return o.At.Sub(began)
}

// call makes one call and returns both of its ends.
func (u *upstreams) call(t testing.TB, fields ...string) (cs, st *testbed.H2Stream) {
	t.Helper()
	cs = u.client.OpenEnd(t, testbed.RequestFields(fields...))
	return cs, u.accept(t)
}

// callSoon is call, with one server, for when calls before have been answered and make room at any moment.
func (u *upstreams) callSoon(t testing.TB) (cs, st *testbed.H2Stream) {
	t.Helper()
	testbed.Poll(t, func() error {
		cs = u.client.OpenEnd(t, testbed.RequestFields())
		var o testbed.Outcome
		if st, o = u.servers[0].AcceptUnless(t, cs); st == nil {
			return fmt.Errorf("refused: %s", o)
		}
		return nil
	})
	return cs, st
}

// good makes a call that is answered.
func (u *upstreams) good(t testing.TB, fields ...string) {
	t.Helper()
	cs, st := u.call(t, fields...)
	answer(st, "reply")
	wantAnswer(t, cs, "reply")
}

// inBackend puts keys into the backend of a routes document.
func inBackend(doc, keys string) string {
	return strings.Replace(doc, "endpoints:", keys+", endpoints:", 1)
}

// atOnce is how long a refusal takes for which nothing is waited for. The fastest of many counts: a busy machine makes some
// late, a wait makes all of them late.
const atOnce = 5 * time.Millisecond

func TestOverload_ConcurrentCallsAreBounded(t *testing.T) {
	const most = 5
	eachRouting(t, func(t *testing.T, routes routing) {
		for limit, doc := range map[string]func(endpoints []string) string{
			"limits.concurrent":          func(e []string) string { return routes(t, e, "limits: {concurrent: 5}") },
			"backends.limits.concurrent": func(e []string) string { return inBackend(routes(t, e), "limits: {concurrent: 5}") },
		} {
			t.Run(limit, func(t *testing.T) {
				u := upstreams{servers: []*testbed.H2Server{testbed.NewH2Server(t)}}
				u.proxy = testbed.NewProxy(t, doc(u.addresses()))
				u.client = testbed.DialH2(t, u.proxy.Addr)
				// Whichever way they end, calls make room for as many others.
				for name, end := range map[string]func(cs, st *testbed.H2Stream){
					"OK":              func(cs, st *testbed.H2Stream) { answer(st, "reply") },
					"error":           func(cs, st *testbed.H2Stream) { fail(st, 14) },
					"reset":           func(cs, st *testbed.H2Stream) { st.Reset(http2.ErrCodeInternal) },
					"cancel":          func(cs, st *testbed.H2Stream) { cs.Reset(http2.ErrCodeCancel) },
					"bad answer":      func(cs, st *testbed.H2Stream) { headers(cs, st); st.Send([]byte{7, 0, 0, 0, 0}) },
					"connection lost": func(cs, st *testbed.H2Stream) { st.Conn().Close() },
				} {
					t.Run(name, func(t *testing.T) {
						var open [][2]*testbed.H2Stream
						for range most {
							cs, st := u.callSoon(t)
							open = append(open, [2]*testbed.H2Stream{cs, st})
						}
						var took []time.Duration
						for range 51 {
							took = append(took, u.refused(t, limit))
						}
						require.Less(t, slices.Min(took), atOnce)
						require.Equal(t, most, u.proxy.UpstreamStreams())
						require.Zero(t, u.unaccepted(), "no upstream is touched")
						for _, c := range open {
							end(c[0], c[1])
						}
						u.requireIdle(t)
					})
				}
			})
		}
	})
}

func TestOverload_CallsPerSecond(t *testing.T) {
	eachRouting(t, func(t *testing.T, routes routing) {
		t.Run("whole route", func(t *testing.T) {
			u := newUpstreams(t, routes, 1, "limits: {calls_per_second: 1, burst: 3}")
			for range 3 {
				u.good(t)
			}
			u.refused(t, "limits.calls_per_second")
			require.Zero(t, u.unaccepted(), "no upstream is touched")
			o := u.client.OpenEnd(t, testbed.RequestFields()).Outcome()
			ms, err := strconv.Atoi(o.Trailers.Get("grpc-retry-pushback-ms"))
			require.NoError(t, err)
			require.LessOrEqual(t, ms, 1000)
			time.Sleep(time.Duration(ms) * time.Millisecond)
			u.good(t) // as it was told
		})
		t.Run("backend", func(t *testing.T) {
			u := upstreams{servers: []*testbed.H2Server{testbed.NewH2Server(t)}}
			u.proxy = testbed.NewProxy(t, inBackend(routes(t, u.addresses()), "limits: {calls_per_second: 0.1, burst: 2}"))
			u.client = testbed.DialH2(t, u.proxy.Addr)
			u.good(t)
			u.good(t)
			u.refused(t, "backends.limits.calls_per_second")
			u.requireIdle(t)
		})
		t.Run("header", func(t *testing.T) {
			u := newUpstreams(t, routes, 1, "limits: {calls_per_second: 0.1, burst: 2, per: {header: x-tenant}}")
			for _, fields := range [][]string{{"x-tenant", "a"}, {"x-tenant", "b"}, nil} {
				u.good(t, fields...)
				u.good(t, fields...)
				u.refused(t, "limits.calls_per_second", fields...)
			}
			u.good(t, "x-tenant", "c")
			u.requireIdle(t)
		})
		t.Run("peer", func(t *testing.T) {
			u := newUpstreams(t, routes, 1, "limits: {calls_per_second: 0.1, burst: 2, per: {peer: true}}")
			for _, from := range []string{"127.0.0.1", "127.0.0.2"} {
				u.client = dialFrom(t, from, u.proxy.Addr)
				u.good(t)
				u.good(t)
				u.refused(t, "limits.calls_per_second")
				u.client = dialFrom(t, from, u.proxy.Addr)
				u.refused(t, "limits.calls_per_second") // whatever its port
			}
			u.requireIdle(t)
		})
	})
}

// dialFrom is testbed.DialH2 from an address of this machine.
func dialFrom(t testing.TB, from, addr string) *testbed.H2Conn {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	nc, err := d.DialContext(patient(t), "tcp", addr)
	require.NoError(t, err)
	return testbed.NewH2Client(t, nc)
}

// Over the limit of those that wait for a connection or a stream, a call is refused at once, and not tried again.
func TestOverload_PendingCallsAreBounded(t *testing.T) {
	eachRouting(t, func(t *testing.T, routes routing) {
		for limit, more := range map[string]string{
			"route": "limits: {pending: 2}", "route with retry": "limits: {pending: 2}\n  retry: {attempts: 5, codes: [UNAVAILABLE, RESOURCE_EXHAUSTED]}",
			"route with hedging": "limits: {pending: 2}\n  hedge: {delay: 10s}",
			"backend":            "",
		} {
			t.Run(limit, func(t *testing.T) {
				server := testbed.NewH2Server(t)
				backend := "pool: {connections: {max: 1}, streams_per_connection: 1, when_full: wait}"
				if more == "" {
					backend += ", limits: {pending: 2}"
				}
				u := upstreams{servers: []*testbed.H2Server{server}, proxy: testbed.NewProxy(t, inBackend(routes(t, []string{server.Addr}, more), backend))}
				u.client = testbed.DialH2(t, u.proxy.Addr)
				u.good(t) // the connection
				clients := make([]*testbed.H2Stream, 3)
				var st *testbed.H2Stream
				clients[0], st = u.call(t)
				waiting := u.pending(t, clients[1:])
				var took []time.Duration
				for range 51 {
					took = append(took, u.refused(t, "limits.pending"))
				}
				require.Less(t, slices.Min(took), atOnce)
				require.Equal(t, 1, u.proxy.UpstreamStreams())
				waiting[0].Reset(http2.ErrCodeCancel) // makes room
				testbed.Poll(t, func() error {
					clients[1] = u.client.OpenEnd(t, testbed.RequestFields())
					return waits(clients[1])
				})
				u.refused(t, "limits.pending")
				answer(st, "reply")
				wantAnswer(t, clients[0], "reply")
				for range 2 {
					answer(u.accept(t), "reply")
				}
				wantAnswer(t, clients[1], "reply")
				wantAnswer(t, clients[2], "reply")
				u.requireIdle(t)
			})
		}
	})
}

// pending opens calls that must wait.
func (u *upstreams) pending(t testing.TB, clients []*testbed.H2Stream) []*testbed.H2Stream {
	t.Helper()
	for i := range clients {
		clients[i] = u.client.OpenEnd(t, testbed.RequestFields())
		require.NoError(t, waits(clients[i]))
	}
	return clients
}

// waits reports a call that has been refused.
func waits(cs *testbed.H2Stream) error {
	time.Sleep(race.Choose(50*time.Millisecond, 200*time.Millisecond))
	if h := cs.History(); h != "[]" {
		return fmt.Errorf("it does not wait: %s", h)
	}
	return nil
}

// Limits that are changed are in force at once, and count what is under way.
func TestOverload_ChangedLimitsApplyAtOnce(t *testing.T) {
	server := testbed.NewH2Server(t)
	proxy := testbed.NewProxy(t, "", testbed.EmbeddedEtcd(t))
	etcd := newStructEtcd(t, proxy)
	put := func(more string) {
		awaitRevision(t, proxy, etcd.putRoute(fmt.Sprintf("{name: all, match: [{method: \"*\"}], backends: [{endpoints: [{address: %q}]}]%s}", server.Addr, more)))
	}
	put("")
	u := upstreams{servers: []*testbed.H2Server{server}, proxy: proxy, client: testbed.DialH2(t, proxy.Addr)}
	var open [][2]*testbed.H2Stream
	begin := func() {
		cs, st := u.callSoon(t)
		open = append(open, [2]*testbed.H2Stream{cs, st})
	}
	end := func() {
		answer(open[0][1], "reply")
		wantAnswer(t, open[0][0], "reply")
		open = open[1:]
	}
	for range 4 {
		begin() // before there was a limit
	}
	put(", limits: {concurrent: 3}")
	u.refused(t, "limits.concurrent")
	end()
	testbed.Poll(t, func() error {
		if n := proxy.UpstreamStreams(); n != 3 {
			return fmt.Errorf("%d streams", n)
		}
		return nil
	})
	u.refused(t, "limits.concurrent")
	put(", limits: {concurrent: 4}, timeout: 1m")
	begin()
	u.refused(t, "limits.concurrent")
	put("")
	begin()
	begin()
	put(", limits: {concurrent: 6}")
	u.refused(t, "limits.concurrent")
	for len(open) > 0 {
		end()
	}
	u.requireIdle(t)
	put(", limits: {concurrent: 1}")
	for range 5 {
		cs, st := u.callSoon(t) // each is released, whatever the route was when it began
		answer(st, "reply")
		wantAnswer(t, cs, "reply")
	}
	put(", limits: {calls_per_second: 0.1, burst: 1}")
	u.good(t)
	u.refused(t, "limits.calls_per_second")
	put(", limits: {calls_per_second: 0.1, burst: 1}, timeout: 1m")
	u.refused(t, "limits.calls_per_second") // the same bucket
	put(", limits: {calls_per_second: 0.1, burst: 2}")
	u.good(t)
}
