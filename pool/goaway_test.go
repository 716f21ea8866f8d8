package pool

import (
	"io"
	"math"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"

	"github.com/framegate/framegate/pool/h2conn"
	"github.com/framegate/framegate/pool/policy"
	"github.com/framegate/framegate/pool/transport"
)

// notEnded fails the test if a stream or connection has ended.
func notEnded(t *testing.T, what string, ended <-chan struct{}) {
	t.Helper()
	select {
	case <-ended:
		t.Fatalf("%s has ended", what)
	default:
	}
}

func TestGoAway_StreamsFinishAndNewOnesGoElsewhere(t *testing.T) {
	t.Parallel()
	server := startServer(t, nil)
	p := newPool(t, nil)
	s := open(t, p, server.addr)
	old := receive(t, "a connection", server.accepted)
	id := receive(t, "a stream", old.streams)
	old.goAway(math.MaxInt32) // graceful (RFC 9113 §6.8): whatever comes is still processed
	usable(t, p, server.addr, 0)

	next := open(t, p, server.addr)
	require.NotSame(t, s.conn, next.conn)
	require.Equal(t, Stats{Endpoints: 1, Connections: 2, Streams: 2}, p.Stats())
	notEnded(t, "the old connection", old.ended)
	notEnded(t, "the stream on it", s.Done())

	require.NoError(t, s.CloseSend())
	require.Equal(t, "<end>", receive(t, "the end of the request", old.data))
	old.finish(id)
	require.ErrorIs(t, ends(t, s), io.EOF)
	require.Zero(t, s.Status().Code())
	require.False(t, s.Unprocessed())
	s.Close()
	receive(t, "the end of the old connection", old.ended)
	eventually(t, "one connection and stream", func() bool {
		return p.Stats() == Stats{Endpoints: 1, Connections: 1, Streams: 1}
	})
	require.EqualValues(t, 2, server.accepts.Load())
}

func TestGoAway_IdleConnectionIsReplaced(t *testing.T) {
	t.Parallel()
	server := startServer(t, nil)
	p := newPool(t, nil)
	open(t, p, server.addr).Close()
	old := receive(t, "a connection", server.accepted)
	receive(t, "the reset", old.resets)
	old.goAway(math.MaxInt32)
	receive(t, "the end of the old connection", old.ended)
	eventually(t, "no connection", func() bool { return p.Stats().Connections == 0 })
	open(t, p, server.addr).Close()
}

func TestGoAway_BelowTheStreamMeansUnprocessed(t *testing.T) {
	t.Parallel()
	server := startServer(t, nil)
	p := newPool(t, nil)
	first, second := open(t, p, server.addr), open(t, p, server.addr)
	old := receive(t, "a connection", server.accepted)
	id := receive(t, "a stream", old.streams)
	receive(t, "another", old.streams)
	old.goAway(id)
	require.Error(t, ends(t, second))
	require.True(t, second.Unprocessed())

	again, err := reopen(t.Context(), p, second)
	require.NoError(t, err)
	require.NotSame(t, second.conn, again.conn)
	second.Close()
	notEnded(t, "the stream that was processed", first.Done())
	old.finish(id)
	require.ErrorIs(t, ends(t, first), io.EOF)
	require.False(t, first.Unprocessed())
	first.Close()
	again.Close()
	receive(t, "the end of the old connection", old.ended)
	eventually(t, "no stream", func() bool { return p.Stats() == Stats{Endpoints: 1, Connections: 1} })
}

// A server that sends each connection away with its fifth stream, under callers that come all at once: whatever Open
// was lost to a GOAWAY is made on another connection, and so is, with Avoid, a stream that was not processed.
func TestGoAway_EveryFewStreamsFailsNoOpen(t *testing.T) {
	t.Parallel()
	const callers, calls = 16, 60
	for _, whenFull := range []policy.WhenFull{policy.WhenFullWait, policy.WhenFullFail, policy.WhenFullGrow} {
		t.Run(string(whenFull), func(t *testing.T) {
			server := startServer(t, func(s *server) {
				s.onHeaders = func(c *serverConn, stream uint32) {
					if c.opened > 5 {
						return // it was not processed
					}
					if c.opened == 5 {
						c.goAway(stream)
					}
					c.finish(stream)
				}
			})
			p := newPool(t, func(c *Config) { c.WhenFull, c.Connections.Max = whenFull, 4 })
			var again atomic.Int64
			var wg sync.WaitGroup
			for range callers {
				wg.Go(func() {
					for range calls {
						var s *Stream
						var opts OpenOptions
						for {
							next, err := made(p.Default().Open(t.Context(), server.addr, hdr, opts))
							if err != nil {
								t.Errorf("Open: %v", err)
								return
							}
							if s != nil {
								s.Close()
							}
							s, opts.Avoid = next, next.Conn()
							_, err = s.Header()
							if !s.Unprocessed() {
								if err != nil {
									t.Errorf("a stream that was processed: %v", err)
								}
								break
							}
							again.Add(1)
						}
						s.Close()
					}
				})
			}
			wg.Wait()
			t.Logf("%d connections, %d streams again", server.accepts.Load(), again.Load())
			require.GreaterOrEqual(t, server.accepts.Load(), int64(callers*calls/5))
			require.Zero(t, p.Stats().Streams)
		})
	}
}

