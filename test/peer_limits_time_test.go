package test

import (
	"errors"
	"io"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"

	"github.com/framegate/framegate/conf"
	"github.com/framegate/framegate/relay/h2"
	"github.com/framegate/framegate/test/testbed"
)

// deaf is a peer that reads nothing unless a test reads for it.
type deaf struct{ *net.TCPConn }

// dialDeaf connects to a framegate, with a buffer that is soon full.
func dialDeaf(t *testing.T, addr string) deaf {
	t.Helper()
	nc, err := net.Dial("tcp", addr)
	require.NoError(t, err)
	return newDeaf(t, nc)
}

func newDeaf(t *testing.T, nc net.Conn) deaf {
	t.Helper()
	t.Cleanup(func() { _ = nc.Close() })
	tcp := nc.(*net.TCPConn)
	require.NoError(t, tcp.SetReadBuffer(4<<10))
	return deaf{tcp}
}

// awaitCall reads what an endpoint gets until the headers of a call have come.
func (d deaf) awaitCall(t *testing.T) {
	t.Helper()
	_, err := io.CopyN(io.Discard, d, int64(len(http2.ClientPreface)))
	require.NoError(t, err)
	fr := http2.NewFramer(io.Discard, d)
	for {
		f, err := fr.ReadFrame()
		require.NoError(t, err)
		if _, ok := f.(*http2.HeadersFrame); ok {
			return
		}
	}
}

// deafEndpoint returns the address of an endpoint and the first connection to it, when there is one.
func deafEndpoint(t *testing.T) (addr string, accepted <-chan net.Conn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = ln.Close() })
	conns := make(chan net.Conn, 1)
	go func() {
		defer close(conns)
		if nc, err := ln.Accept(); err == nil {
			conns <- nc
		}
	}()
	return ln.Addr().String(), conns
}

// lastWords returns the GOAWAY that comes before the connection ends.
func (d deaf) lastWords(t *testing.T) (code http2.ErrCode, reason string) {
	t.Helper()
	require.NoError(t, d.SetReadDeadline(time.Now().Add(testbed.Patience)))
	for fr := http2.NewFramer(io.Discard, d); ; {
		f, err := fr.ReadFrame()
		if err != nil {
			require.ErrorIs(t, err, io.EOF)
			return code, reason
		}
		if g, ok := f.(*http2.GoAwayFrame); ok {
			code, reason = g.ErrCode, string(g.DebugData())
		}
	}
}

// ask makes framegate answer with 9 MB of acknowledgements of SETTINGS, which the sockets do not take, unless it ends the connection
// before.
func (d deaf) ask() {
	const once = 1 << 12
	settings := slices.Repeat(framesOf(func(fr *http2.Framer) { _ = fr.WriteSettings() }), once)
	for range unlimited.Burst/once - 1 {
		_ = d.SetWriteDeadline(time.Now().Add(testbed.Patience))
		if _, err := d.Write(settings); err != nil {
			return
		}
	}
}

// unlimited lets a peer ask for more than it reads.
var unlimited = h2.Rate{Burst: 1 << 20, PerSecond: 1}

var (
	clientGreeting = append([]byte(http2.ClientPreface), endpointGreeting...)

	endpointGreeting = framesOf(func(fr *http2.Framer) {
		_ = fr.WriteSettings()
		_ = fr.WriteSettingsAck()
	})
)

// unread are the limits of a peer that does not read, and the reasons.
var unread = map[string]func(l *h2.Limits){
	"not_reading":   func(l *h2.Limits) { l.Settings, l.UnreadBytes = unlimited, 128<<10 },
	"write_timeout": func(l *h2.Limits) { l.Settings, l.UnreadBytes, l.WriteTimeout = unlimited, 1<<30, time.Millisecond },
}

func TestPeerLimits_ClientThatDoesNotRead(t *testing.T) {
	t.Parallel()
	for reason, limit := range unread {
		t.Run(reason, func(t *testing.T) {
			t.Parallel()
			_, proxy := limitedPair(t, func(c *conf.Config) { limit(&c.Listeners[0].PeerLimits.Limits) })
			d := dialDeaf(t, proxy.Addr)
			_, err := d.Write(clientGreeting)
			require.NoError(t, err)
			d.ask()
			wantCounted(t, proxy, clientsAway(reason))
		})
	}
}

