package pool

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"

	"github.com/framegate/framegate/pool/policy"
	"github.com/framegate/framegate/test/refusing"
)

func silent(s *server) { s.begin = func(*serverConn) {} }

func TestDial_EndpointThatSaysNothing(t *testing.T) {
	t.Parallel()
	const timeout = 200 * time.Millisecond
	server := startServer(t, silent)
	p := newPool(t, func(c *Config) { c.ConnectTimeout = timeout })
	got := receive(t, "the end of Open", goOpen(t.Context(), p, server.addr))
	requireDialError(t, got, server.addr, timeout)
	require.GreaterOrEqual(t, got.took, timeout)
	receive(t, "the end of the connection", receive(t, "a connection", server.accepted).ended)
	eventually(t, "no connection", func() bool { return p.Stats().Connections == 0 })
}

func TestDial_EndpointThatSpeaksHTTP1(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.NotFoundHandler())
	defer server.Close()
	p := newPool(t, nil)
	addr := strings.TrimPrefix(server.URL, "http://")
	got := receive(t, "the end of Open", goOpen(t.Context(), p, addr))
	requireDialError(t, got, addr, time.Second)
	require.ErrorContains(t, got.err, "HTTP/2")
	eventually(t, "no connection", func() bool { return p.Stats().Connections == 0 })
}

func TestDial_EndpointThatHangsUp(t *testing.T) {
	t.Parallel()
	server := startServer(t, func(s *server) { s.begin = (*serverConn).kill })
	p := newPool(t, nil)
	got := receive(t, "the end of Open", goOpen(t.Context(), p, server.addr))
	requireDialError(t, got, server.addr, time.Second)
	eventually(t, "no connection", func() bool { return p.Stats().Connections == 0 })
}

func TestDial_RefusedPort(t *testing.T) {
	t.Parallel()
	p := newPool(t, nil)
	for addr, want := range map[string]string{
		refusing.Address(t):          "refused",
		"unix:" + t.TempDir() + "/x": "no such file",
		"no-port":                    "missing port",
	} {
		got := receive(t, "the end of Open", goOpen(t.Context(), p, addr))
		requireDialError(t, got, addr, 0)
		require.ErrorContains(t, got.err, want)
		require.ErrorContains(t, got.err, addr)
	}
}

func TestDial_UnixSocket(t *testing.T) {
	t.Parallel()
	server := startServer(t, func(s *server) {
		s.network = "unix"
		s.onHeaders = func(c *serverConn, stream uint32) { c.finish(stream) }
	})
	p := newPool(t, nil)
	s := open(t, p, server.addr)
	defer s.Close()
	_, err := s.Header()
	require.NoError(t, err)
	require.Equal(t, server.addr, s.Address())
}

func TestDial_DeadEndpointHoldsUpNoOther(t *testing.T) {
	t.Parallel()
	dead, alive := startServer(t, silent), startServer(t, nil)
	p := newPool(t, nil)
	stuck := goOpen(t.Context(), p, dead.addr)
	waiting(t, p, dead.addr, 1)
	got := receive(t, "an open", goOpen(t.Context(), p, alive.addr))
	require.NoError(t, got.err)
	require.Less(t, got.took, patience/2)
	p.Close()
	require.Error(t, receive(t, "the end of Open", stuck).err)
}

// A call that waits for a slot must not wait on when its connection is gone and there can be no other.
func TestDial_AllWhoWaitHearThatTheEndpointIsGone(t *testing.T) {
	t.Parallel()
	server := startServer(t, func(s *server) { s.first = maxStreams(1) })
	p := newPool(t, func(c *Config) { c.Connections.Max, c.WhenFull = 1, policy.WhenFullWait })
	open(t, p, server.addr) // and not closed: it frees no slot
	var results []<-chan opened
	for range 10 {
		results = append(results, goOpen(t.Context(), p, server.addr))
	}
	waiting(t, p, server.addr, 10)
	require.NoError(t, server.ln.Close())
	start := time.Now()
	receive(t, "a connection", server.accepted).kill()
	for _, r := range results {
		got := receive(t, "the end of Open", r)
		requireDialError(t, got, server.addr, patience)
	}
	require.Less(t, time.Since(start), patience/2)
}

// An endpoint that takes connections only to end them must not be dialled again and again by one call.
func TestDial_EndpointThatGoesAwayAtOnce(t *testing.T) {
	t.Parallel()
	for name, begin := range map[string]func(c *serverConn){
		"GOAWAY": func(c *serverConn) {
			c.settings()
			c.goAway(0)
		},
		"GOAWAY in one segment": func(c *serverConn) {
			_, _ = c.nc.Write([]byte("\x00\x00\x00\x04\x00\x00\x00\x00\x00" + "\x00\x00\x08\x07\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"))
		},
		"close": func(c *serverConn) {
			c.settings()
			_ = c.nc.Close()
		},
	} {
		t.Run(name, func(t *testing.T) {
			server := startServer(t, func(s *server) { s.begin = begin })
			p := newPool(t, func(c *Config) { c.ConnectTimeout = time.Second })
			got := receive(t, "the end of Open", goOpen(t.Context(), p, server.addr))
			if got.err == nil { // it was faster than the end, and hears of it now
				require.Error(t, ends(t, got.stream))
				got.stream.Close()
			} else {
				requireDialError(t, got, server.addr, time.Second)
			}
			require.LessOrEqual(t, server.accepts.Load(), int64(10))
		})
	}
}

// ConnectTimeout bounds Reopen as a whole, also when its own dial and then another fail.
func TestDial_ReopenIsBoundedOnce(t *testing.T) {
	t.Parallel()
	const timeout = 3 * time.Second
	server := startServer(t, func(s *server) {
		s.begin = func(c *serverConn) {
			if s.accepts.Load() <= 1 {
				c.settings()
			}
		}
	})
	p := newPool(t, func(c *Config) { c.ConnectTimeout = timeout })
	s := open(t, p, server.addr)
	c := receive(t, "a connection", server.accepted)
	receive(t, "a stream", c.streams)
	c.goAway(0)
	require.Error(t, ends(t, s))
	require.True(t, s.Unprocessed())
	start := time.Now()
	_, err := reopen(t.Context(), p, s)
	took := time.Since(start)
	var d *DialError
	require.ErrorAs(t, err, &d)
	require.Less(t, took, timeout+timeout/2)
	s.Close()
}

// A connection whose dial took its time is as good as any.
func TestDial_SlowEndpoint(t *testing.T) {
	t.Parallel()
	const timeout, slow = patience, 200 * time.Millisecond
	release := make(chan struct{})
	server := startServer(t, func(s *server) {
		s.begin = func(c *serverConn) {
			<-release
			c.settings(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 10})
		}
	})
	p := newPool(t, func(c *Config) { c.ConnectTimeout = timeout })
	result := goOpen(t.Context(), p, server.addr)
	receive(t, "a connection", server.accepted)
	time.AfterFunc(slow, func() { close(release) })
	got := receive(t, "an open", result)
	require.NoError(t, got.err)
	require.GreaterOrEqual(t, got.took, slow)
	require.EqualValues(t, 1, server.accepts.Load())
}
