package pool

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/framegate/framegate/pool/policy"
)

func TestLeave_ClosesIdleConnectionsNow(t *testing.T) {
	t.Parallel()
	server := startServer(t, nil)
	p := newPool(t, func(c *Config) { c.Connections.Min = 2 })
	open(t, p, server.addr).Close()
	usable(t, p, server.addr, 2)
	p.Default().Leave(server.addr)
	for _, c := range server.all() {
		receive(t, "the end of a connection", c.ended)
	}
	eventually(t, "nothing", func() bool { return p.Stats() == Stats{} })
	require.EqualValues(t, 2, server.accepts.Load(), "none is kept warm for an endpoint that has left")
	p.Default().Leave(server.addr) // of which nothing is known
	open(t, p, server.addr)        // it may come back
	usable(t, p, server.addr, 2)
}

func TestLeave_StreamsFinishAndLaterCallsGetOtherConnections(t *testing.T) {
	t.Parallel()
	server := startServer(t, nil)
	p := newPool(t, nil)
	first, second := open(t, p, server.addr), open(t, p, server.addr)
	old := receive(t, "a connection", server.accepted)
	p.Default().Leave(server.addr)
	usable(t, p, server.addr, 0)
	require.Equal(t, Stats{Endpoints: 1, Connections: 1, Streams: 2}, p.Stats())
	first.Close()
	notEnded(t, "the other stream", second.Done())
	notEnded(t, "the connection", old.ended)

	later := open(t, p, server.addr)
	require.NotSame(t, second.conn, later.conn)
	second.Close()
	receive(t, "the end of the old connection", old.ended)
	later.Close()
	require.Len(t, usable(t, p, server.addr, 1), 1, "it is in use again")

	p.Default().Leave(server.addr)
	eventually(t, "nothing", func() bool { return p.Stats() == Stats{} })
	_, known := p.Default().endpoints.Load(server.addr)
	require.False(t, known, "it is forgotten with its last connection")
}

// Calls that wait when the endpoint leaves were sent to it before that, and are served.
func TestLeave_CallsThatWaitAreServed(t *testing.T) {
	t.Parallel()
	t.Run("for a slot", func(t *testing.T) {
		server := startServer(t, nil)
		p := newPool(t, func(c *Config) { c.Connections.Max, c.StreamsPerConnection, c.WhenFull = 1, 1, policy.WhenFullWait })
		s := open(t, p, server.addr)
		first := goOpen(t.Context(), p, server.addr)
		waiting(t, p, server.addr, 1)
		second := goOpen(t.Context(), p, server.addr)
		waiting(t, p, server.addr, 2)
		p.Default().Leave(server.addr)
		for _, r := range []<-chan opened{first, second} {
			got := receive(t, "a slot", r)
			require.NoError(t, got.err)
			got.stream.Close()
		}
		s.Close()
		eventually(t, "nothing", func() bool { return p.Stats() == Stats{} })
	})
	t.Run("for a connection", func(t *testing.T) {
		hold := make(chan struct{})
		server := startServer(t, func(s *server) {
			s.begin = func(c *serverConn) {
				<-hold
				c.settings()
			}
		})
		p := newPool(t, nil)
		result := goOpen(t.Context(), p, server.addr)
		waiting(t, p, server.addr, 1)
		p.Default().Leave(server.addr)
		close(hold)
		got := receive(t, "a slot", result)
		require.NoError(t, got.err)
		eventually(t, "a connection that is used no longer than this", got.stream.conn.retired.Load)
		got.stream.Close()
		eventually(t, "nothing", func() bool { return p.Stats() == Stats{} })
	})
	t.Run("or not, and the connection is closed", func(t *testing.T) {
		hold := make(chan struct{})
		server := startServer(t, func(s *server) {
			s.begin = func(c *serverConn) {
				<-hold
				c.settings()
			}
		})
		p := newPool(t, nil)
		no := OpenOptions{Wait: func() (func(), bool) { return nil, false }}
		requireFullError(t, receive(t, "the end of Open", goOpen(t.Context(), p, server.addr, no)), server.addr, 0)
		p.Default().Leave(server.addr)
		close(hold)
		receive(t, "the end of the connection", receive(t, "a connection", server.accepted).ended)
		eventually(t, "nothing", func() bool { return p.Stats() == Stats{} })
	})
}

func TestLeave_OfOneGroupOrOfAll(t *testing.T) {
	t.Parallel()
	server := startServer(t, nil)
	p := newPool(t, nil)
	other := p.Group(Config{IdleTimeout: -1, Connections: policy.Connections{Max: 2}})
	mine := open(t, p, server.addr)
	mine.Close()
	got := receive(t, "an open", goOpenIn(t.Context(), other, server.addr))
	require.NoError(t, got.err)
	got.stream.Close()
	other.Leave(server.addr)
	receive(t, "the end of the other's connection", got.stream.conn.lost)
	notEnded(t, "the connection of the Group that was not left", mine.conn.lost)

	got = receive(t, "an open", goOpenIn(t.Context(), other, server.addr))
	require.NoError(t, got.err)
	got.stream.Close()
	p.Leave(server.addr)
	receive(t, "the end of the other's connection", got.stream.conn.lost)
	receive(t, "the end of the connection", mine.conn.lost)
	eventually(t, "nothing", func() bool { return p.Stats() == Stats{} })
}
