package pool

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/framegate/framegate/pool/policy"
)

func TestGroup_IsTheSameForTheSamePolicy(t *testing.T) {
	t.Parallel()
	p := newPool(t, nil)
	cfg := Config{ConnectTimeout: time.Second, MaxAge: time.Hour, Keepalive: policy.Keepalive{Time: time.Minute}}
	g := p.Group(cfg)
	require.Same(t, g, p.Group(cfg))
	same := cfg
	same.Connections.Max, same.WhenFull, same.Backoff.Base = policy.Default().Connections.Max, policy.Default().WhenFull, policy.Default().Backoff.Base
	require.Same(t, g, p.Group(same), "a zero field means its default")
	other := cfg
	other.Backoff.Max = time.Second
	require.NotSame(t, g, p.Group(other))
	require.Same(t, p.Default(), p.Group(Config{ConnectTimeout: patience, IdleTimeout: -1}), "what newPool gives to New")
}

func TestGroup_HasConnectionsOfItsOwnAndItsPolicy(t *testing.T) {
	t.Parallel()
	server := startServer(t, nil)
	p := newPool(t, func(c *Config) { c.Connections.Max, c.StreamsPerConnection, c.WhenFull = 1, 1, policy.WhenFullWait })
	other := p.Group(Config{Connections: policy.Connections{Max: 1}, StreamsPerConnection: 2, WhenFull: policy.WhenFullFail, IdleTimeout: -1})
	s := open(t, p, server.addr)
	for range 2 {
		got := receive(t, "an open", goOpenIn(t.Context(), other, server.addr))
		require.NoError(t, got.err)
		require.NotSame(t, s.conn, got.stream.conn)
	}
	requireFullError(t, receive(t, "the end of Open", goOpenIn(t.Context(), other, server.addr)), server.addr, 1)
	result := goOpen(t.Context(), p, server.addr)
	waiting(t, p, server.addr, 1)
	require.EqualValues(t, 2, server.accepts.Load())
	require.Equal(t, Stats{Endpoints: 1, Connections: 2, Streams: 3}, p.Stats())
	require.Equal(t, []EndpointStats{{Address: server.addr, Connections: 2, Streams: 3}}, p.Endpoints())
	s.Close()
	require.NoError(t, receive(t, "a slot", result).err)

	p.Close()
	_, err := other.Open(t.Context(), server.addr, hdr, OpenOptions{})
	require.ErrorIs(t, err, ErrClosed)
	_, err = p.Group(Config{Connections: policy.Connections{Max: 3}}).Open(t.Context(), server.addr, hdr, OpenOptions{})
	require.ErrorIs(t, err, ErrClosed)
	eventually(t, "no connection", func() bool { return p.Stats().Connections == 0 })
}

// Each Group sweeps by its own IdleTimeout, and begins again when it has endpoints again.
func TestGroup_SweepsByItsOwnTimeout(t *testing.T) {
	t.Parallel()
	server := startServer(t, nil)
	p := newPool(t, nil) // never
	short := p.Group(Config{IdleTimeout: 30 * time.Millisecond})
	kept := open(t, p, server.addr)
	kept.Close()
	for range 3 {
		got := receive(t, "an open", goOpenIn(t.Context(), short, server.addr))
		require.NoError(t, got.err)
		got.stream.Close()
		receive(t, "the end of the idle connection", got.stream.conn.lost)
		eventually(t, "no sweeper", func() bool {
			p.mu.Lock()
			defer p.mu.Unlock()
			return !short.sweeping && short.known == 0
		})
	}
	notEnded(t, "the other Group's connection", kept.conn.lost)
}
