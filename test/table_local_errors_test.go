package test

import (
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"

	"github.com/framegate/framegate/test/refusing"
	"github.com/framegate/framegate/test/testbed"
)

const connectTimeout = 500 * time.Millisecond

// silentAddr is an address that accepts connections and says nothing on them.
func silentAddr(t testing.TB) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { ln.Close() })
	return ln.Addr().String()
}

func TestLocalErrors(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		routes func(t testing.TB) string
		code   int
		reason string
	}{
		{"no route at all", func(testing.TB) string { return "routes: []" }, 12, "no_route"},
		{"no route for the method", func(t testing.TB) string {
			return fmt.Sprintf("routes: [{name: other, match: [{method: /test.Raw/Other}], backends: [{endpoints: [{address: %q}]}]}]", refusing.Address(t))
		}, 12, "no_route"},
		{"no route on the listener", func(t testing.TB) string {
			return testbed.RouteWith(refusing.Address(t), "listeners: [other]")
		}, 12, "no_route"},
		{"no endpoint that may be used", func(t testing.TB) string {
			return fmt.Sprintf("routes: [{name: drained, match: [{method: \"*\"}], backends: [{weight: 0, endpoints: [{address: %q}]}]}]", refusing.Address(t))
		}, 14, "no_endpoint"},
		{"nothing listens", func(t testing.TB) string { return testbed.RouteTo(refusing.Address(t)) }, 14, "connect_failed"},
		{"no such socket", func(t testing.TB) string { return testbed.RouteTo("unix:" + t.TempDir() + "/none") }, 14, "connect_failed"},
		{"no such host", func(testing.TB) string { return testbed.RouteTo("no-such-host.invalid:1") }, 14, "no_endpoint"},
		{"upstream says nothing", func(t testing.TB) string { return testbed.RouteTo(silentAddr(t)) }, 14, "connect_failed"},
		{"upstream hangs up", func(t testing.TB) string { return testbed.RouteTo(hangUpAddr(t)) }, 14, "connect_failed"},
		{"upstream allows no streams", func(t testing.TB) string {
			return testbed.RouteTo(testbed.NewH2Server(t, testbed.Settings(noStreams)).Addr)
		}, 14, "connect_failed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			proxy := testbed.NewProxy(t, c.routes(t), testbed.ConnectTimeout(connectTimeout))
			for kind, request := range map[string]func(*testbed.H2Conn) *testbed.H2Stream{
				"open request": func(h *testbed.H2Conn) *testbed.H2Stream { return h.Open(t, testbed.RequestFields()) },
				"whole request": func(h *testbed.H2Conn) *testbed.H2Stream {
					s := h.Open(t, testbed.RequestFields())
					_ = s.TrySendEnd(testbed.Frame([]byte("request"))) // the answer may be faster
					return s
				},
			} {
				o := request(testbed.DialH2(t, proxy.Addr)).Outcome()
				wantLocal(t, o, c.code, c.reason)
				require.True(t, o.TrailersOnly(), "%s: trailers-only; got %s", kind, o)
			}
		})
	}
}

// hangUpAddr is an address that closes each connection at once.
func hangUpAddr(t testing.TB) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			nc.Close()
		}
	}()
	t.Cleanup(func() {
		ln.Close()
		<-done
	})
	return ln.Addr().String()
}

// noStreams is the setting of a server that lets clients open no stream.
var noStreams = http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 0}
