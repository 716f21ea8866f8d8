package pool

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/metadata"
	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"
)

func TestOpen_ConcurrentCallsDialOnce(t *testing.T) {
	const calls = 200
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
		if e, ok := p.endpoints.Load(addr); ok {
			conns = *e.(*endpoint).usable.Load()
		}
		return len(conns) == n
	})
	return conns
}

func TestOpen_GrowsWithStreamsUpToConnections(t *testing.T) {
	const perConn, most = 4, 3
	server := startServer(t, nil)
	p := newPool(t, func(c *Config) { c.StreamsPerConnection, c.Connections = perConn, most })
	streams := 0
	openOne := func() {
		open(t, p, server.addr)
		streams++
	}
	openOne()
	for n := 1; n <= most; n++ {
		conns := usable(t, p, server.addr, n)
		for slices.ContainsFunc(conns, func(c *conn) bool { return c.streams() < perConn }) {
			openOne()
		}
		require.EqualValues(t, n, server.accepts.Load(), "with room for %d streams on each, %d streams need no other", perConn, streams)
		openOne() // finds all busy, takes one of them, and has a further one made for those after it
	}
	for range 50 {
		openOne()
	}
	require.EqualValues(t, most, server.accepts.Load())
	require.Equal(t, Stats{Endpoints: 1, Connections: most, Streams: streams}, p.Stats())
}

func TestOpen_PrefersTheLeastLoaded(t *testing.T) {
	server := startServer(t, nil)
	p := newPool(t, func(c *Config) { c.StreamsPerConnection, c.Connections = 1, 3 })
	streams := map[*conn][]*Stream{}
	for _, n := range []int{1, 2, 2, 3} { // the connections after each call
		s := open(t, p, server.addr)
		streams[s.conn] = append(streams[s.conn], s)
		usable(t, p, server.addr, n)
	}
	for range 30 - 4 {
		s := open(t, p, server.addr)
		streams[s.conn] = append(streams[s.conn], s)
	}
	require.Len(t, streams, 3)
	for c, list := range streams {
		require.Len(t, list, 10)
		require.Equal(t, 10, c.streams())
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
	server := startServer(t, func(s *server) {
		s.first = []http2.Setting{{ID: http2.SettingMaxHeaderListSize, Val: 2000}}
	})
	p := newPool(t, nil)
	ctx := metadata.NewOutgoingContext(t.Context(), metadata.Pairs("x-big", strings.Repeat("x", 3000)))
	for range 20 { // the first call of all too
		_, err := p.Open(ctx, server.addr, hdr)
		var headerErr *HeaderError
		require.ErrorAs(t, err, &headerErr)
		require.ErrorContains(t, err, "header list size")
	}
	require.Equal(t, Stats{Endpoints: 1, Connections: 1}, p.Stats(), "the slots must be given back")
	open(t, p, server.addr).Close() // the connection goes on
	require.EqualValues(t, 1, server.accepts.Load())
}

func TestOpen_ContextEndsReturnAtOnce(t *testing.T) {
	for name, server := range map[string]*server{
		"while it dials":            startServer(t, func(s *server) { s.begin = func(*serverConn) {} }),
		"while it waits for a slot": startServer(t, func(s *server) { s.first = maxStreams(0) }),
	} {
		t.Run(name, func(t *testing.T) {
			p := newPool(t, func(c *Config) { c.Connections = 1 })
			ctx, cancel := context.WithCancel(t.Context())
			result := goOpen(ctx, p, server.addr)
			waiting(t, p, server.addr, 1)
			start := time.Now()
			cancel()
			got := receive(t, "the end of Open", result)
			require.ErrorIs(t, got.err, context.Canceled)
			require.Less(t, time.Since(start), time.Second)

			ctx, cancel = context.WithTimeout(t.Context(), 50*time.Millisecond)
			defer cancel()
			got = receive(t, "the end of Open", goOpen(ctx, p, server.addr))
			require.ErrorIs(t, got.err, context.DeadlineExceeded)
			require.Less(t, got.took, time.Second)
			waiting(t, p, server.addr, 0)
		})
	}
}

// A stream identifier is used once (RFC 9113 §5.1.1): a connection that has used up half of them, 2^30 calls, must make
// room for another before Kitex sends an invalid one, which would break every call on it.
func TestOpen_ConnectionIsReplacedBeforeStreamIdentifiersRunOut(t *testing.T) {
	server := startServer(t, nil)
	p := newPool(t, func(c *Config) { c.Connections = 1 })
	first := open(t, p, server.addr)
	setNextStreamID(t, first.conn, 1<<31-101) // as after a thousand million calls
	old := receive(t, "a connection", server.accepted)
	var streams []*Stream
	for range 200 {
		streams = append(streams, open(t, p, server.addr))
	}
	require.EqualValues(t, 2, server.accepts.Load())
	for _, s := range append(streams, first) {
		select {
		case <-s.Done():
			t.Fatalf("stream %d ended: %v", streamID(s.Stream), ends(t, s))
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
