package test

import (
	"fmt"
	"io"
	"net/http"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"

	"github.com/framegate/framegate/test/testbed"
)

// states returns the states of all endpoints as the admin server shows them.
func states(t testing.TB, p *testbed.Proxy) (all []string) {
	t.Helper()
	resp, err := http.Get(p.Admin() + "/v1/endpoints")
	require.NoError(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	for _, m := range regexp.MustCompile(`"state":\s*"(\w+)"`).FindAllSubmatch(body, -1) {
		all = append(all, string(m[1]))
	}
	require.NotEmpty(t, all, "%s", body)
	return all
}

// two returns two honest servers behind a route with some more keys, and of its backend.
func two(t *testing.T, keys, backend string, options ...testbed.H2Option) upstreams {
	t.Helper()
	u := upstreams{servers: []*testbed.H2Server{testbed.NewH2Server(t, options...), testbed.NewH2Server(t, options...)}}
	u.proxy = testbed.NewProxy(t, fmt.Sprintf("routes:\n- {name: all, match: [{method: \"*\"}], balancer: {policy: round_robin}, %s backends: [{%s endpoints: [{address: %q}, {address: %q}]}]}",
		keys, backend, u.servers[0].Addr, u.servers[1].Addr), testbed.Admin())
	u.client = testbed.DialH2(t, u.proxy.Addr)
	return u
}

// An endpoint may well wait for a request that its client never sends: clients must not be able to have it ejected.
func TestBlame_ClientThatSendsNothingEjectsNobody(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ keys, deadline string }{
		"timeout of the route":   {"timeout: 300ms,", "10S"},
		"timeout of a try":       {"retry: {attempts: 2, codes: [UNAVAILABLE], per_try_timeout: 300ms, backoff: {base: 1ms}},", "10S"},
		"deadline of the client": {"", "1100m"},
	} {
		t.Run(name, func(t *testing.T) {
			u := two(t, c.keys, "")
			var idle []*testbed.H2Stream
			for range 20 {
				idle = append(idle, u.client.Open(t, testbed.RequestFields("grpc-timeout", c.deadline)))
			}
			for _, cs := range idle {
				require.Equal(t, 4, cs.Outcome().Code())
			}
			require.Equal(t, []string{"usable", "usable"}, states(t, u.proxy))
		})
	}
}

// Whoever has sent everything and hears nothing does blame it.
func TestBlame_EndpointThatAnswersNothingIsEjected(t *testing.T) {
	t.Parallel()
	for name, warm := range map[string]int{"the first calls": 0, "calls on connections that others have used": 2} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			answersNothing(t, warm)
		})
	}
}

// answersNothing makes calls that are not answered, after some that are.
func answersNothing(t *testing.T, warm int) {
	u := two(t, "timeout: 300ms,", "")
	for range warm {
		u.good(t)
	}
	var calls []*testbed.H2Stream
	for range 20 {
		calls = append(calls, u.client.OpenEnd(t, testbed.RequestFields()))
	}
	for _, cs := range calls {
		require.Equal(t, 4, cs.Outcome().Code())
	}
	require.Contains(t, states(t, u.proxy), "ejected")
}

// That no stream was free in time is no failure: what is full is not to be made fewer.
func TestBlame_FullEndpointIsNotEjected(t *testing.T) {
	t.Parallel()
	u := two(t, "", "pool: {connections: {max: 1}, when_full: wait},", testbed.Settings(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 1}))
	for range 2 { // a stream at each, which is answered and stays
		_, st := u.call(t)
		st.SendHeaders(testbed.ResponseFields())
	}
	var waiting []*testbed.H2Stream
	for range 12 {
		waiting = append(waiting, u.client.OpenEnd(t, testbed.RequestFields("grpc-timeout", "1200m")))
	}
	for _, cs := range waiting {
		require.Equal(t, 4, cs.Outcome().Code())
	}
	require.Equal(t, []string{"usable", "usable"}, states(t, u.proxy))
}

func TestRetry_BudgetIsFreeOnceTheAnswerHasBegun(t *testing.T) {
	t.Parallel()
	u := two(t, "retry: {attempts: 2, codes: [UNAVAILABLE], backoff: {base: 1ms}, budget: {percent: 1, min: 1}},", "")
	long := u.client.Open(t, testbed.RequestFields())
	fail(u.accept(t), 14)
	u.accept(t).SendHeaders(testbed.ResponseFields())
	long.ReadHeaders() // this stream may last for hours
	cs := u.client.OpenEnd(t, testbed.RequestFields())
	fail(u.accept(t), 14)
	answer(u.accept(t), "reply")
	wantAnswer(t, cs, "reply")
}

func TestRetry_CountOfAttemptsThatIsNoneIsNotBelieved(t *testing.T) {
	t.Parallel()
	u := two(t, "retry: {attempts: 2, codes: [UNAVAILABLE], backoff: {base: 1ms}},", "")
	for sent, want := range map[string]string{
		"9223372036854775807": "1", "99999999999999999999": "1", "-5": "1", "1 2": "1", "2": "3",
	} {
		cs := u.client.OpenEnd(t, testbed.RequestFields("grpc-previous-rpc-attempts", sent))
		fail(u.accept(t), 14)
		st := u.accept(t)
		require.Equal(t, []string{want}, st.Outcome().Headers.Values("grpc-previous-rpc-attempts"), sent)
		answer(st, "reply")
		wantAnswer(t, cs, "reply")
	}
}

func TestLimits_FullPoolIsToldWithPushback(t *testing.T) {
	t.Parallel()
	u := two(t, "", "pool: {connections: {max: 1}, streams_per_connection: 1, when_full: fail},")
	for range 2 {
		u.call(t)
	}
	o := u.client.OpenEnd(t, testbed.RequestFields()).Outcome()
	require.Equal(t, "overloaded", o.Reason())
	require.Len(t, o.Trailers.Values("grpc-retry-pushback-ms"), 1)
}
