package cluster

import (
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/framegate/framegate/resolver/dns"
	"github.com/framegate/framegate/resolver/spec"
	"github.com/framegate/framegate/test/dnsserver"
	"github.com/framegate/framegate/test/etcdtest"
	"github.com/framegate/framegate/test/routetest"
	"github.com/framegate/framegate/test/testlog"
)

// named returns a Resolver whose names a server of its own knows.
func named(t *testing.T) (*router, *dnsserver.Server, *testlog.Buffer) {
	t.Helper()
	s, log := dnsserver.New(t), &testlog.Buffer{}
	r := newRouter()
	t.Cleanup(r.Close)
	r.SetLog(log.Logger())
	r.SetNames(dns.New(s.Resolver(), log.Logger()))
	return r, s, log
}

// apply puts a route into force as sources do.
func apply(t testing.TB, r *router, keys string) {
	t.Helper()
	routes := []*spec.Route{routetest.MustRoute(t, `{name: r, match: [{method: "*"}], `+keys+`}`)}
	defer r.AwaitNames(spec.ListedAddresses(routes...))()
	r.Apply("file", routes)
}

// gets waits until calls go to exactly these addresses.
func gets(t testing.TB, r *router, want ...string) {
	t.Helper()
	var got map[string]int
	require.Eventually(t, func() bool {
		got = map[string]int{}
		for range 20 * (len(want) + 1) {
			target, _ := r.Resolve(anyCall)
			if a, err := target.Pick(time.Now()); err == nil {
				got[a.Address]++
				a.Done(Unknown, time.Now())
			}
			target.Release()
		}
		for _, address := range want {
			if got[address] == 0 {
				return false
			}
		}
		return len(got) == len(want)
	}, 20*time.Second, 5*time.Millisecond, "want calls at %v", want)
}

func TestNames_EachAddressIsAnEndpoint(t *testing.T) {
	t.Parallel()
	for _, address := range []string{"echo.default.svc:9000", "dns:///echo.default.svc:9000", "ECHO.Default.svc:9000"} {
		t.Run(address, func(t *testing.T) {
			r, s, log := named(t)
			s.Set("echo.default.svc", "127.0.0.1", "127.0.0.2")
			apply(t, r, `balancer: {policy: round_robin}, backends: [{dns: {refresh: 100ms}, endpoints: [{address: "`+address+`", weight: 3}, {address: "127.0.0.9:1", weight: 3}]}]`)
			require.Equal(t, map[string]int{"127.0.0.1:9000": 10, "127.0.0.2:9000": 10, "127.0.0.9:1": 10}, calls(t, r, anyCall, 30), "at once")
			name := strings.TrimPrefix(address, "dns:///")
			for _, e := range r.Endpoints() {
				if e.Address == "127.0.0.9:1" {
					require.Empty(t, e.Name)
				} else {
					require.Equal(t, name, e.Name)
				}
				require.True(t, e.Usable)
			}
			target, a := begin(t, r, anyCall)
			for a.Address == "127.0.0.9:1" {
				require.Empty(t, target.Name)
				target, a = begin(t, r, anyCall)
			}
			require.Equal(t, name, target.Name)
			require.Equal(t, []string{name + " = 127.0.0.1:9000, 127.0.0.2:9000"}, r.explain(anyCall))

			s.Set("echo.default.svc", "127.0.0.2", "127.0.0.3")
			gets(t, r, "127.0.0.2:9000", "127.0.0.3:9000", "127.0.0.9:1")
			require.Equal(t, 0, log.Count("cannot be looked up"))
		})
	}
}

