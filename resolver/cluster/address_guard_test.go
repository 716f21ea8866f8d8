package cluster

import (
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/framegate/framegate/resolver/spec"
	"github.com/framegate/framegate/test/routetest"
	"github.com/framegate/framegate/test/testlog"
)

func parsed(t testing.TB, addr string) spec.Address {
	t.Helper()
	a, err := spec.ParseAddress(addr)
	require.NoError(t, err)
	return a
}

func TestAddressGuard_RefusesOurOwnAddresses(t *testing.T) {
	listener := func(at string) net.Addr { return net.TCPAddrFromAddrPort(netip.MustParseAddrPort(at)) }
	for name, k := range map[string]struct {
		at      string
		own     []string
		foreign []string
	}{
		"one address": {"127.0.0.1:8888",
			[]string{"127.0.0.1:8888", "[::ffff:127.0.0.1]:8888", "localhost:8888", "LOCALHOST.:8888", "127.0.0.1:08888"},
			[]string{"127.0.0.1:8889", "127.0.0.2:8888", "[::1]:8888", "10.1.2.3:8888", "unix:/run/8888"}},
		"IPv6":            {"[::1]:8888", []string{"[::1]:8888", "[0:0::1]:8888", "localhost:8888"}, []string{"127.0.0.1:8888", "[::2]:8888"}},
		"of an interface": {"10.1.2.3:8888", []string{"10.1.2.3:8888", "[::ffff:10.1.2.3]:8888"}, []string{"127.0.0.1:8888", "localhost:8888"}},
		"every address": {"[::]:8888",
			[]string{"127.0.0.1:8888", "127.9.9.9:8888", "[::1]:8888", "10.1.2.3:8888", "[::ffff:10.1.2.3]:8888", "[fe80::7%eth0]:8888", "localhost:8888"},
			[]string{"10.1.2.4:8888", "[fe80::8%eth0]:8888", "10.1.2.3:8889"}},
		"every IPv4 address": {"0.0.0.0:8888", []string{"127.0.0.1:8888", "10.1.2.3:8888", "localhost:8888"}, []string{"[::1]:8888", "[fe80::7%eth0]:8888"}},
	} {
		t.Run(name, func(t *testing.T) {
			g := newAddressGuard(slog.New(slog.DiscardHandler))
			g.interfaces = func() ([]netip.Addr, error) {
				return []netip.Addr{netip.MustParseAddr("10.1.2.3"), netip.MustParseAddr("fe80::7")}, nil
			}
			require.True(t, g.add("listener main", listener(k.at)))
			require.False(t, g.add("listener main", listener(k.at)))
			for _, registered := range []bool{false, true} {
				for _, a := range k.own {
					require.Equal(t, "it is framegate's own: listener main", g.refusal(parsed(t, a), registered), a)
				}
				for _, a := range k.foreign {
					require.Empty(t, g.refusal(parsed(t, a), registered), a)
				}
			}
		})
	}
}

func TestAddressGuard_KnowsTheMachinesInterfaces(t *testing.T) {
	all, err := interfaceAddresses()
	require.NoError(t, err)
	require.Contains(t, all, netip.MustParseAddr("127.0.0.1"))
}