func TestReopen_RefusedStream(t *testing.T) {
	t.Parallel()
	server := startServer(t, func(s *server) {
		s.onHeaders = func(c *serverConn, stream uint32) {
			if stream == 1 && c == s.all()[0] {
				c.reset(stream, http2.ErrCodeRefusedStream)
			}
		}
	})
	t.Run("goes to another connection", func(t *testing.T) {
		p := newPool(t, nil)
		s := open(t, p, server.addr)
		require.Error(t, ends(t, s))
		require.True(t, s.Unprocessed())
		again, err := reopen(t.Context(), p, s)
		require.NoError(t, err)
		require.NotSame(t, s.conn, again.conn)
		s.Close()
		again.Close()
		require.Equal(t, Stats{Endpoints: 1, Connections: 2}, p.Stats(), "a refused stream ends no connection")
	})
	t.Run("stays if there can be no other", func(t *testing.T) {
		p := newPool(t, func(c *Config) { c.Connections.Max = 1 })
		s := open(t, p, server.addr)
		again, err := reopen(t.Context(), p, s)
		require.NoError(t, err)
		require.Same(t, s.conn, again.conn)
		s.Close()
		again.Close()
	})
	t.Run("stays if the other cannot be made", func(t *testing.T) {
		p := newPool(t, nil)
		s := open(t, p, server.addr)
		require.NoError(t, server.ln.Close())
		again, err := reopen(t.Context(), p, s)
		require.NoError(t, err)
		require.Same(t, s.conn, again.conn)
		s.Close()
		again.Close()
	})
}

func TestConnection_KilledEndsItsStreamsAndIsReplaced(t *testing.T) {
	t.Parallel()
	server := startServer(t, nil)
	p := newPool(t, nil)
	streams := []*Stream{open(t, p, server.addr), open(t, p, server.addr), open(t, p, server.addr)}
	old := receive(t, "a connection", server.accepted)
	for range streams {
		receive(t, "a stream", old.streams)
	}
	blocked := make(chan error, 1)
	go func() {
		_, err := streams[0].Read(make([]byte, 5))
		blocked <- err
	}()
	old.kill()
	var connErr transport.ConnectionError
	require.ErrorAs(t, receive(t, "the end of a read", blocked), &connErr)
	for _, s := range streams[1:] {
		require.ErrorAs(t, ends(t, s), &connErr)
		require.Error(t, s.Write(make([]byte, 1, 16)))
		require.Error(t, s.CloseSend())
	}
	for _, s := range streams {
		require.False(t, s.Unprocessed(), "the endpoint may have processed it")
		s.Reset(errTest)
		s.Close()
	}
	eventually(t, "nothing but the endpoint", func() bool { return p.Stats() == Stats{Endpoints: 1} })
	s := open(t, p, server.addr)
	notEnded(t, "the new stream", s.Done())
	require.EqualValues(t, 2, server.accepts.Load())
}

// A peer that stops answering: the keepalive ends the connection, and with it what waits on it.
func TestConnection_KeepaliveEndsADeadOne(t *testing.T) {
	t.Parallel()
	keepalive := func(c *Config) {
		c.Keepalive = policy.Keepalive{Time: 20 * time.Millisecond, Timeout: 200 * time.Millisecond}
	}
	t.Run("that answers no ping", func(t *testing.T) {
		hang := make(chan struct{})
		defer close(hang)
		server := startServer(t, func(s *server) {
			s.onHeaders = func(*serverConn, uint32) { <-hang }
		})
		p := newPool(t, keepalive)
		s := open(t, p, server.addr)
		require.ErrorIs(t, ends(t, s), h2conn.ErrKeepalive)
		s.Close()
		eventually(t, "nothing but the endpoint", func() bool { return p.Stats() == Stats{Endpoints: 1} })
	})
}