func TestPeerLimits_EndpointThatDoesNotRead(t *testing.T) {
	t.Parallel()
	for reason, limit := range unread {
		t.Run(reason, func(t *testing.T) {
			t.Parallel()
			addr, accepted := deafEndpoint(t)
			proxy := testbed.NewProxy(t, testbed.RouteTo(addr), testbed.Admin(), testbed.On(conf.DataPlaneRelay), func(c *conf.Config) { limit(&c.Upstream.PeerLimits) })
			cs := testbed.DialH2(t, proxy.Addr).Open(t, testbed.RequestFields())
			d := newDeaf(t, testbed.Await(t, accepted, "a connection at the endpoint"))
			_, err := d.Write(endpointGreeting)
			require.NoError(t, err)
			d.awaitCall(t)
			d.ask()
			wantLocal(t, cs.Outcome(), 14, "upstream_reset")
			wantCounted(t, proxy, endpointsAway(reason))
		})
	}
}

func TestPeerLimits_HandshakeOfClients(t *testing.T) {
	t.Parallel()
	for name, sent := range map[string][]byte{
		"nothing": nil, "half a preface": []byte(http2.ClientPreface[:12]), "no SETTINGS": []byte(http2.ClientPreface),
		"no acknowledgement": append([]byte(http2.ClientPreface), framesOf(func(fr *http2.Framer) { _ = fr.WriteSettings() })...),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := testbed.NewH2Server(t)
			proxy := testbed.NewProxy(t, testbed.RouteTo(server.Addr), testbed.Admin(), testbed.On(conf.DataPlaneRelay), onListener(func(l *conf.Listener) {
				l.PeerLimits.HandshakeTimeout = 50 * time.Millisecond
			}))
			d := dialDeaf(t, proxy.Addr)
			_, err := d.Write(sent)
			require.NoError(t, err)
			code, reason := d.lastWords(t)
			require.Equal(t, []any{http2.ErrCodeSettingsTimeout, "handshake_timeout"}, []any{code, reason})
			wantCounted(t, proxy, clientsAway("handshake_timeout"))
		})
	}
}

func TestPeerLimits_HandshakeOfEndpoints(t *testing.T) {
	t.Parallel()
	settings := framesOf(func(fr *http2.Framer) { _ = fr.WriteSettings() })
	short := func(c *conf.Config) { c.Upstream.PeerLimits.HandshakeTimeout = 50 * time.Millisecond }
	for name, x := range map[string]struct {
		sent   []byte
		limit  func(c *conf.Config)
		reason string // of the call's end
	}{
		"no SETTINGS":                    {nil, short, "connect_failed"},
		"no SETTINGS in connect_timeout": {nil, func(c *conf.Config) { c.Upstream.ConnectTimeout = 50 * time.Millisecond }, "connect_failed"},
		"no acknowledgement":             {settings, func(c *conf.Config) { c.Upstream.PeerLimits.HandshakeTimeout = time.Second }, "upstream_reset"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			addr, accepted := deafEndpoint(t)
			proxy := testbed.NewProxy(t, testbed.RouteTo(addr), testbed.Admin(), testbed.On(conf.DataPlaneRelay), x.limit)
			cs := testbed.DialH2(t, proxy.Addr).Open(t, testbed.RequestFields())
			nc := testbed.Await(t, accepted, "a connection at the endpoint")
			t.Cleanup(func() { _ = nc.Close() })
			_, err := nc.Write(x.sent)
			require.NoError(t, err)
			wantLocal(t, cs.Outcome(), 14, x.reason)
			wantCounted(t, proxy, endpointsAway("handshake_timeout"))
			_, err = io.Copy(io.Discard, nc)
			require.True(t, err == nil || errors.Is(err, net.ErrClosed), "%v", err)
		})
	}
}
