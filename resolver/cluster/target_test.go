package cluster

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/framegate/framegate/pool/policy"
	"github.com/framegate/framegate/resolver/spec"
	"github.com/framegate/framegate/test/routetest"
)

// anyCall matches the routes of these tests.
var anyCall = spec.Request{Listener: "main", Method: "/s.S/M"}

// routed returns a Resolver with the routes of a document, which the test closes.
func routed(t testing.TB, docs ...string) *router {
	t.Helper()
	r := newRouter()
	t.Cleanup(r.Close)
	var routes []*spec.Route
	for _, doc := range docs {
		routes = append(routes, routetest.MustRoute(t, doc))
	}
	r.Apply("file", routes)
	return r
}

// begin begins a call, and returns it with its first attempt.
func begin(t testing.TB, r *router, req spec.Request) (*Target, Attempt) {
	t.Helper()
	target, ok := r.Resolve(req)
	require.True(t, ok)
	require.NoError(t, target.Admit(&req, time.Now()))
	a, err := target.Pick(time.Now())
	require.NoError(t, err)
	return &target, a
}

// call makes a call from its beginning to its end and returns where it went.
func call(t testing.TB, r *router, req spec.Request, result Result) string {
	t.Helper()
	target, a := begin(t, r, req)
	a.Answered()
	a.Done(result, time.Now())
	target.Release()
	return a.Address
}

// calls makes so many good calls, one after the other, and returns how many went where.
func calls(t testing.TB, r *router, req spec.Request, n int) map[string]int {
	t.Helper()
	got := map[string]int{}
	for range n {
		got[call(t, r, req, Succeeded)]++
	}
	return got
}

// tenToOne checks the counts of 11,000 calls to a:1 and a:2, whose weights are 10 and 1. The tolerance is for the few: one
// standard deviation of calls at random is 3 % of them. Package balance, which has a seed, wants 5 %.
func tenToOne(t *testing.T, got map[string]int, tolerance float64) {
	t.Helper()
	require.Len(t, got, 2)
	require.InEpsilon(t, 10_000, got["a:1"], 0.05)
	require.InEpsilon(t, 1000, got["a:2"], tolerance)
}

func TestTarget_PoliciesGoByWeight(t *testing.T) {
	// With one call at a time, least_request has two idle ones to choose from: the first, drawn by weight, wins.
	for policy, tolerance := range map[string]float64{"weighted_random": 0.2, "least_request": 0.2, "round_robin": 0.002} {
		t.Run(policy, func(t *testing.T) {
			r := routed(t,
				routetest.Doc("listed", "/s.S/*", "balancer: {policy: "+policy+"}", routetest.Backend("", "a:1 10", "a:2", "a:3 0")),
				fmt.Sprintf(`{name: found, balancer: {policy: %s}, match: [{method: "/f.S/*"}], backends: [{service: s}]}`, policy),
			)
			r.SetInstances("s", []spec.Instance{{Address: "a:1", Weight: 100}, {Address: "a:2", Weight: 10}})
			tenToOne(t, calls(t, r, anyCall, 11_000), tolerance)
			found := spec.Request{Method: "/f.S/M"}
			tenToOne(t, calls(t, r, found, 11_000), tolerance)

			r.SetInstances("s", []spec.Instance{{Address: "a:1", Weight: 10}, {Address: "a:2", Weight: 100}})
			got := calls(t, r, found, 11_000)
			require.InEpsilon(t, 10_000, got["a:2"], 0.05, "a change of weights applies to the next call")
		})
	}
}

func TestTarget_RoundRobinTakesTurnsAcrossRoutesOfAService(t *testing.T) {
	r := routed(t,
		`{name: one, balancer: {policy: round_robin}, match: [{method: "/s.S/*"}], backends: [{service: s}]}`,
		`{name: two, balancer: {policy: round_robin}, match: [{method: "/f.S/*"}], backends: [{service: s}]}`,
	)
	r.SetInstances("s", []spec.Instance{{Address: "a:1", Weight: 10}, {Address: "a:2", Weight: 10}, {Address: "a:3", Weight: 10}})
	var order []string
	for i := range 9 {
		method := []string{"/s.S/M", "/f.S/M"}[i%2]
		order = append(order, call(t, r, spec.Request{Method: method}, Succeeded))
	}
	require.ElementsMatch(t, []string{"a:1", "a:2", "a:3"}, order[:3])
	require.Equal(t, order[:3], order[3:6])
	require.Equal(t, order[:3], order[6:])
}

func TestTarget_LeastRequestAvoidsTheBusy(t *testing.T) {
	r := routed(t, `{name: r, balancer: {policy: least_request}, match: [{method: "*"}], backends: [{endpoints: [{address: "a:1"}, {address: "a:2"}]}]}`)
	busy := map[string]int{}
	for range 100 {
		_, a := begin(t, r, anyCall) // goes on
		busy[a.Address]++
		diff := busy["a:1"] - busy["a:2"]
		require.LessOrEqual(t, max(diff, -diff), 1, "of two, the one with fewer calls gets the next")
	}
}

