package test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health/grpc_health_v1"

	"github.com/framegate/framegate/conf"
	"github.com/framegate/framegate/test/testbed"
)

// onListener changes the listener of a proxy.
func onListener(change func(l *conf.Listener)) testbed.ProxyOption {
	return func(c *conf.Config) { change(&c.Listeners[0]) }
}

// closedBy returns how a connection ends that says nothing, and fails the test when it does not.
func closedBy(t *testing.T, nc net.Conn) error {
	t.Helper()
	require.NoError(t, nc.SetReadDeadline(time.Now().Add(testbed.Patience)))
	_, err := io.Copy(io.Discard, nc)
	require.False(t, errors.Is(err, os.ErrDeadlineExceeded), "the connection is still open")
	return err
}

func TestLimits_ConnectionOverTheBoundIsClosedAtOnce(t *testing.T) {
	const most = 3
	server := testbed.NewH2Server(t)
	proxy := testbed.NewProxy(t, testbed.RouteTo(server.Addr), testbed.Admin(), onListener(func(l *conf.Listener) { l.MaxConnections = most }))
	clients := make([]rawPair, most)
	for i := range clients {
		clients[i] = rawPair{client: testbed.DialH2(t, proxy.Addr), server: server}
		clients[i].finish(t)
	}
	for range 10 {
		begin := time.Now()
		if nc, err := net.Dial("tcp", proxy.Addr); err == nil { // the reset may come before connect is through
			_ = closedBy(t, nc)
			require.NoError(t, nc.Close())
		}
		require.Less(t, time.Since(begin), time.Second)
	}
	for _, p := range clients {
		p.finish(t) // nothing else suffers
	}
	wantMetrics(t, proxy, `framegate_listener_refused_connections_total{listener="main"} 10`, `framegate_listener_connections{listener="main"} 3`)

	clients[0].client.Close() // makes room
	testbed.Poll(t, func() error {
		return healthy(t, proxy.Addr)
	})
}

// finish makes one call from its beginning to its end.
func (p rawPair) finish(t *testing.T) {
	t.Helper()
	cs, ss, _ := p.open(t, testbed.RequestFields())
	p.complete(t, cs, ss)
}

// complete ends a call that is open.
func (p rawPair) complete(t *testing.T, cs, ss *testbed.H2Stream) {
	t.Helper()
	cs.SendEnd(testbed.Frame([]byte("request")))
	ss.WantMessage("request")
	ss.SendHeaders(testbed.ResponseFields())
	ss.SendTrailers(testbed.StatusFields(0, ""))
	wantUpstream(t, cs.Outcome(), 0, "")
}

func TestLimits_CallOverTheBoundIsRefusedAtOnce(t *testing.T) {
	const most, refused = 4, 101
	server := testbed.NewH2Server(t)
	proxy := testbed.NewProxy(t, testbed.RouteTo(server.Addr), testbed.Admin(), onListener(func(l *conf.Listener) { l.MaxCalls = most }))
	first := rawPair{client: testbed.DialH2(t, proxy.Addr), server: server}
	second := rawPair{client: testbed.DialH2(t, proxy.Addr), server: server}
	var open [][2]*testbed.H2Stream
	for range most {
		cs, ss, _ := first.open(t, testbed.RequestFields())
		open = append(open, [2]*testbed.H2Stream{cs, ss})
	}
	var took []time.Duration
	for i := range refused {
		p := []rawPair{first, second}[i%2]
		begin := time.Now()
		o := p.client.Open(t, testbed.RequestFields()).Outcome()
		took = append(took, time.Since(begin))
		wantLocal(t, o, 8, "overloaded")
		require.Equal(t, "1000", o.Trailers.Get("grpc-retry-pushback-ms"))
		require.Equal(t, "framegate: the listener has as many calls as it takes", o.Message())
	}
	slices.Sort(took)
	require.Less(t, took[0], atOnce)
	t.Logf("refused after %s (median), %s (longest)", took[len(took)/2], took[len(took)-1])
	require.Equal(t, most, proxy.UpstreamStreams(), "no upstream is touched")
	wantMetrics(t, proxy,
		fmt.Sprintf(`framegate_listener_refused_calls_total{listener="main"} %d`, refused),
		fmt.Sprintf(`framegate_listener_calls{listener="main"} %d`, most))

	// A probe must tell whether this server lives, however busy it is.
	require.NoError(t, healthy(t, proxy.Addr))

	first.complete(t, open[0][0], open[0][1]) // makes room
	testbed.Poll(t, func() error {
		cs := second.client.Open(t, testbed.RequestFields())
		ss, o := server.AcceptUnless(t, cs)
		if ss == nil {
			return fmt.Errorf("refused: %v", o)
		}
		second.complete(t, cs, ss)
		return nil
	})
}

