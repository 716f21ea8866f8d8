package cluster

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/framegate/framegate/resolver/spec"
)

// benchPolicies are the balancers of the documents, each in the way that costs the most.
var benchPolicies = []string{
	"weighted_random",
	"round_robin, slow_start: 30s",
	"least_request",
	"peak_ewma",
	"consistent_hash, hash: {header: x-user}",
	"consistent_hash, hash: {peer: true}",
}

// thousand returns a Resolver with a route to 1,000 endpoints of mixed weights, with ejection and limits.
func thousand(t testing.TB, policy string) *router {
	var endpoints []string
	for i := range 1000 {
		endpoints = append(endpoints, fmt.Sprintf(`{address: "10.0.%d.%d:80", weight: %d}`, i/256, i%256, 1+i%10))
	}
	return routed(t, fmt.Sprintf(`
name: r
match: [{method: "/s.S/*"}]
balancer: {policy: %s}
retry: {attempts: 3}
limits: {concurrent: 100000, pending: 1000, calls_per_second: 1000000, per: {peer: true}}
backends:
- {name: none, weight: 0, endpoints: [{address: "z:1"}]}
- {endpoints: [%s], ejection: {max_percent: 50}, limits: {concurrent: 100000}}`,
		policy, strings.Join(endpoints, ", ")))
}

func benchRequest() spec.Request {
	return spec.Request{
		Listener: "main", Method: "/s.S/M", Authority: "s.example.com",
		Header: spec.Header{"x-user": {"somebody@example.com"}}, Peer: &net.TCPAddr{IP: net.IPv4(10, 0, 0, 1), Port: 4711},
	}
}

// wholeCall does what the carrier of a call asks of the package, and reports whether there was an endpoint. The target is
// part of what the carrier has of the call.
func wholeCall(r *router, target *Target, req *spec.Request) bool {
	*target, _ = r.Resolve(*req)
	if target.Admit(req, time.Now()) != nil {
		target.Release()
		return false
	}
	a, err := target.Pick(time.Now())
	if err == nil {
		a.Answered()
		a.Done(Succeeded, time.Now())
	}
	target.Release()
	return err == nil
}

func BenchmarkTarget_WholeCall(b *testing.B) {
	for _, policy := range benchPolicies {
		b.Run(policy, func(b *testing.B) {
			r, req := thousand(b, policy), benchRequest()
			target := new(Target)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				req.Peer.(*net.TCPAddr).IP[15] = byte(i) // one alone would be over its rate
				if !wholeCall(r, target, &req) {
					b.Fatal("refused")
				}
			}
		})
	}
}

// BenchmarkTarget_Pick is the pick and its end alone.
func BenchmarkTarget_Pick(b *testing.B) {
	for _, policy := range benchPolicies {
		b.Run(policy, func(b *testing.B) {
			r, req := thousand(b, policy), benchRequest()
			target, ok := r.Resolve(req)
			require.True(b, ok)
			require.NoError(b, target.ChooseBackend())
			b.ReportAllocs()
			for b.Loop() {
				target.attempts = 0
				a, err := target.Pick(time.Now())
				if err != nil {
					b.Fatal(err)
				}
				a.Done(Succeeded, time.Now())
			}
		})
	}
}

func TestTarget_WholeCallDoesNotAllocate(t *testing.T) {
	for _, policy := range benchPolicies {
		t.Run(policy, func(t *testing.T) {
			r, req := thousand(t, policy), benchRequest()
			target, good := new(Target), true
			require.Zero(t, testing.AllocsPerRun(1000, func() { good = wholeCall(r, target, &req) && good }))
			require.True(t, good)
		})
	}
}

// A change of one service reaches the routes that use it by their clusters, however many there are.
func BenchmarkSetInstances_OfManyRoutes(b *testing.B) {
	for _, policy := range benchPolicies {
		b.Run(policy, func(b *testing.B) {
			var docs []string
			for i := range 100 {
				docs = append(docs, fmt.Sprintf(`{name: r%d, balancer: {policy: %s}, match: [{method: "/s%d.S/*"}], backends: [{service: s}]}`, i, policy, i))
			}
			r := routed(b, docs...)
			all := make([]spec.Instance, 1000)
			for i := range all {
				all[i] = spec.Instance{Address: fmt.Sprintf("10.0.%d.%d:80", i/256, i%256), Weight: 10}
			}
			r.SetInstances("s", all)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				r.SetInstances("s", all[:999+i%2])
			}
		})
	}
}

// A thousand endpoints that change their state at once, each of which is news to the pickers.
func TestGroup_AThousandEjectionsTakeNoSecond(t *testing.T) {
	r := thousand(t, "round_robin")
	began := time.Now()
	for _, c := range r.Set.byKey {
		for _, m := range c.members {
			for range 5 {
				if e := m.ejection.Load(); e != nil {
					e.Report(true, time.Now())
				}
			}
		}
	}
	require.Less(t, time.Since(began), 5*time.Second)
	t.Log(time.Since(began))
	for _, c := range r.Clusters() {
		if c.Endpoints == 1000 {
			require.Equal(t, uint64(500), c.Ejections)
		}
	}
}