func TestAllow(t *testing.T) {
	for name, k := range map[string]struct {
		entries []string
		in, out []string
	}{
		"default":       {DefaultAllow, []string{"10.0.0.1:1", "[2001:db8::1]:1", "[::ffff:10.0.0.1]:1", "[fe80::1%eth0]:1", "localhost:1", "name:1"}, []string{"unix:/run/a"}},
		"IPv4 loopback": {[]string{"127.0.0.0/8"}, []string{"localhost:1", "LOCALHOST.:1", "127.0.0.1:1"}, []string{"[::1]:1"}},
		"IPv6 loopback": {[]string{"::1/128"}, []string{"localhost:1", "[::1]:1"}, []string{"127.0.0.1:1"}},
		"IPv4":          {[]string{"10.0.0.0/8"}, []string{"10.9.9.9:1", "[::ffff:10.9.9.9]:1"}, []string{"11.0.0.1:1", "[::1]:1", "localhost:1", "unix:/run/a"}},
		"mapped":        {[]string{"::ffff:10.0.0.0/104"}, []string{"10.9.9.9:1"}, []string{"11.0.0.1:1"}},
		"IPv6":          {[]string{"fd00::/8", "fe80::/10"}, []string{"[fd00::1]:1", "[fe80::1%eth0]:1"}, []string{"[fe00::1]:1", "10.0.0.1:1"}},
		"sockets": {[]string{"unix:/run/app/*", "unix:/run/*/grpc.sock"},
			[]string{"unix:/run/app/a", "unix:/run/other/grpc.sock"},
			[]string{"unix:/run/app/a/b", "unix:/run/app/../etcd", "unix:/run/../grpc.sock", "unix:/run/app", "unix:/run/app/", "unix://run/app/a", "10.0.0.1:1"}},
	} {
		t.Run(name, func(t *testing.T) {
			allow, err := ParseAllow(k.entries)
			require.NoError(t, err)
			g := newAddressGuard(slog.New(slog.DiscardHandler))
			g.allow = &allow
			for _, a := range k.in {
				require.Empty(t, g.refusal(parsed(t, a), true), a)
			}
			for _, a := range k.out {
				require.Contains(t, g.refusal(parsed(t, a), true), "not in services.allow: "+allow.text, a)
				require.Empty(t, g.refusal(parsed(t, a), false), "%s, which a route names", a)
			}
		})
	}
	for _, bad := range []string{"", "10.0.0.1", "10.0.0.0/33", "/run/app/*", "unix:run/*", "unix:/run/[", "unix:/run/../app/*", "unix:/run/app/", "host"} {
		_, err := ParseAllow([]string{"10.0.0.0/8", bad})
		require.ErrorContains(t, err, "[1]: ", "%q", bad)
	}
}

// What is refused gets no calls, whenever it becomes known that it is to be, and is shown with the reason.
func TestAddressGuard_RefusedEndpointsGetNoCalls(t *testing.T) {
	log := &testlog.Buffer{}
	r := newRouter()
	defer r.Close()
	r.SetLog(log.Logger())
	r.Apply("file", []*spec.Route{
		routetest.MustRoute(t, `{name: listed, match: [{method: /a.L/*}], backends: [{endpoints: [{address: "127.0.0.1:8888"}, {address: "127.0.0.1:1"}]}]}`),
		routetest.MustRoute(t, `{name: registered, match: [{method: /a.R/*}], backends: [{service: s, panic_percent: 100}]}`),
	})
	r.SetInstances("s", []spec.Instance{{Address: "127.0.0.1:8888", Weight: 10}, {Address: "unix:/run/app/a", Weight: 10}, {Address: "unix:/run/b", Weight: 10}})
	r.SetInstances("unused", []spec.Instance{{Address: "127.0.0.1:8888", Weight: 10}})
	listed, registered := spec.Request{Method: "/a.L/M"}, spec.Request{Method: "/a.R/M"}
	require.Len(t, calls(t, r, listed, 100), 2)
	require.Len(t, calls(t, r, registered, 100), 3)

	r.Own("listener main", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 8888})
	allow, err := ParseAllow([]string{"unix:/run/app/*", "127.0.0.0/8"})
	require.NoError(t, err)
	r.SetAllow(allow)
	require.Equal(t, map[string]int{"127.0.0.1:1": 100}, calls(t, r, listed, 100))
	require.Equal(t, map[string]int{"unix:/run/app/a": 100}, calls(t, r, registered, 100))
	own := "it is framegate's own: listener main"
	require.Equal(t, map[string]map[string]string{
		"s":      {"127.0.0.1:8888": own, "unix:/run/b": "not in services.allow: unix:/run/app/*, 127.0.0.0/8"},
		"unused": {"127.0.0.1:8888": own},
	}, r.Refused())
	bars := map[string]int{}
	for _, e := range r.Endpoints() {
		if e.Exclusion == ExcludedRefused {
			require.False(t, e.Usable)
			require.NotEmpty(t, e.Reason)
			bars[e.Address]++
		}
	}
	require.Equal(t, map[string]int{"127.0.0.1:8888": 2, "unix:/run/b": 1}, bars)
	require.Equal(t, 1, log.Count("endpoint refused"))
	require.Equal(t, 3, log.Count("instance refused"))

	r.SetInstances("s", []spec.Instance{{Address: "127.0.0.1:8888", Weight: 10}})
	target, _ := r.Resolve(registered)
	_, err = target.Pick(time.Now())
	require.ErrorIs(t, err, ErrNoEndpoint, "also with panic_percent 100")
	target.Release()
	require.Equal(t, 3, log.Count("instance refused"), "what stays as it is, is told once")
	allow, err = ParseAllow([]string{"unix:/run/*"})
	require.NoError(t, err)
	r.SetAllow(allow)
	r.SetInstances("s", []spec.Instance{{Address: "unix:/run/b", Weight: 10}})
	require.Equal(t, map[string]int{"unix:/run/b": 10}, calls(t, r, registered, 10))
	require.Len(t, r.Refused(), 1)
}

