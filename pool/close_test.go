package pool

import (
	"context"
	"errors"
	"math"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/framegate/framegate/pool/policy"
	"github.com/framegate/framegate/test/leak"
)

func descriptors(t *testing.T) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	return len(list)
}

func TestClose_EndsStreamsAndLeavesNothing(t *testing.T) {
	server := startServer(t, nil)
	fds := descriptors(t)
	before := append(leak.Kitex(), goleak.IgnoreCurrent())
	p := New(Config{IdleTimeout: time.Minute, ConnectTimeout: patience}, dialer{}, discard)
	var streams []*Stream
	for range 3 {
		streams = append(streams, open(t, p, server.addr))
	}
	receive(t, "a connection", server.accepted).goAway(math.MaxInt32) // it only finishes its streams from here on
	usable(t, p, server.addr, 0)
	streams = append(streams, open(t, p, server.addr))
	silentServer := startServer(t, silent)
	dialling := goOpen(t.Context(), p, silentServer.addr)
	waiting(t, p, silentServer.addr, 1)

	start := time.Now()
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(p.Close)
	}
	wg.Wait()
	p.Close()
	require.Less(t, time.Since(start), slack)
	require.ErrorIs(t, receive(t, "the end of Open", dialling).err, ErrClosed)
	for _, s := range streams {
		require.Error(t, ends(t, s))
	}
	for _, addr := range []string{server.addr, silentServer.addr, "127.0.0.1:1"} {
		_, err := p.Default().Open(t.Context(), addr, hdr, OpenOptions{})
		require.ErrorIs(t, err, ErrClosed)
	}
	_, err := reopen(t.Context(), p, streams[0])
	require.ErrorIs(t, err, ErrClosed)
	for _, s := range streams {
		s.Close()
	}
	eventually(t, "no connection", func() bool { return p.Stats().Connections == 0 })
	require.Zero(t, p.Stats().Streams)
	for _, s := range []*sharedServer{{server}, {silentServer}} {
		s.waitNoConnection(t)
	}
	silentServer.stop()
	require.NoError(t, goleak.Find(before...))
	eventually(t, "the descriptors from before", func() bool { return descriptors(t) <= fds })
}

// sharedServer is a server that outlives a pool.
type sharedServer struct{ *server }

// waitNoConnection waits until the server has seen the end of all its connections.
func (s *sharedServer) waitNoConnection(t *testing.T) {
	t.Helper()
	for _, c := range s.all() {
		receive(t, "the end of a connection", c.ended)
	}
}

// Everybody who waits for a slot hears of Close, also if no stream ends.
func TestClose_EndsCallsThatWait(t *testing.T) {
	t.Parallel()
	server := startServer(t, func(s *server) { s.first = maxStreams(1) })
	p := newPool(t, func(c *Config) { c.Connections.Max, c.WhenFull = 1, policy.WhenFullWait })
	open(t, p, server.addr)
	var results []<-chan opened
	for range 20 {
		results = append(results, goOpen(t.Context(), p, server.addr))
	}
	waiting(t, p, server.addr, 20)
	start := time.Now()
	p.Close()
	for _, r := range results {
		require.ErrorIs(t, receive(t, "the end of Open", r).err, ErrClosed)
	}
	require.Less(t, time.Since(start), patience/2)
}

// Close may come at any moment of a dial.
func TestClose_DuringDials(t *testing.T) {
	t.Parallel()
	server := startServer(t, nil)
	for i := range 150 {
		p := New(Config{ConnectTimeout: patience, Connections: policy.Connections{Max: 2}, StreamsPerConnection: 1}, dialer{}, discard)
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				s, err := made(p.Default().Open(context.Background(), server.addr, hdr, OpenOptions{}))
				if err != nil {
					if !errors.Is(err, ErrClosed) {
						t.Errorf("Open: %v, want %v", err, ErrClosed)
					}
					return
				}
				s.Close()
			})
		}
		time.Sleep(time.Duration(i*7%300) * time.Microsecond) // somewhere in the dial
		p.Close()
		wg.Wait()
		eventually(t, "no connection", func() bool { return p.Stats().Connections == 0 })
	}
	(&sharedServer{server}).waitNoConnection(t)
}
