package dns

import (
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/dns/dnsmessage"

	"github.com/framegate/framegate/test/dnsserver"
	"github.com/framegate/framegate/test/leak"
	"github.com/framegate/framegate/test/testlog"
)

func TestMain(m *testing.M) {
	leak.Main(m, 16)
}

const (
	patience = 30 * time.Second
	often    = minRefresh
	host     = "echo.default.svc."
)

// start returns a server, and Names that ask it and take every address to be routed.
func start(t *testing.T) (*dnsserver.Server, *Names, *testlog.Buffer) {
	t.Helper()
	s, log := dnsserver.New(t), &testlog.Buffer{}
	n := New(s.Resolver(), log.Logger())
	n.routable = func(netip.Addr) bool { return true }
	t.Cleanup(n.Close)
	return s, n, log
}

func subscribe(t *testing.T, n *Names, refresh time.Duration) {
	t.Helper()
	t.Cleanup(n.Subscribe(host, refresh, func() {}))
}

func shown(a Answer) string {
	all := make([]string, len(a.Addresses))
	for i, addr := range a.Addresses {
		all[i] = addr.String()
	}
	return strings.Join(all, " ")
}

// becomes waits until the name has exactly these addresses, and an error or none.
func becomes(t *testing.T, n *Names, want string, failed bool) {
	t.Helper()
	require.Eventually(t, func() bool {
		a := n.Known(host)
		return a.Asked && shown(a) == want && (a.Err != nil) == failed
	}, patience, time.Millisecond, "%q: %+v", want, n.Known(host))
}

// logged waits until the log has a line, which it is to have once.
func logged(t *testing.T, log *testlog.Buffer, line string) {
	t.Helper()
	require.Eventually(t, func() bool { return log.Count(line) > 0 }, patience, time.Millisecond, "%s", line)
	require.Equal(t, 1, log.Count(line))
}

// lookedUp waits until the name has been looked up so many times more, whatever came of it.
func lookedUp(t *testing.T, n *Names, times uint64) {
	t.Helper()
	count := func() uint64 {
		answered, absent, failed := n.Counts()
		return answered + absent + failed
	}
	before := count()
	require.Eventually(t, func() bool { return count() >= before+times }, patience, time.Millisecond)
}

func TestNames_AllAddressesAndTheirChanges(t *testing.T) {
	t.Parallel()
	s, n, log := start(t)
	s.Set(host, "10.0.0.2", "10.0.0.1", "fd00::1")
	subscribe(t, n, often)
	becomes(t, n, "10.0.0.1 10.0.0.2 fd00::1", false)
	s.Set(host, "10.0.0.1", "10.0.0.3")
	becomes(t, n, "10.0.0.1 10.0.0.3", false)
	logged(t, log, `has other addresses" name=echo.default.svc. addresses=2 came=1 gone=2`)
	s.Set(host, "fd00::2")
	becomes(t, n, "fd00::2", false)
	var many []string
	for i := range 200 {
		many = append(many, fmt.Sprintf("10.1.0.%d", i))
	}
	s.Set(host, many...)
	require.Eventually(t, func() bool { return len(n.Known(host).Addresses) == 200 }, patience, time.Millisecond, "over TCP")
}

// Servers that do not answer say nothing of the name: its addresses stay.
func TestNames_KeepTheLastAddressesWhileDNSFails(t *testing.T) {
	t.Parallel()
	s, n, log := start(t)
	s.Set(host, "10.0.0.1", "fd00::1")
	subscribe(t, n, often)
	becomes(t, n, "10.0.0.1 fd00::1", false)
	s.Break(host, dnsserver.ServFail)
	becomes(t, n, "10.0.0.1 fd00::1", true)
	lookedUp(t, n, 3)
	becomes(t, n, "10.0.0.1 fd00::1", true)
	logged(t, log, "cannot be looked up")
	s.Set(host, "10.0.0.2")
	becomes(t, n, "10.0.0.2", false)
	logged(t, log, "can be looked up again")
}