func TestNames_AreFollowed(t *testing.T) {
	t.Parallel()
	r, s, _ := named(t)
	var mu sync.Mutex
	left := map[string]bool{}
	r.SetEndpointHooks(EndpointHooks{Grace: time.Hour, Left: func(address string) {
		mu.Lock()
		defer mu.Unlock()
		left[address] = true
	}})
	s.Set("a.svc", "127.0.0.1", "127.0.0.2")
	apply(t, r, `backends: [{dns: {refresh: 100ms}, endpoints: [{address: "a.svc:1"}]}]`)
	gets(t, r, "127.0.0.1:1", "127.0.0.2:1")
	s.Set("a.svc", "127.0.0.2", "127.0.0.3")
	gets(t, r, "127.0.0.2:1", "127.0.0.3:1")
	require.Eventually(t, func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(left) == 1 && left["127.0.0.1:1"]
	}, etcdtest.Soon, time.Millisecond, "it is drained as any endpoint that leaves")

	// What servers that fail say changes nothing; a service that is gone has no endpoint; it may be back.
	s.Break("a.svc", dnsserver.ServFail)
	require.Eventually(t, func() bool { return endpoint(t, r, "127.0.0.2:1").LookupError != nil }, etcdtest.Soon, time.Millisecond)
	gets(t, r, "127.0.0.2:1", "127.0.0.3:1")
	s.Remove("a.svc")
	gets(t, r)
	gone := endpoint(t, r, "a.svc:1")
	require.Equal(t, ExcludedUnresolved, gone.Exclusion)
	require.Contains(t, gone.Reason, "no such host")
	require.Equal(t, []string{"a.svc:1 unresolved: " + gone.Reason}, r.explain(anyCall))
	target, _ := r.Resolve(anyCall)
	_, err := target.Pick(time.Now())
	require.ErrorIs(t, err, ErrNoEndpoint)
	target.Release()
	s.Set("a.svc", "127.0.0.4")
	gets(t, r, "127.0.0.4:1")

	answered, absent, failed := r.Lookups()
	require.Positive(t, answered)
	require.Positive(t, absent)
	require.Positive(t, failed)

	// Nobody asks for a name that no route has any more.
	apply(t, r, `backends: [{endpoints: [{address: "127.0.0.1:1"}]}]`)
	require.Empty(t, r.Set.names.Known("a.svc"))
}

// A name may lead where no endpoint may be, today or tomorrow.
func TestNames_LeadToWhatIsRefused(t *testing.T) {
	t.Parallel()
	r, s, log := named(t)
	r.Own("admin", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 8889})
	allow, err := ParseAllow([]string{"127.0.0.0/24"})
	require.NoError(t, err)
	r.SetAllow(allow)
	r.SetInstances("s", []spec.Instance{{Address: "evil.svc:8889", Weight: 10}, {Address: "127.0.0.7:1", Weight: 10}})
	s.Set("evil.svc", "127.0.0.1", "127.0.0.2", "127.0.9.9", "0.0.0.0", "224.0.0.1")
	apply(t, r, `backends: [{service: s, dns: {refresh: 100ms}}]`)
	gets(t, r, "127.0.0.7:1", "127.0.0.2:8889")
	reasons := map[string]string{}
	for _, e := range r.Endpoints() {
		if e.Exclusion == ExcludedRefused {
			require.Equal(t, "evil.svc:8889", e.Name)
			reasons[e.Address] = e.Reason
		}
	}
	require.Equal(t, map[string]string{
		"127.0.0.1:8889": "it is framegate's own: admin",
		"127.0.9.9:8889": "127.0.9.9 is not in services.allow: 127.0.0.0/24",
		"0.0.0.0:8889":   "0.0.0.0 is the address of no host or of many",
		"224.0.0.1:8889": "224.0.0.1 is the address of no host or of many",
	}, reasons)
	require.Equal(t, 4, log.Count("endpoint refused"))
	s.Set("evil.svc", "127.0.0.1")
	gets(t, r, "127.0.0.7:1")
	s.Set("evil.svc", "127.0.0.3")
	gets(t, r, "127.0.0.7:1", "127.0.0.3:8889")
	require.Equal(t, 4, log.Count("endpoint refused"), "what stays is told once")
}

func TestNames_OneAddressOfSeveral(t *testing.T) {
	t.Parallel()
	r, s, _ := named(t)
	s.Set("a.svc", "127.0.0.1", "127.0.0.2")
	s.Set("b.svc", "127.0.0.1")
	apply(t, r, `balancer: {policy: round_robin}, backends: [{endpoints: [{address: "a.svc:1"}, {address: "b.svc:1"}, {address: "127.0.0.2:1"}, {address: "127.0.0.3:1"}]}]`)
	require.Equal(t, map[string]int{"127.0.0.1:1": 20, "127.0.0.2:1": 20, "127.0.0.3:1": 10}, calls(t, r, anyCall, 50), "the weights of all")
	r.SetInstances("s", []spec.Instance{{Address: "b.svc:1", Weight: 10}, {Address: "127.0.0.1:1", Weight: 5}, {Address: "127.0.0.3:1", Weight: 10}})
	apply(t, r, `balancer: {policy: round_robin}, backends: [{service: s}]`)
	require.Eventually(t, func() bool { return len(r.Endpoints()) == 2 }, etcdtest.Soon, time.Millisecond)
	require.Equal(t, map[string]int{"127.0.0.1:1": 20, "127.0.0.3:1": 20}, calls(t, r, anyCall, 40), "the greatest")
}

