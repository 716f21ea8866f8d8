package pool

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/framegate/framegate/pool/policy"
)

func TestLimit_OpenWaitsForASlotAndGetsIt(t *testing.T) {
	t.Parallel()
	server := startServer(t, func(s *server) { s.first = maxStreams(1) })
	p := newPool(t, func(c *Config) { c.Connections.Max, c.WhenFull = 2, policy.WhenFullWait })
	first, second := open(t, p, server.addr), open(t, p, server.addr)
	require.NotSame(t, first.conn, second.conn)
	third := goOpen(t.Context(), p, server.addr)
	waiting(t, p, server.addr, 1)
	second.Close()
	got := receive(t, "a slot", third)
	require.NoError(t, got.err)
	require.Same(t, second.conn, got.stream.conn)
	require.EqualValues(t, 2, server.accepts.Load())
	require.Equal(t, Stats{Endpoints: 1, Connections: 2, Streams: 2}, p.Stats())
}

func TestLimit_OpenWithoutADeadlineFailsWhenNoSlotBecomesFree(t *testing.T) {
	t.Parallel()
	const timeout = 200 * time.Millisecond
	server := startServer(t, func(s *server) { s.first = maxStreams(1) })
	p := newPool(t, func(c *Config) { c.Connections.Max, c.WhenFull, c.ConnectTimeout = 2, policy.WhenFullWait, timeout })
	for range 2 {
		open(t, p, server.addr)
	}
	got := receive(t, "the end of Open", goOpen(t.Context(), p, server.addr))
	err := requireFullError(t, got, server.addr, 2)
	require.ErrorIs(t, err, errNoStreamIn)
	require.GreaterOrEqual(t, got.took, timeout)
	require.Less(t, got.took, timeout+slack)
	require.Equal(t, 2, p.Stats().Streams)
	waiting(t, p, server.addr, 0)
}

// Each stream that ends lets one in, however many wait and however many ended at once.
func TestLimit_EveryFreedSlotIsUsed(t *testing.T) {
	t.Parallel()
	const limit, rounds, waiters = 5, 20, 30
	server := startServer(t, func(s *server) { s.first = maxStreams(limit) })
	p := newPool(t, func(c *Config) { c.Connections.Max, c.WhenFull = 1, policy.WhenFullWait })
	for range rounds {
		var streams []*Stream
		for range limit {
			streams = append(streams, open(t, p, server.addr))
		}
		results := make(chan opened, waiters)
		var wg sync.WaitGroup
		for range waiters {
			wg.Go(func() {
				got := receive(t, "a slot", goOpen(t.Context(), p, server.addr))
				results <- got
				if got.err == nil {
					got.stream.Close()
				}
			})
		}
		waiting(t, p, server.addr, waiters)
		for _, s := range streams {
			wg.Go(s.Close)
		}
		wg.Wait()
		for range waiters {
			require.NoError(t, (<-results).err)
		}
		require.Zero(t, p.Stats().Streams)
	}
}

// Calls that wait must hear when the endpoint allows more.
func TestLimit_OpenGoesOnWhenTheLimitRises(t *testing.T) {
	t.Parallel()
	server := startServer(t, func(s *server) { s.first = maxStreams(1) })
	p := newPool(t, func(c *Config) { c.Connections.Max, c.WhenFull = 1, policy.WhenFullWait })
	open(t, p, server.addr)
	var results []<-chan opened
	for range 5 {
		results = append(results, goOpen(t.Context(), p, server.addr))
	}
	waiting(t, p, server.addr, 5)
	c := receive(t, "a connection", server.accepted)
	usable(t, p, server.addr, 1)
	start := time.Now()
	c.settings(maxStreams(100)...)
	for _, r := range results {
		require.NoError(t, receive(t, "a slot", r).err)
	}
	require.Less(t, time.Since(start), patience/2)
}

// MAX_CONCURRENT_STREAMS falls to 0 and to 1 in the middle of a storm: whoever opens a stream gets one or an error in
// time.
func TestLimit_FallsInAStorm(t *testing.T) {
	t.Parallel()
	const timeout = 2 * time.Second
	server := startServer(t, func(s *server) {
		s.first = maxStreams(100)
		s.onHeaders = func(c *serverConn, stream uint32) { c.finish(stream) }
	})
	p := newPool(t, func(c *Config) { c.Connections.Max, c.ConnectTimeout = 2, timeout })
	open(t, p, server.addr).Close()
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 32 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				start := time.Now()
				s, err := made(p.Default().Open(context.Background(), server.addr, hdr, OpenOptions{}))
				var d *DialError
				var full *FullError
				if took := time.Since(start); (err != nil && !errors.As(err, &d) && !errors.As(err, &full)) || took > timeout+slack {
					t.Errorf("Open returned %v after %s", err, took)
				}
				if err != nil {
					time.Sleep(time.Millisecond) // or it would be tried again and again at once
					continue
				}
				if _, err := s.Header(); err != nil {
					t.Errorf("Header: %v", err)
				}
				s.Close()
			}
		})
	}
	rnd := rand.New(rand.NewPCG(5, 5))
	limits := []uint32{0, 1, 2, 50}
	for range 100 {
		for _, c := range server.all() {
			c.settings(maxStreams(limits[rnd.IntN(len(limits))])...)
		}
		time.Sleep(2 * time.Millisecond) // the storm goes on under this limit
	}
	for _, c := range server.all() {
		c.settings(maxStreams(1)...)
	}
	close(stop)
	wg.Wait()
	require.Zero(t, p.Stats().Streams)
}

// A connection that cannot be made must not fail a call for which those in use will have room.
func TestLimit_OpenWaitsForASlotWhenNoFurtherConnectionCanBeMade(t *testing.T) {
	t.Parallel()
	server := startServer(t, func(s *server) {
		s.begin = func(c *serverConn) {
			if s.accepts.Load() > 1 {
				c.kill()
				return
			}
			c.settings(maxStreams(1)...)
		}
	})
	p := newPool(t, func(c *Config) { c.Connections.Max, c.WhenFull = 2, policy.WhenFullWait })
	first := open(t, p, server.addr)
	second := goOpen(t.Context(), p, server.addr)
	waiting(t, p, server.addr, 1)
	eventually(t, "failed dials", func() bool { return endpointOf(t, p, server.addr).failures() >= 2 })
	select {
	case got := <-second:
		t.Fatalf("Open did not wait: %v", got.err)
	default:
	}
	first.Close()
	got := receive(t, "a slot", second)
	require.NoError(t, got.err)
	got.stream.Close()
}
