package pool

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/framegate/framegate/test/refusing"
)

func TestMin_IsKeptWhileTheEndpointIsInUse(t *testing.T) {
	t.Parallel()
	const least, idle = 3, 40 * time.Millisecond
	server := startServer(t, nil)
	p := newPool(t, func(c *Config) {
		c.Connections.Min, c.Connections.Max, c.StreamsPerConnection, c.IdleTimeout = least, 6, 2, idle
	})
	require.Zero(t, server.accepts.Load(), "none before the first call")
	open(t, p, server.addr).Close()
	usable(t, p, server.addr, least)

	t.Run("against the end of one", func(t *testing.T) {
		server.all()[1].kill()
		eventually(t, "another", func() bool { return server.accepts.Load() == least+1 })
		usable(t, p, server.addr, least)
	})
	t.Run("against the idle sweep", func(t *testing.T) {
		var streams []*Stream
		for range 12 {
			streams = append(streams, open(t, p, server.addr))
		}
		require.Len(t, usable(t, p, server.addr, 6), 6)
		for _, s := range streams {
			s.Close()
		}
		kept := usable(t, p, server.addr, least) // the sweep closes the others
		accepts := server.accepts.Load()
		select {
		case <-kept[0].lost:
		case <-kept[1].lost:
		case <-kept[2].lost:
		case <-time.After(8 * idle):
		}
		require.Equal(t, kept, usable(t, p, server.addr, least))
		require.Equal(t, accepts, server.accepts.Load())
	})
}

func TestMin_IsMadeAgainAfterAFailureWithoutACall(t *testing.T) {
	t.Parallel()
	var down atomic.Bool
	down.Store(true)
	server := flaky(t, &down)
	p := newPool(t, func(c *Config) {
		fastBackoff(c)
		c.Connections.Min = 2
	})
	_, err := p.Default().Open(t.Context(), server.addr, hdr, OpenOptions{})
	require.Error(t, err)
	down.Store(false)
	usable(t, p, server.addr, 2)
}

// An endpoint that is not reached, and not asked for either, is forgotten even if connections to it were to be kept.
func TestMin_EndpointThatIsNotReachedIsForgotten(t *testing.T) {
	t.Parallel()
	p := newPool(t, func(c *Config) { c.Connections.Min, c.IdleTimeout = 2, 50*time.Millisecond })
	_, err := p.Default().Open(t.Context(), refusing.Address(t), hdr, OpenOptions{})
	require.Error(t, err)
	eventually(t, "no endpoint", func() bool { return p.Stats() == Stats{} })
}
