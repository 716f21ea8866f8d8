package test

import (
	"fmt"
	"io"
	"net"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/framegate/framegate/conf"
	"github.com/framegate/framegate/test/testbed"
)

// maxHops sets limits.max_hops.
func maxHops(n int) testbed.ProxyOption {
	return func(c *conf.Config) { c.Limits.MaxHops = n }
}

// ours is a via header with n entries of framegate.
func ours(n int) string { return strings.TrimSuffix(strings.Repeat("2 framegate, ", n), ", ") }

// What goes upstream says that framegate has handed it on (RFC 9110 §7.6.3), after those that did before.
func TestVia_IsAddedToWhatCame(t *testing.T) {
	t.Parallel()
	eachMode(t, func(t *testing.T, to via) {
		p := newRawPair(t, to)
		for _, came := range [][]string{nil, {"1.1 edge"}, {"1.1 edge, 2 framegate (a, b)", "2 other"}, {ours(8)}} {
			fields := testbed.RequestFields()
			for _, v := range came {
				fields = fields.With("via", v)
			}
			cs, ss, request := p.open(t, fields)
			require.Equal(t, append(came, "2 framegate"), request.Values("via"))
			cs.SendEnd(testbed.Frame(text("hello")))
			ss.SendHeaders(testbed.ResponseFields("via", "2 backend"))
			ss.SendTrailers(testbed.StatusFields(0, ""))
			require.Equal(t, []string{"2 backend"}, cs.Outcome().Headers.Values("via"), "answers are left alone")
		}
	})
}

// Each attempt says it once.
func TestVia_OfEachAttempt(t *testing.T) {
	t.Parallel()
	for name, policy := range map[string]string{
		"retry": "retry: {attempts: 3, codes: [UNAVAILABLE]}",
		"hedge": "hedge: {delay: 1ms, budget: {percent: 100, min: 10}}",
	} {
		t.Run(name, func(t *testing.T) {
			server := testbed.NewH2Server(t)
			proxy := testbed.NewProxy(t, testbed.RouteWith(server.Addr, policy))
			cs := testbed.DialH2(t, proxy.Addr).Open(t, testbed.RequestFields("via", "1.1 edge"))
			cs.SendEnd(testbed.Frame(text("hello")))
			for range 2 {
				ss := server.Accept(t)
				require.Equal(t, []string{"1.1 edge", "2 framegate"}, ss.ReadHeaders().Values("via"))
				if name == "retry" {
					ss.SendTrailers(append(testbed.ResponseFields(), testbed.StatusFields(14, "")...))
				}
			}
		})
	}
}

func TestVia_TooManyHopsAreRefused(t *testing.T) {
	t.Parallel()
	eachRoutes(t, func(t *testing.T, routes routesTo) {
		for name, c := range map[string]struct {
			max  int
			via  string
			loop bool
		}{
			"as many as may be":         {8, ours(8), false},
			"one more":                  {8, ours(9), true},
			"in several lines, others":  {2, "2 framegate, 1.1 edge, 2 framegate (x), 2 framegate", true},
			"others do not count":       {1, "2 other, 2 other, 2 other, 2 framegate", false},
			"a bound of another number": {1, ours(2), true},
			"turned off":                {0, ours(50), false},
		} {
			t.Run(name, func(t *testing.T) {
				server := testbed.NewH2Server(t)
				proxy := testbed.NewProxy(t, routes(t, server.Addr), maxHops(c.max))
				cs := testbed.DialH2(t, proxy.Addr).Open(t, testbed.RequestFields("via", c.via))
				_ = cs.TrySendEnd(testbed.Frame(text("hello")))
				if c.loop {
					o := cs.Outcome()
					wantLocal(t, o, 13, "loop_detected")
					require.Equal(t, "-1", o.Trailers.Get("grpc-retry-pushback-ms"))
					require.Zero(t, server.Unaccepted())
					return
				}
				got := server.Accept(t).ReadHeaders().Values("via")
				if c.max == 0 {
					require.Equal(t, []string{c.via}, got, "nothing is added")
				} else {
					require.Equal(t, []string{c.via, "2 framegate"}, got)
				}
			})
		}
	})
}

// Framegates whose routes lead to each other, or to themselves, hand a call on a few times and then end it, also where
// their routes try again what fails.
func TestVia_LoopsEnd(t *testing.T) {
	t.Parallel()
	for name, policy := range map[string]string{"plain": "", "retry": "retry: {attempts: 5, codes: [INTERNAL, UNAVAILABLE], budget: {percent: 100, min: 1000}}"} {
		for _, gateways := range []int{1, 2} {
			t.Run(fmt.Sprintf("%s, %d", name, gateways), func(t *testing.T) {
				var proxies []*testbed.Proxy
				relays := make([]relay, gateways) // to each: an address that no framegate knows for its own
				for i := range relays {
					relays[i] = newRelay(t)
				}
				for i := range relays {
					p := testbed.NewProxy(t, testbed.RouteWith(relays[(i+1)%gateways].addr, policy), testbed.Admin())
					relays[i].to <- p.Addr
					proxies = append(proxies, p)
				}
				cs := testbed.DialH2(t, proxies[0].Addr).Open(t, testbed.RequestFields("grpc-timeout", "30S"))
				_ = cs.TrySendEnd(testbed.Frame(text("hello")))
				o := cs.Outcome()
				wantLocal(t, o, 13, "loop_detected")
				testbed.Poll(t, func() error { // 10 arrive: with 0 to 9 framegates in via
					sum := 0
					for _, p := range proxies {
						sum += callsOf(t, p)
					}
					if sum != 10 {
						return fmt.Errorf("%d calls, want 10", sum)
					}
					return nil
				})
			})
		}
	}
}

// relay hands connections on to the address that it is given.
type relay struct {
	addr string
	to   chan string
}

func newRelay(t *testing.T) relay {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	r := relay{ln.Addr().String(), make(chan string, 1)}
	var conns sync.WaitGroup
	conns.Go(func() {
		to := ""
		for {
			in, err := ln.Accept()
			if err != nil {
				return
			}
			if to == "" {
				to = <-r.to
			}
			out, err := net.Dial("tcp", to)
			if err != nil {
				in.Close()
				continue
			}
			for _, pair := range [][2]net.Conn{{in, out}, {out, in}} {
				conns.Go(func() {
					_, _ = io.Copy(pair[0], pair[1])
					pair[0].Close()
					pair[1].Close()
				})
			}
		}
	})
	t.Cleanup(func() { // after the framegates have ended, and with them the connections
		ln.Close()
		conns.Wait()
	})
	return r
}

// callsOf returns how many calls of the route "all" have ended.
func callsOf(t *testing.T, p *testbed.Proxy) (sum int) {
	t.Helper()
	for _, m := range regexp.MustCompile(`(?m)^framegate_calls_total\{.*\} (\d+)$`).FindAllStringSubmatch(scraped(t, p), -1) {
		n, err := strconv.Atoi(m[1])
		require.NoError(t, err)
		sum += n
	}
	return sum
}