// A server that answers for one family only takes the other's addresses from nobody.
func TestNames_OneFamilyAlone(t *testing.T) {
	t.Parallel()
	for name, k := range map[string]struct {
		broken              dnsmessage.Type
		before, after, want string
	}{
		"AAAA fails": {dnsmessage.TypeAAAA, "10.0.0.1", "10.0.0.2", "10.0.0.2 fd00::1"},
		"A fails":    {dnsmessage.TypeA, "fd00::2", "fd00::3", "10.0.0.9 fd00::3"},
	} {
		t.Run(name, func(t *testing.T) {
			s, n, _ := start(t)
			if k.broken == dnsmessage.TypeAAAA {
				s.Set(host, k.before, "fd00::1")
			} else {
				s.Set(host, k.before, "10.0.0.9")
			}
			subscribe(t, n, often)
			require.Eventually(t, func() bool { return len(n.Known(host).Addresses) == 2 }, patience, time.Millisecond)
			s.Set(host, k.after)
			s.Break(host, dnsserver.ServFail, k.broken)
			becomes(t, n, k.want, true)
		})
	}
	for name, fault := range map[string]dnsserver.Fault{"from the start": dnsserver.ServFail, "silence": dnsserver.Silence} {
		t.Run(name, func(t *testing.T) {
			s, n, _ := start(t)
			s.Set(host, "10.0.0.1")
			s.Break(host, fault, dnsmessage.TypeAAAA)
			subscribe(t, n, often)
			becomes(t, n, "10.0.0.1", true)
		})
	}
}

// A headless service without a ready pod has no name, or a name without an address, as CoreDNS has been made. One such
// answer may come from a server that does not know better yet.
func TestNames_AServiceThatIsScaledToNothing(t *testing.T) {
	t.Parallel()
	for name, empty := range map[string]func(s *dnsserver.Server){
		"NXDOMAIN":   func(s *dnsserver.Server) { s.Remove(host) },
		"no address": func(s *dnsserver.Server) { s.Set(host) },
	} {
		t.Run(name, func(t *testing.T) {
			s, n, _ := start(t)
			s.Set(host, "10.0.0.1")
			changes := make(chan Answer, 100)
			defer n.Subscribe(host, often, func() { changes <- n.Known(host) })()
			next := func() Answer {
				select {
				case a := <-changes:
					return a
				case <-time.After(patience):
					require.FailNow(t, "no change")
					return Answer{}
				}
			}
			require.Equal(t, "10.0.0.1", shown(next()))
			empty(s)
			first := next()
			require.Error(t, first.Err)
			require.Equal(t, "10.0.0.1", shown(first), "asked once more")
			require.Empty(t, next().Addresses)
			s.Set(host, "10.0.0.7")
			require.Equal(t, "10.0.0.7", shown(next()))
		})
	}
	t.Run("one lie", func(t *testing.T) {
		s, n, _ := start(t)
		s.Set(host, "10.0.0.1")
		seen := make(chan int, 100)
		defer n.Subscribe(host, often, func() {
			a := n.Known(host)
			if a.Err != nil {
				s.Set(host, "10.0.0.1")
			}
			seen <- len(a.Addresses)
		})()
		require.Equal(t, 1, <-seen)
		s.Remove(host)
		require.Equal(t, 1, <-seen)
		require.Equal(t, 1, <-seen)
	})
}

// That a server failed before says nothing of a name: it keeps its addresses until it is said twice that it has none.
func TestNames_AreAbsentOnlyWhenThatIsSaidTwice(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]func(s *dnsserver.Server){
		"after a failure":   func(s *dnsserver.Server) { s.Break(host, dnsserver.ServFail) },
		"AAAA always fails": func(s *dnsserver.Server) { s.Break(host, dnsserver.ServFail, dnsmessage.TypeAAAA) },
	} {
		t.Run(name, func(t *testing.T) {
			s, n, _ := start(t)
			s.Set(host, "10.0.0.1")
			absent := make(chan string, 100) // what the name has whenever that it is absent is news
			defer n.Subscribe(host, often, func() {
				if a := n.Known(host); a.Err != nil && isAbsent(a.Err) {
					absent <- shown(a)
				}
			})()
			becomes(t, n, "10.0.0.1", false)
			fault(s)
			becomes(t, n, "10.0.0.1", true)
			lookedUp(t, n, 2)
			s.Remove(host)
			for _, want := range []string{"10.0.0.1", ""} {
				select {
				case got := <-absent:
					require.Equal(t, want, got)
				case <-time.After(patience):
					require.FailNow(t, "no news")
				}
			}
		})
	}
}

func TestNames_ANameThatComes(t *testing.T) {
	t.Parallel()
	s, n, _ := start(t)
	subscribe(t, n, maxRefresh)
	becomes(t, n, "", true)
	s.Set(host, "10.0.0.1")
	becomes(t, n, "10.0.0.1", false) // asked again soon, whatever the refresh is
}

