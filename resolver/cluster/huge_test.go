package cluster

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/framegate/framegate/resolver/dns"
	"github.com/framegate/framegate/resolver/spec"
)

// fromTo returns n addresses, from first on.
func fromTo(first string, n int) (all []string) {
	for a := netip.MustParseAddr(first); len(all) < n; a = a.Next() {
		all = append(all, a.String())
	}
	return all
}

// instancesOf returns an instance of a name at each of n ports.
func instancesOf(name string, n int) (all []spec.Instance) {
	for i := range n {
		all = append(all, spec.Instance{Address: fmt.Sprintf("%s:%d", name, 1000+i), Weight: 1})
	}
	return all
}

// Whoever may register instances chooses names, and what DNS says of them. It must not cost others much, however much that is.
func TestNames_HugeAnswersHoldNobodyUp(t *testing.T) {
	r, s, log := named(t)
	s.Set("evil.svc.", fromTo("10.0.0.1", 4000)...)
	apply(t, r, `backends: [{service: echo, dns: {refresh: 100ms}}]`)
	for _, n := range []int{5, 20} {
		r.SetInstances("echo", instancesOf("evil.svc.", n))
		members := min(n*dns.MaxAddresses, spec.MaxEndpoints)
		var all []EndpointState
		require.Eventually(t, func() bool {
			all = r.Endpoints()
			return len(all) >= members
		}, 20*time.Second, 10*time.Millisecond)
		all = slices.DeleteFunc(all, func(e EndpointState) bool { return e.Exclusion == "" })
		require.LessOrEqual(t, len(all), n+1)
	}
	reasons := map[string]bool{}
	for _, e := range r.Endpoints() {
		if e.Exclusion == ExcludedRefused {
			reasons[e.Reason] = true
		}
	}
	require.Equal(t, map[string]bool{
		"3000 more addresses: a name has at most 1000 endpoints":      true,
		"40000 more addresses: a backend has at most 10000 endpoints": true,
	}, reasons)
	require.LessOrEqual(t, log.Count("endpoint refused"), 21)
	require.LessOrEqual(t, len(r.explain(anyCall)), 2*maxLines+2)

	r.Set.mu.Lock()
	var c *Cluster
	for _, c = range r.Set.byKey {
	}
	took := time.Hour // of the quickest: the machine is shared
	for range 5 {
		began := time.Now()
		r.Set.renewMembers(c)
		took = min(took, time.Since(began))
	}
	r.Set.tracker.unlock()
	t.Log("renewed in", took)
	require.Less(t, took, time.Second)
}

func TestNames_RefusedAddressesAreToldInPart(t *testing.T) {
	t.Parallel()
	r, s, log := named(t)
	allow, err := ParseAllow([]string{"127.0.0.0/8"})
	require.NoError(t, err)
	r.SetAllow(allow)
	s.Set("evil.svc.", append(fromTo("10.0.0.1", 500), "127.0.0.1")...)
	r.SetInstances("echo", instancesOf("evil.svc.", 1))
	apply(t, r, `backends: [{service: echo, dns: {refresh: 100ms}}]`)
	gets(t, r, "127.0.0.1:1000")
	var last EndpointState
	refused := 0
	for _, e := range r.Endpoints() {
		if e.Exclusion != "" {
			refused++
			if e.Address == "evil.svc.:1000" {
				last = e
			}
		}
	}
	require.Equal(t, maxRefused+1, refused)
	require.Equal(t, "490 more addresses: refused too", last.Reason)
	require.Equal(t, maxRefused+1, log.Count("endpoint refused"))
	s.Set("evil.svc.", append(fromTo("10.0.0.1", 400), "127.0.0.2")...)
	gets(t, r, "127.0.0.2:1000")
	require.Equal(t, maxRefused+1, log.Count("endpoint refused"), "told once, however many more they are")
}
