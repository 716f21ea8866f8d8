package pool

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/framegate/framegate/pool/policy"
)

func TestMaxAge_ConnectionsAreReplacedUnderLoadWithoutAFailedOpen(t *testing.T) {
	t.Parallel()
	const age = 100 * time.Millisecond
	for _, whenFull := range []policy.WhenFull{policy.WhenFullWait, policy.WhenFullFail} {
		t.Run(string(whenFull), func(t *testing.T) {
			server := startServer(t, func(s *server) {
				s.onHeaders = func(c *serverConn, stream uint32) { c.finish(stream) }
			})
			p := newPool(t, func(c *Config) {
				c.Connections.Max, c.StreamsPerConnection, c.WhenFull, c.MaxAge = 2, 8, whenFull, age
			})
			const connections = 8 // four generations of two
			began := time.Now()
			var calls atomic.Int64
			var wg sync.WaitGroup
			for range 8 {
				wg.Go(func() {
					for server.accepts.Load() < connections && time.Since(began) < patience {
						s, err := made(p.Default().Open(t.Context(), server.addr, hdr, OpenOptions{}))
						if err != nil {
							t.Errorf("Open: %v", err)
							return
						}
						if _, err := s.Header(); err != nil {
							t.Errorf("Header: %v", err)
						}
						s.Close()
						calls.Add(1)
					}
				})
			}
			wg.Wait()
			t.Logf("%d calls, %d connections", calls.Load(), server.accepts.Load())
			require.GreaterOrEqual(t, server.accepts.Load(), int64(connections))
			require.Greater(t, time.Since(began), 2*age, "each generation lives for some 100ms")
			eventually(t, "no old connection", func() bool { return p.Stats().Connections <= 2 })
		})
	}
}

func TestMaxAge_OldConnectionTakesNoStreamsAndClosesWithItsLast(t *testing.T) {
	t.Parallel()
	const age = 150 * time.Millisecond
	server := startServer(t, nil)
	p := newPool(t, func(c *Config) { c.MaxAge = age })
	start := time.Now()
	s := open(t, p, server.addr)
	old := receive(t, "a connection", server.accepted)
	receive(t, "the replacement", server.accepted)
	require.GreaterOrEqual(t, time.Since(start), age*9/10)
	eventually(t, "the old one out of use", func() bool { return s.conn.retired.Load() })
	for range 10 {
		require.NotSame(t, s.conn, open(t, p, server.addr).conn)
	}
	notEnded(t, "the stream on the old connection", s.Done())
	notEnded(t, "the old connection", old.ended)
	s.Close()
	receive(t, "the end of the old connection", old.ended)
}

// A connection that nobody uses needs no replacement.
func TestMaxAge_IdleConnectionIsClosed(t *testing.T) {
	t.Parallel()
	const age = 100 * time.Millisecond
	server := startServer(t, nil)
	p := newPool(t, func(c *Config) { c.MaxAge = age })
	open(t, p, server.addr).Close()
	receive(t, "the end of the connection", receive(t, "a connection", server.accepted).ended)
	eventually(t, "no connection", func() bool { return p.Stats().Connections == 0 })
	require.EqualValues(t, 1, server.accepts.Load())
}

// The last connection goes on while no other can be made.
func TestMaxAge_WaitsForAReplacement(t *testing.T) {
	t.Parallel()
	const age = 50 * time.Millisecond
	var down atomic.Bool
	server := flaky(t, &down)
	p := newPool(t, func(c *Config) {
		fastBackoff(c)
		c.MaxAge, c.Connections.Max, c.WhenFull = age, 1, policy.WhenFullWait
	})
	s := open(t, p, server.addr)
	down.Store(true)
	eventually(t, "three failed dials", func() bool { return endpointOf(t, p, server.addr).failures() >= 3 })
	require.False(t, s.conn.retired.Load())
	down.Store(false)
	eventually(t, "the replacement", func() bool { return s.conn.retired.Load() })
	require.NoError(t, receive(t, "an open", goOpen(t.Context(), p, server.addr, mustNotWait(t))).err)
}

// Connections that were made together do not go together.
func TestMaxAge_IsSpread(t *testing.T) {
	t.Parallel()
	require.Equal(t, 90*time.Second, spread(100*time.Second, 0))
	require.Equal(t, 100*time.Second, spread(100*time.Second, 0.5))
	require.InDelta(t, 110*time.Second, spread(100*time.Second, 0.9999), float64(time.Second))

	const age, n = time.Second, 12
	server := startServer(t, nil)
	p := newPool(t, func(c *Config) { c.MaxAge, c.Connections.Min, c.Connections.Max = age, n, n })
	open(t, p, server.addr).Close()
	conns := usable(t, p, server.addr, n)
	ages := make(chan time.Duration, n)
	for _, c := range conns {
		go func() {
			<-c.lost
			ages <- time.Since(c.born)
		}()
	}
	var least, most time.Duration
	for range n {
		a := receive(t, "the end of a connection", ages)
		if least == 0 || a < least {
			least = a
		}
		most = max(most, a)
	}
	t.Logf("from %s to %s", least, most)
	require.GreaterOrEqual(t, least, age*9/10)
	require.Less(t, most, age*11/10+slack)
	require.Greater(t, most-least, age/100)
	usable(t, p, server.addr, n)
}

// Those that policy.WhenFullGrow has made beyond MaxConnections are not replaced.
func TestMaxAge_ConnectionsBeyondMaxAreNotReplaced(t *testing.T) {
	t.Parallel()
	const age = 100 * time.Millisecond
	server := startServer(t, nil)
	p := newPool(t, func(c *Config) { c.Connections.Max, c.StreamsPerConnection, c.MaxAge = 1, 1, age })
	var streams []*Stream
	for range 3 {
		streams = append(streams, open(t, p, server.addr))
	}
	for _, s := range streams {
		eventually(t, "it out of use", func() bool { return s.conn.retired.Load() })
	}
	require.LessOrEqual(t, server.accepts.Load(), int64(4))
}

// An endpoint that takes streams on old connections only is not connected to without end.
func TestMaxAge_ReplacementsThatTakeNoStreamsAreFew(t *testing.T) {
	t.Parallel()
	const age, most = 30 * time.Millisecond, 3
	server := startServer(t, func(s *server) {
		s.begin = func(c *serverConn) {
			if s.accepts.Load() > 1 {
				c.settings(maxStreams(0)...)
				return
			}
			c.settings()
		}
	})
	p := newPool(t, func(c *Config) {
		c.Connections.Max, c.MaxAge = most, age
		c.Backoff = policy.Backoff{Base: time.Millisecond, Max: time.Millisecond}
	})
	s := open(t, p, server.addr)
	eventually(t, "more than there may be at once", func() bool { // those without streams have their age too
		require.LessOrEqual(t, p.Stats().Connections, most+2, "with one that is just being closed")
		return server.accepts.Load() > 4*most
	})
	notEnded(t, "the stream", s.Done())
	require.False(t, s.conn.retired.Load(), "it is the only one that takes streams")
	open(t, p, server.addr)
}