func TestNames_TheShortestRefreshCounts(t *testing.T) {
	t.Parallel()
	s, n, _ := start(t)
	s.Set(host, "10.0.0.1")
	subscribe(t, n, maxRefresh)
	becomes(t, n, "10.0.0.1", false)
	s.Set(host, "10.0.0.2")
	subscribe(t, n, often)
	becomes(t, n, "10.0.0.2", false)
	before := s.Asked(host)
	subscribe(t, n, often)
	require.Less(t, s.Asked(host), before+10, "all subscribers to a name share its look-ups")
}

func TestNames_LeaveOutWhatHasNoRoute(t *testing.T) {
	t.Parallel()
	s, n, _ := start(t)
	n.routable = netip.Addr.Is4
	s.Set(host, "10.0.0.1", "fd00::1", "10.0.0.2")
	subscribe(t, n, often)
	becomes(t, n, "10.0.0.1 10.0.0.2", false)
	s.Set(host, "fd00::1", "fd00::2")
	becomes(t, n, "fd00::1 fd00::2", false) // better than nothing
	require.True(t, hasRoute(netip.MustParseAddr("127.0.0.1")))
}

// Names that a server is silent about take a long time each. However many there are, the others are followed.
func TestNames_SilenceAboutSomeHoldsNoOtherUp(t *testing.T) {
	t.Parallel()
	const most = 20 * time.Second
	within := func(t *testing.T, n *Names, want string) {
		require.Eventually(t, func() bool { return shown(n.Known(host)) == want }, most, time.Millisecond)
	}
	holes := func(t *testing.T, s *dnsserver.Server, n *Names) {
		for i := range 100 {
			hole := fmt.Sprintf("hole%d.evil.", i)
			s.Break(hole, dnsserver.Silence)
			t.Cleanup(n.Subscribe(hole, often, func() {}))
		}
	}
	t.Run("before", func(t *testing.T) {
		t.Parallel()
		s, n, log := start(t)
		s.Set(host, "10.0.0.1")
		subscribe(t, n, often)
		becomes(t, n, "10.0.0.1", false)
		holes(t, s, n)
		require.Eventually(t, func() bool { return log.Count("cannot be looked up") >= 100 }, 2*patience, time.Millisecond, "all are waited for again")
		s.Set(host, "10.0.0.2")
		within(t, n, "10.0.0.2")

		// A moment of silence about a name that has addresses does not put it on a level with those.
		s.Break(host, dnsserver.Silence)
		becomes(t, n, "10.0.0.2", true)
		s.Set(host, "10.0.0.3")
		becomes(t, n, "10.0.0.3", false)
	})
	t.Run("while they come", func(t *testing.T) {
		t.Parallel()
		s, n, _ := start(t)
		s.Set(host, "10.0.0.1")
		subscribe(t, n, often)
		becomes(t, n, "10.0.0.1", false)
		holes(t, s, n)
		s.Set(host, "10.0.0.2")
		within(t, n, "10.0.0.2")
	})
	t.Run("after", func(t *testing.T) {
		t.Parallel()
		s, n, _ := start(t)
		holes(t, s, n)
		s.Set(host, "10.0.0.1")
		subscribe(t, n, often)
		becomes(t, n, "10.0.0.1", false)
	})
}

func TestNames_AwaitReturnsWhenAllWereAsked(t *testing.T) {
	t.Parallel()
	s, n, _ := start(t)
	s.Set(host, "10.0.0.1")
	release := n.Await([]string{host, "none.svc."}, patience)
	require.True(t, n.Known("none.svc.").Asked)
	stop := n.Subscribe(host, often, func() {})
	release()
	require.Equal(t, "10.0.0.1", shown(n.Known(host)), "handed over")
	stop()
	stop()
	require.False(t, n.Known(host).Asked, "it has no subscriber")

	s.Break("silent.svc.", dnsserver.Silence)
	n.Await([]string{"silent.svc.", host}, 20*time.Millisecond)()
	n.Close()
	n.Await([]string{host}, patience)()
}

func TestConfig(t *testing.T) {
	require.NoError(t, Config{}.Validate())
	require.Equal(t, 30*time.Second, Config{}.WithDefaults().Refresh)
	for _, bad := range []time.Duration{time.Millisecond, -1, 25 * time.Hour} {
		require.ErrorContains(t, Config{Refresh: bad}.Validate(), "refresh: "+bad.String()+", want 100ms to 24h0m0s")
	}
}

func TestNew_TakesTheSystemsResolver(t *testing.T) {
	n := New(nil, slog.New(slog.DiscardHandler))
	defer n.Close()
	n.Await([]string{"localhost"}, patience)()
}