func TestNames_ARouteThatChanges(t *testing.T) {
	t.Parallel()
	r, s, _ := named(t)
	s.Set("a.svc", "127.0.0.1")
	s.Set("b.svc", "127.0.0.1", "127.0.0.2")
	for i := range 3 { // what is known of an address stays, under whatever name it is found
		apply(t, r, fmt.Sprintf(`backends: [{dns: {refresh: %dh}, endpoints: [{address: "127.0.0.1:1"}]}]`, i+1))
		require.Equal(t, map[string]int{"127.0.0.1:1": 10}, calls(t, r, anyCall, 10))
		require.Empty(t, endpoint(t, r, "127.0.0.1:1").Name)
		apply(t, r, fmt.Sprintf(`backends: [{dns: {refresh: %dh}, endpoints: [{address: "a.svc:1"}]}]`, i+1))
		require.Equal(t, map[string]int{"127.0.0.1:1": 10}, calls(t, r, anyCall, 10))
		require.Equal(t, "a.svc:1", endpoint(t, r, "127.0.0.1:1").Name)
		apply(t, r, `backends: [{endpoints: [{address: "b.svc:1"}]}]`)
		require.Len(t, calls(t, r, anyCall, 100), 2)
		require.Equal(t, "b.svc:1", endpoint(t, r, "127.0.0.1:1").Name)
	}
	// A shorter refresh counts from now on.
	s.Set("b.svc", "127.0.0.5", "127.0.0.6")
	apply(t, r, `backends: [{dns: {refresh: 100ms}, endpoints: [{address: "b.svc:1"}]}]`)
	gets(t, r, "127.0.0.5:1", "127.0.0.6:1")
	fail(t, r, "127.0.0.5:1", 5)
	require.False(t, endpoint(t, r, "127.0.0.5:1").EjectedUntil.IsZero())
	s.Set("c.svc", "127.0.0.5", "127.0.0.6")
	apply(t, r, `backends: [{endpoints: [{address: "c.svc:1"}]}]`)
	require.False(t, endpoint(t, r, "127.0.0.5:1").EjectedUntil.IsZero(), "ejected under its new name too")
}

// A server that says nothing delays a route by a moment, and no call and no other change at all.
func TestNames_ASilentServer(t *testing.T) {
	t.Parallel()
	r, s, _ := named(t)
	s.Break("slow.svc", dnsserver.Silence)
	began := time.Now()
	apply(t, r, `backends: [{endpoints: [{address: "slow.svc:1"}, {address: "127.0.0.1:1"}]}]`)
	require.Less(t, time.Since(began), 5*NamesWait)
	require.Equal(t, map[string]int{"127.0.0.1:1": 10}, calls(t, r, anyCall, 10))
	require.Equal(t, "not looked up yet", endpoint(t, r, "slow.svc:1").Reason)
	began = time.Now()
	r.SetInstances("s", []spec.Instance{{Address: "slow.svc:2", Weight: 1}})
	require.Less(t, time.Since(began), NamesWait)
}

func TestNames_InvalidAddresses(t *testing.T) {
	for bad, want := range map[string]string{
		"dns://10.0.0.53/echo:1": "want host:port or dns:///host:port",
		"dns:echo:1":             "want host:port or dns:///host:port",
		"dns:///echo":            "want host:port",
		"dns:////echo:1":         "want host:port",
		"dns:///0.0.0.0:1":       "want the address of one host",
		"b\u00fccher.example:1":  "a host of a-z 0-9",
		"a,b:1":                  "a host of a-z 0-9",
	} {
		require.ErrorContains(t, spec.ValidateAddress(bad), want, bad)
	}
	_, err := spec.ParseRoute([]byte(`{name: r, match: [{method: "*"}], backends: [{dns: {refresh: 1ms}, endpoints: [{address: "dns:///echo:1"}]}]}`))
	require.EqualError(t, err, "backends[0].dns.refresh: 1ms, want 100ms to 24h0m0s")
}
