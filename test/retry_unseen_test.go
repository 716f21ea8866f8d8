package test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"

	"github.com/framegate/framegate/test/refusing"
	"github.com/framegate/framegate/test/testbed"
)

// Who cannot be connected to has seen nothing: another endpoint is asked, whatever the route says.
func TestRetry_RefusedConnectionIsTriedElsewhereWithoutAPolicy(t *testing.T) {
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

func TestRetry_RefusedStreamIsTriedOnceMoreAndNoMore(t *testing.T) {
	eachRouting(t, func(t *testing.T, routes routing) {
		u := newUpstreams(t, routes, 3, "")
		cs := u.client.OpenEnd(t, testbed.RequestFields())
		for i := range 2 {
			st := u.accept(t)
			require.False(t, st.ReadHeaders().Has("grpc-previous-rpc-attempts"), "attempt %d: none was seen", i)
			st.Reset(http2.ErrCodeRefusedStream)
		}
		wantLocal(t, cs.Outcome(), 14, "upstream_reset")
		u.requireIdle(t)
	})
}

// With a policy the attempts that it allows follow the one that any route makes, also when it lists no codes.
func TestRetry_RefusedStreamIsTriedAsOftenAsTheRouteSays(t *testing.T) {
	eachRouting(t, func(t *testing.T, routes routing) {
		u := newUpstreams(t, routes, 5, "retry: {attempts: 3, "+fast+"}")
		cs := u.client.OpenEnd(t, testbed.RequestFields())
		for range 1 + 3 {
			u.accept(t).Reset(http2.ErrCodeRefusedStream)
		}
		wantLocal(t, cs.Outcome(), 14, "upstream_reset")
		u.requireIdle(t)
	})
}
