package test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/framegate/framegate/resolver/cluster"
	"github.com/framegate/framegate/test/testbed"
)

// routing returns a routes document with one route to the endpoints of a backend, with further keys of the route, one a
// line.
type routing func(t testing.TB, endpoints []string, keys ...string) string

// eachRouting runs f with routes in both modes.
func eachRouting(t *testing.T, f func(t *testing.T, routes routing)) {
	eachRoutes(t, func(t *testing.T, to routesTo) {
		f(t, func(t testing.TB, endpoints []string, keys ...string) string {
			t.Helper()
			const one = "the.only:1"
			var list []string
			for _, e := range endpoints {
				list = append(list, fmt.Sprintf("{address: %q}", e))
			}
			doc := strings.Replace(to(t, one), fmt.Sprintf("{address: %q}", one), strings.Join(list, ", "), 1)
			return strings.TrimRight(doc, " \n") + "\n  " + strings.Join(keys, "\n  ") + "\n"
		})
	})
}

// upstreams are the raw servers that a route has as endpoints.
type upstreams struct {
	servers []*testbed.H2Server
	proxy   *testbed.Proxy
	client  *testbed.H2Conn
}

// newUpstreams starts n servers, and a framegate with a client in front of them.
func newUpstreams(t testing.TB, routes routing, n int, keys ...string) upstreams {
	t.Helper()
	var u upstreams
	for range n {
		u.servers = append(u.servers, testbed.NewH2Server(t))
	}
	u.start(t, routes, keys...)
	return u
}

func (u *upstreams) start(t testing.TB, routes routing, keys ...string) {
	t.Helper()
	u.proxy = testbed.NewProxy(t, routes(t, u.addresses(), keys...))
	u.client = testbed.DialH2(t, u.proxy.Addr)
}

func (u *upstreams) addresses() (all []string) {
	for _, s := range u.servers {
		all = append(all, s.Addr)
	}
	return all
}

// accept returns the next attempt at any of the servers.
func (u *upstreams) accept(t testing.TB) *testbed.H2Stream {
	t.Helper()
	st, _ := testbed.AcceptAny(t, u.servers...)
	return st
}

// unaccepted counts the attempts that no test has accepted.
func (u *upstreams) unaccepted() (n int) {
	for _, s := range u.servers {
		n += s.Unaccepted()
	}
	return n
}

// requireIdle fails the test unless nothing of a call is left and exactly nothing is counted of any, and no attempt was
// made that the test has not seen.
func (u *upstreams) requireIdle(t testing.TB) {
	t.Helper()
	u.requireUncounted(t)
	require.Zero(t, u.unaccepted(), "further attempts")
}

// requireUncounted is requireIdle where attempts may still be on their way to a server.
func (u *upstreams) requireUncounted(t testing.TB) {
	t.Helper()
	testbed.Poll(t, func() error { return noUpstreamBut(u.proxy, 0) })
	testbed.Poll(t, func() error {
		for _, l := range u.proxy.Loads() {
			at := slices.ContainsFunc(l.Backends, func(b cluster.BackendLoad) bool { return b.Calls != 0 || b.Pending != 0 })
			if at || l.Calls != 0 || l.Pending != 0 || l.Budgeted != 0 || l.Retries != 0 {
				return fmt.Errorf("counted as under way: %+v", l)
			}
		}
		return nil
	})
}

// awaitFurther waits for the end of the attempts that the test has not accepted.
func (u *upstreams) awaitFurther(t testing.TB) {
	t.Helper()
	for u.unaccepted() > 0 {
		u.accept(t).AwaitReset()
	}
}

// requireGoodBesideMute makes calls through a route with a server and an endpoint that takes connections and says nothing.
func requireGoodBesideMute(t testing.TB, routes routing, keys ...string) {
	t.Helper()
	u := upstreams{servers: []*testbed.H2Server{testbed.NewH2Server(t)}}
	u.proxy = testbed.NewProxy(t, inBackend(routes(t, []string{u.servers[0].Addr, mute(t)}, keys...), "pool: {connect_timeout: 30s}"))
	u.client = testbed.DialH2(t, u.proxy.Addr)
	for range 4 {
		cs := u.client.OpenEnd(t, testbed.RequestFields())
		answer(u.accept(t), "reply")
		wantAnswer(t, cs, "reply")
	}
	u.requireIdle(t)
}

// upload is a request of several messages of one size, and all of it that was sent.
type upload struct {
	cs   *testbed.H2Stream
	size int
	sent []byte
}

// send sends the next message, whose content depends on the seed.
func (u *upload) send(seed int) {
	f := testbed.Frame(pattern(u.size, seed))
	u.sent = append(u.sent, f...)
	u.cs.Send(f)
}

// fail ends an attempt without an answer.
func fail(st *testbed.H2Stream, code int, trailers ...string) {
	st.SendTrailers(append(testbed.ResponseFields(), testbed.StatusFields(code, "no", trailers...)...))
}

// answer ends an attempt with one message.
func answer(st *testbed.H2Stream, msg string) {
	st.SendHeaders(testbed.ResponseFields())
	st.Send(testbed.Frame(text(msg)))
	st.SendTrailers(testbed.StatusFields(0, ""))
}

// wantAnswer checks that the client got that message and OK.
func wantAnswer(t testing.TB, cs *testbed.H2Stream, msg string) {
	t.Helper()
	o := cs.Outcome()
	wantUpstream(t, o, 0, "")
	require.Equal(t, testbed.Frame(text(msg)), o.Body)
}