func TestTarget_PeakEWMAAvoidsTheSlow(t *testing.T) {
	r := routed(t, `{name: r, balancer: {policy: peak_ewma}, match: [{method: "*"}], backends: [{endpoints: [{address: "a:1"}, {address: "a:2"}, {address: "a:3"}]}]}`)
	got := map[string]int{}
	for range 3000 {
		target, a := begin(t, r, anyCall)
		latency := time.Millisecond
		if a.Address == "a:1" {
			latency = 50 * time.Millisecond
		}
		a.Began = a.Began.Add(-latency) // as if it had taken that long
		a.Answered()
		a.Done(Succeeded, time.Now())
		target.Release()
		got[a.Address]++
	}
	require.Less(t, got["a:1"], 10)
	require.Greater(t, min(got["a:2"], got["a:3"]), 500)
}

func TestTarget_ConsistentHashGoesByItsKey(t *testing.T) {
	var endpoints []string
	for i := range 20 {
		endpoints = append(endpoints, fmt.Sprintf(`{address: "a:%d"}`, i+1))
	}
	peer := func(i int) net.Addr { return &net.TCPAddr{IP: net.IPv4(10, 0, 0, byte(i)), Port: 1000 + i} }
	for key, req := range map[string]func(i int) spec.Request{
		"{header: x-user}": func(i int) spec.Request {
			return spec.Request{Header: spec.Header{"x-user": {fmt.Sprint(i), "other"}}}
		},
		"{authority: true}": func(i int) spec.Request { return spec.Request{Authority: fmt.Sprint(i)} },
		"{peer: true}":      func(i int) spec.Request { return spec.Request{Peer: peer(i)} },
	} {
		t.Run(key, func(t *testing.T) {
			r := routed(t, fmt.Sprintf(`{name: r, balancer: {policy: consistent_hash, hash: %s}, match: [{method: "*"}], backends: [{endpoints: [%s]}]}`,
				key, strings.Join(endpoints, ", ")))
			home, used := map[int]string{}, map[string]bool{}
			for i := range 100 {
				home[i] = call(t, r, req(i), Succeeded)
				used[home[i]] = true
			}
			require.Greater(t, len(used), 15, "keys are spread")
			for i := range 100 {
				require.Equal(t, home[i], call(t, r, req(i), Succeeded), "key %d", i)
			}
			require.Greater(t, len(calls(t, r, spec.Request{}, 200)), 15, "a call without the key goes anywhere")

			r.Apply("file", []*spec.Route{routetest.MustRoute(t, fmt.Sprintf(`{name: r, balancer: {policy: consistent_hash, hash: %s}, match: [{method: "*"}], backends: [{endpoints: [%s]}]}`,
				key, strings.Join(endpoints[1:], ", ")))})
			for i := range 100 {
				if at := call(t, r, req(i), Succeeded); home[i] != "a:1" {
					require.Equal(t, home[i], at, "only keys of the endpoint that is gone move")
				}
			}
		})
	}
}

// A client's port, and whether a listener shows IPv4 addresses in 4 bytes or 16, make no other peer of it.
func TestCallKey_PeerIsItsIPAddress(t *testing.T) {
	key := spec.CallKey{Peer: true}
	req := func(a net.Addr) *spec.Request { return &spec.Request{Peer: a} }
	one := hashOf(key, req(&net.TCPAddr{IP: net.IP{10, 0, 0, 1}, Port: 1}))
	require.Equal(t, one, hashOf(key, req(&net.TCPAddr{IP: net.IPv4(10, 0, 0, 1), Port: 2})))
	require.NotEqual(t, one, hashOf(key, req(&net.TCPAddr{IP: net.IPv4(10, 0, 0, 2), Port: 1})))
	require.Equal(t, hashOf(key, req(&net.TCPAddr{IP: net.IPv6loopback})), hashOf(key, req(&net.TCPAddr{IP: net.IPv6loopback, Port: 7})))
	require.NotEqual(t, hashOf(key, req(&net.UnixAddr{Name: "/x"})), hashOf(key, req(&net.UnixAddr{Name: "/x"})), "has none: anywhere")
	for _, k := range []spec.CallKey{{Peer: true}, {Authority: true}, {Header: "x-a"}} {
		r := spec.Request{Peer: &net.TCPAddr{IP: net.IPv6loopback}, Authority: strings.Repeat("a", 200), Header: spec.Header{"x-a": {strings.Repeat("b", 200)}}}
		require.Zero(t, testing.AllocsPerRun(100, func() { hashOf(k, &r) }), k)
	}
}

