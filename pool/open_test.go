package pool

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"

	"github.com/framegate/framegate/pool/policy"
	"github.com/framegate/framegate/pool/transport"
)

func TestOpen_ConcurrentCallsDialOnce(t *testing.T) {
	t.Parallel()
	const calls = 150
	server := startServer(t, nil)
	p := newPool(t, nil)
	var results []<-chan opened
	for range calls {
		results = append(results, goOpen(t.Context(), p, server.addr))
	}
	var streams []*Stream
	for _, r := range results {
		got := receive(t, "an open", r)
		require.NoError(t, got.err)
		streams = append(streams, got.stream)
	}
	require.Equal(t, Stats{Endpoints: 1, Connections: 1, Streams: calls}, p.Stats())
	for _, s := range streams {
		s.Close()
	}
	require.Equal(t, Stats{Endpoints: 1, Connections: 1}, p.Stats())
	require.EqualValues(t, 1, server.accepts.Load())
}

// usable polls until an endpoint has n connections in use.
func usable(t *testing.T, p *Pool, addr string, n int) []*conn {
	t.Helper()
	var conns []*conn
	eventually(t, "connections in use", func() bool {
		if e, ok := p.Default().endpoints.Load(addr); ok {
			conns = *e.(*endpoint).usable.Load()
		}
		return len(conns) == n
	})
	return conns
}

// A further connection is made in the background when three quarters of the streams are in use, up to MaxConnections.
func TestOpen_GrowsBeforeCallsMustWait(t *testing.T) {
	t.Parallel()
	const perConn, most = 8, 3
	server := startServer(t, nil)
	p := newPool(t, func(c *Config) { c.StreamsPerConnection, c.Connections.Max = perConn, most })
	for n := 1; n < most; n++ {
		for range 5 {
			open(t, p, server.addr)
		}
		conns := usable(t, p, server.addr, n)
		require.Equal(t, 5, conns[n-1].Streams())
		require.EqualValues(t, n, server.accepts.Load(), "with room for %d streams, 5 need no other connection", perConn)
		open(t, p, server.addr) // the sixth has a further one made for those after it
		require.Equal(t, 6, conns[n-1].Streams())
		usable(t, p, server.addr, n+1)
	}
	for i := range most*perConn - 6*(most-1) {
		got := receive(t, "an open", goOpen(t.Context(), p, server.addr, OpenOptions{Wait: func() (func(), bool) {
			t.Errorf("call %d had to wait", i)
			return nil, false
		}}))
		require.NoError(t, got.err)
	}
	require.EqualValues(t, most, server.accepts.Load())
	require.Equal(t, Stats{Endpoints: 1, Connections: most, Streams: most * perConn}, p.Stats())
}

func TestOpen_PrefersTheLeastLoaded(t *testing.T) {
	t.Parallel()
	server := startServer(t, nil)
	p := newPool(t, func(c *Config) { c.Connections.Min, c.Connections.Max = 3, 3 })
	open(t, p, server.addr).Close()
	usable(t, p, server.addr, 3)
	streams := map[*conn][]*Stream{}
	for range 30 {
		s := open(t, p, server.addr)
		streams[s.conn] = append(streams[s.conn], s)
	}
	require.Len(t, streams, 3)
	for c, list := range streams {
		require.Len(t, list, 10)
		require.Equal(t, 10, c.Streams())
	}
	for c, list := range streams {
		for _, s := range list[:4] {
			s.Close()
		}
		for range 4 {
			require.Same(t, c, open(t, p, server.addr).conn)
		}
	}
}

func TestOpen_HeadersBeyondTheEndpointsLimit(t *testing.T) {
	t.Parallel()
	server := startServer(t, func(s *server) {
		s.first = []http2.Setting{{ID: http2.SettingMaxHeaderListSize, Val: 2000}}
	})
	p := newPool(t, nil)
	big := *hdr
	big.Metadata = map[string][]string{"x-big": {strings.Repeat("x", 3000)}}
	for range 20 { // the first call of all too
		_, err := p.Default().Open(t.Context(), server.addr, &big, OpenOptions{})
		var headerErr *transport.HeaderError
		require.ErrorAs(t, err, &headerErr)
		require.ErrorContains(t, err, "header list size")
	}
	require.Equal(t, Stats{Endpoints: 1, Connections: 1}, p.Stats(), "the slots must be given back")
	open(t, p, server.addr).Close() // the connection goes on
	require.EqualValues(t, 1, server.accepts.Load())
}

func TestOpen_ContextEndsReturnAtOnce(t *testing.T) {
	t.Parallel()
	for name, server := range map[string]*server{
		"while it dials":            startServer(t, func(s *server) { s.begin = func(*serverConn) {} }),
		"while it waits for a slot": startServer(t, func(s *server) { s.first = maxStreams(1) }),
	} {
		t.Run(name, func(t *testing.T) {
			p := newPool(t, func(c *Config) { c.Connections.Max, c.WhenFull = 1, policy.WhenFullWait })
			if len(server.first) > 0 {
				open(t, p, server.addr)
			}
			ctx, cancel := context.WithCancel(t.Context())
			result := goOpen(ctx, p, server.addr)
			waiting(t, p, server.addr, 1)
			start := time.Now()
			cancel()
			got := receive(t, "the end of Open", result)
			require.ErrorIs(t, got.err, context.Canceled)
			require.Less(t, time.Since(start), slack)

			ctx, cancel = context.WithTimeout(t.Context(), 50*time.Millisecond)
			defer cancel()
			got = receive(t, "the end of Open", goOpen(ctx, p, server.addr))
			require.ErrorIs(t, got.err, context.DeadlineExceeded)
			require.Less(t, got.took, slack)
			waiting(t, p, server.addr, 0)
		})
	}
}

// A stream identifier is used once (RFC 9113 §5.1.1): a connection that has used up half of them, 2^30 calls, must make
// room for another before Kitex sends an invalid one, which would break every call on it.
func TestOpen_ConnectionIsReplacedBeforeStreamIdentifiersRunOut(t *testing.T) {
	t.Parallel()
	server := startServer(t, nil)
	p := newPool(t, func(c *Config) { c.Connections.Max = 1 })
	first := open(t, p, server.addr)
	setNextStreamID(t, first.conn, 1<<31-101) // as after a thousand million calls
	old := receive(t, "a connection", server.accepted)
	var streams []*Stream
	for range 200 {
		streams = append(streams, open(t, p, server.addr))
	}
	require.EqualValues(t, 2, server.accepts.Load())
	for i, s := range append(streams, first) {
		select {
		case <-s.Done():
			t.Fatalf("stream %d ended: %v", i, ends(t, s))
		default:
		}
	}
	select {
	case <-old.ended:
		t.Fatal("the old connection was closed under its streams")
	default:
	}
	for _, s := range append(streams, first) {
		s.Close()
	}
	receive(t, "the end of the old connection", old.ended)
	eventually(t, "one connection", func() bool { return p.Stats() == Stats{Endpoints: 1, Connections: 1} })
}