// Calls that come together are counted one by one, and those that are too many where it costs least: the metric of calls
// that a handler had to refuse stays away.
func TestLimits_BurstOfCallsGetsNoMoreThanTheBound(t *testing.T) {
	const most, burst = 10, 500
	server := testbed.NewH2Server(t)
	proxy := testbed.NewProxy(t, testbed.RouteTo(server.Addr), testbed.Admin(), onListener(func(l *conf.Listener) { l.MaxCalls = most }))
	nc, ends := sendAtOnce(t, proxy.Addr, func(fr *http2.Framer) {
		for i := range burst {
			require.NoError(t, fr.WriteHeaders(http2.HeadersFrameParam{StreamID: uint32(2*i + 1), EndHeaders: true, BlockFragment: testbed.HeaderBlock(testbed.RequestFields())}))
		}
	})
	for range most {
		server.Accept(t)
	}
	for refused := 0; refused < burst-most; {
		require.NoError(t, nc.SetReadDeadline(time.Now().Add(testbed.Patience)))
		f, err := ends.ReadFrame()
		require.NoError(t, err, "after %d", refused)
		if h, ok := f.(*http2.HeadersFrame); ok && h.StreamEnded() {
			refused++
		}
	}
	require.Equal(t, most, proxy.UpstreamStreams())
	wantMetrics(t, proxy, fmt.Sprintf(`framegate_listener_refused_calls_total{listener="main"} %d`, burst-most))
	require.NotContains(t, scraped(t, proxy), "framegate_overloaded_total")
}

// A refused call whose request ends in the same breath, as that of a unary call does, is not reset as well; one whose request goes on
// is (RFC 9113 §8.1).
func TestLimits_RefusedCallIsResetIfItsRequestGoesOn(t *testing.T) {
	t.Parallel()
	server := testbed.NewH2Server(t)
	proxy := testbed.NewProxy(t, testbed.RouteTo(server.Addr), testbed.On(conf.DataPlaneRelay), onListener(func(l *conf.Listener) { l.MaxCalls = 1 }))
	p := rawPair{client: testbed.DialH2(t, proxy.Addr), server: server}
	p.open(t, testbed.RequestFields())
	const calls = 10
	want := map[uint32]bool{}
	nc, fr := sendAtOnce(t, proxy.Addr, func(fr *http2.Framer) {
		for i := range calls {
			id := uint32(2*i + 1)
			require.NoError(t, fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, EndHeaders: true, BlockFragment: testbed.HeaderBlock(testbed.RequestFields())}))
			if i%3 > 0 {
				require.NoError(t, fr.WriteData(id, i%3 == 1, testbed.Frame([]byte("message"))))
			}
			if i%3 != 1 {
				want[id] = true
			}
		}
	})
	require.NoError(t, nc.SetDeadline(time.Now().Add(testbed.Patience)))
	reset := map[uint32]bool{}
	for ended := 0; ; {
		f, err := fr.ReadFrame()
		require.NoError(t, err)
		switch f := f.(type) {
		case *http2.HeadersFrame:
			require.True(t, f.StreamEnded())
			if ended++; ended == calls {
				require.NoError(t, fr.WritePing(false, [8]byte{}))
			}
		case *http2.RSTStreamFrame:
			require.Equal(t, http2.ErrCodeNo, f.ErrCode)
			reset[f.StreamID] = true
		case *http2.PingFrame:
			require.Equal(t, want, reset)
			return
		}
	}
}