func TestTarget_PickSkipsWhatWasTriedWhileAnotherIsUsable(t *testing.T) {
	for _, policy := range []string{"weighted_random", "round_robin", "least_request", "peak_ewma", "consistent_hash, hash: {authority: true}"} {
		t.Run(policy, func(t *testing.T) {
			const n = maxTried
			var endpoints []string
			for i := range n {
				endpoints = append(endpoints, fmt.Sprintf(`{address: "a:%d", weight: %d}`, i+1, 1+i*i*i))
			}
			r := routed(t, fmt.Sprintf(`{name: r, balancer: {policy: %s}, match: [{method: "*"}], backends: [{endpoints: [%s]}]}`, policy, strings.Join(endpoints, ", ")))
			for range 50 {
				target, a := begin(t, r, anyCall)
				seen := map[string]bool{a.Address: true}
				a.Done(Unknown, time.Now())
				for range n - 1 {
					a, err := target.Pick(time.Now())
					require.NoError(t, err)
					require.False(t, seen[a.Address], "%s was tried", a.Address)
					seen[a.Address] = true
					a.Done(Unknown, time.Now())
				}
				again, err := target.Pick(time.Now())
				require.NoError(t, err, "with all tried, one of them")
				again.Done(Unknown, time.Now())
				target.Release()
			}
		})
	}
}

func TestTarget_BackendsWithoutAUsableEndpointLeaveTheirShareToOthers(t *testing.T) {
	r := routed(t, `
name: r
match: [{method: "*"}]
backends:
- {name: idle, weight: 1000, endpoints: [{address: "z:1", weight: 0}]}
- {name: empty, weight: 1000, service: nobody}
- {name: big, weight: 3, endpoints: [{address: "a:1"}]}
- {name: small, endpoints: [{address: "a:2"}]}`)
	got := calls(t, r, anyCall, 8000)
	require.Len(t, got, 2)
	require.InEpsilon(t, 6000, got["a:1"], 0.05)
}

func TestTarget_MadeByHandHasOneEndpointAndNoLimits(t *testing.T) {
	target := Target{Address: "a:1"}
	require.NoError(t, target.Admit(&anyCall, time.Now()))
	a, err := target.Pick(time.Now())
	require.NoError(t, err)
	require.Equal(t, "a:1", a.Address)
	a.Answered()
	a.Done(Failed, time.Now())
	require.True(t, target.MayRetry())
	target.RetryEnd()
	require.False(t, target.BoundsWaiting())
	require.True(t, target.Wait())
	target.WaitEnd()
	require.Nil(t, target.Pool())
	target.Release()
	_, err = (&Target{}).Pick(time.Now())
	require.ErrorIs(t, err, ErrNoEndpoint)
}

func TestTarget_PoliciesOfConnectionsThatAreEqualHaveOneAddress(t *testing.T) {
	const doc = `{name: %s, match: [{method: "/%s.S/*"}], backends: [{pool: {connections: {max: %d}}, endpoints: [{address: "a:1"}]}]}`
	r := routed(t, fmt.Sprintf(doc, "a", "a", 3), fmt.Sprintf(doc, "b", "b", 3), fmt.Sprintf(doc, "c", "c", 4))
	pool := func(method string) *policy.Policy {
		target, _ := begin(t, r, spec.Request{Method: method})
		return target.Pool()
	}
	require.Same(t, pool("/a.S/M"), pool("/b.S/M"))
	require.NotSame(t, pool("/a.S/M"), pool("/c.S/M"))
	require.Equal(t, 4, pool("/c.S/M").Connections.Max)
}

// A rolling restart may leave a call with one endpoint that is down, one that has just come back, and one that was ejected
// a moment ago and is well.
func TestTarget_PickPrefersAnEjectedEndpointToOneThatFailedThisCall(t *testing.T) {
	r := newRouter()
	t.Cleanup(r.Close)
	r.Apply("file", []*spec.Route{three(t, "", "")})
	fail(t, r, "a:3", 5)
	require.True(t, endpoint(t, r, "a:3").EjectedUntil.After(time.Now()))
	target, first := begin(t, r, anyCall)
	got := map[string]bool{first.Address: true}
	for range 2 {
		a, err := target.Pick(time.Now())
		require.NoError(t, err)
		require.False(t, a.Again)
		got[a.Address] = true
		a.Done(Unknown, time.Now())
	}
	require.Equal(t, map[string]bool{"a:1": true, "a:2": true, "a:3": true}, got)
	a, err := target.Pick(time.Now())
	require.NoError(t, err)
	require.True(t, a.Again, "all were tried")
	require.NotEqual(t, "a:3", a.Address)
	a.Done(Unknown, time.Now())
	first.Done(Unknown, time.Now())
	target.Release()
}

func TestTarget_DefaultsOfWhatARouteDoesNotSay(t *testing.T) {
	r := routetest.MustRoute(t, `{name: r, match: [{method: "*"}], balancer: {}, backends: [{service: s, panic_percent: 0}]}`)
	require.Equal(t, spec.WeightedRandom, spec.BalancePolicy(pickerKeyOf(r.Balancer).policy.Kind))
	require.Equal(t, pickerKeyOf(nil), pickerKeyOf(r.Balancer))
	require.Equal(t, settings{panicAt: 0}, settingsOf(&r.Backends[0]))
	require.Equal(t, settings{panicAt: 50}, settingsOf(&spec.Backend{}))
}