// localhost is at the addresses that were judged, and at no other. What is below it may be anywhere.
func TestAddressGuard_Localhost(t *testing.T) {
	t.Parallel()
	r, s, _ := named(t)
	s.Set("localhost", "10.9.9.9")
	s.Set("localhost.", "10.9.9.9")
	s.Set("x.localhost.", "127.0.0.2", "10.9.9.9")
	instances := []spec.Instance{{Address: "localhost:9000", Weight: 1}, {Address: "x.localhost.:9000", Weight: 1}}
	r.SetInstances("s", instances)
	apply(t, r, `backends: [{service: s}]`)
	gets(t, r, "localhost:9000", "127.0.0.2:9000", "10.9.9.9:9000")
	allow := func(networks ...string) {
		a, err := ParseAllow(networks)
		require.NoError(t, err)
		r.SetAllow(a)
	}
	allow("127.0.0.0/8")
	gets(t, r, "127.0.0.1:9000", "127.0.0.2:9000")
	require.Equal(t, "localhost:9000", endpoint(t, r, "127.0.0.1:9000").Name)
	require.Empty(t, r.Refused())
	allow("::1/128")
	gets(t, r, "[::1]:9000")
	allow("10.0.0.0/8")
	gets(t, r, "10.9.9.9:9000")
	require.Equal(t, map[string]map[string]string{"s": {
		"localhost:9000": "127.0.0.1 and ::1, which localhost stands for, are not in services.allow: 10.0.0.0/8",
	}}, r.Refused())

	r.Own("listener main", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2), Port: 9000})
	allow("127.0.0.0/8")
	gets(t, r, "127.0.0.1:9000")
	require.Equal(t, "it is framegate's own: listener main", endpoint(t, r, "127.0.0.2:9000").Reason)
}

// An address may move to this machine while nothing else changes, and the machine may fail to say which it has.
func TestAddressGuard_AsksForTheMachinesAddressesAgain(t *testing.T) {
	log := &testlog.Buffer{}
	r := newRouter()
	defer r.Close()
	r.SetLog(log.Logger())
	var here atomic.Value // string; empty for an error
	here.Store("10.1.2.3")
	r.Set.recheckEvery = 5 * time.Millisecond
	r.Set.guard.interfaces = func() ([]netip.Addr, error) {
		if s := here.Load().(string); s != "" {
			return []netip.Addr{netip.MustParseAddr(s)}, nil
		}
		return nil, errors.New("out of sockets")
	}
	r.Own("listener main", &net.TCPAddr{IP: net.IPv6unspecified, Port: 8888})
	r.Apply("file", []*spec.Route{routetest.MustRoute(t, routetest.Doc("r", "*", routetest.Backend("", "10.1.2.3:8888", "10.1.2.4:8888")))})
	gets(t, r, "10.1.2.4:8888")
	here.Store("10.1.2.4")
	gets(t, r, "10.1.2.3:8888")

	r.Set.mu.Lock() // whoever asks first
	here.Store("10.1.2.3")
	r.Set.guard.ask()
	r.Set.mu.Unlock()
	gets(t, r, "10.1.2.4:8888")
	here.Store("10.1.2.4")
	gets(t, r, "10.1.2.3:8888")

	here.Store("")
	require.Eventually(t, func() bool { return log.Count("cannot be had") > 0 }, 20*time.Second, time.Millisecond)
	r.Set.tracker.mu.Lock()
	r.Set.recheck()
	r.Set.tracker.unlock()
	gets(t, r, "10.1.2.3:8888")
	require.Equal(t, 1, log.Count("cannot be had"), "told once")
	here.Store("10.1.2.3")
	gets(t, r, "10.1.2.4:8888")
	require.Equal(t, 1, log.Count("known again"))
}