// What is counted when it comes in is counted off when it ends, whatever became of it meanwhile and whoever ended it.
func TestLimits_OddCallsAreNotCountedForEver(t *testing.T) {
	t.Parallel()
	const most, rounds = 3, 20
	server := testbed.ServeH2(t, func(st *testbed.H2Stream) func() {
		return func() {
			_ = st.TryHeaders(testbed.ResponseFields())
			_ = st.TryTrailers(testbed.StatusFields(0, ""))
		}
	})
	proxy := testbed.NewProxy(t, testbed.RouteTo(server.Addr), testbed.Admin(), onListener(func(l *conf.Listener) { l.MaxCalls = most }))
	to := func(path string) testbed.Fields { return testbed.RequestFields().Replace(":path", path) }
	for name, odd := range map[string]testbed.Fields{
		"no service":               to("/Method"),
		"nothing":                  to("/"),
		"no method":                to("/s.S/"),
		"no first slash":           to("s.S/Method"),
		"two first slashes":        to("//Method"),
		"own service":              to("/grpc.health.v1.Health/Check"),
		"own service, no slash":    to("grpc.health.v1.Health/Check"),
		"own service, watched":     to("grpc.health.v1.Health/Watch"),
		"own service, two slashes": to("//grpc.health.v1.Health/Check"),
		"own service, no method":   to("/grpc.health.v1.Health/No"),
		"no service of ours":       to("/grpc.health.v1.No/Check"),
		"own name, not ours":       to("/my.shop.Health/Check"),
		"own name, without a dot":  to("/Health/Watch"),
		"deadline that has passed": testbed.RequestFields("grpc-timeout", "1n"),
		"bad deadline":             testbed.RequestFields("grpc-timeout", "soon"),
		"unknown codec":            testbed.RequestFields().Replace("content-type", "application/grpc+no"),
	} {
		t.Run(name, func(t *testing.T) {
			for range rounds {
				client := testbed.DialH2(t, proxy.Addr)
				for range most + 1 { // the last is one too many, if they are counted
					cs := client.Open(t, odd)
					_ = cs.TrySendEnd(testbed.Frame(nil))
				}
				_ = client.Open(t, odd).TryReset(http2.ErrCodeCancel)
				client.Open(t, odd)
				client.Close()
			}
			wantMetrics(t, proxy, `framegate_listener_calls{listener="main"} 0`)
			require.NoError(t, healthy(t, proxy.Addr))
		})
	}
}

// scraped returns the metrics of a proxy with an admin server.
func scraped(t *testing.T, proxy *testbed.Proxy) string {
	t.Helper()
	return answerOfAdmin(t, http.MethodGet, proxy.Admin()+"/metrics", "", http.StatusOK)
}

// wantMetrics waits until the metrics have the lines: what ends a call or a connection may be seen before it is counted.
func wantMetrics(t *testing.T, proxy *testbed.Proxy, lines ...string) {
	t.Helper()
	testbed.Poll(t, func() error {
		metrics := "\n" + scraped(t, proxy)
		for _, line := range lines {
			if !strings.Contains(metrics, "\n"+line+"\n") {
				name, _, _ := strings.Cut(line, "{")
				return fmt.Errorf("no %s, but\n%s", line, strings.Join(regexp.MustCompile(`(?m)^`+name+`.*`).FindAllString(metrics, -1), "\n"))
			}
		}
		return nil
	})
}

// healthy asks for the health of a server on a connection of its own.
func healthy(t *testing.T, addr string) error {
	cc := testbed.DialGRPC(t, addr, grpc.WithDefaultCallOptions(grpc.ForceCodec(testbed.ProtoCodec{})))
	defer cc.Close()
	answer, err := grpc_health_v1.NewHealthClient(cc).Check(patient(t), &grpc_health_v1.HealthCheckRequest{})
	if err == nil && answer.Status != grpc_health_v1.HealthCheckResponse_SERVING {
		return fmt.Errorf("health: %s", answer.Status)
	}
	return err
}
