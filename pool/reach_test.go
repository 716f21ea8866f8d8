package pool

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/framegate/framegate/pool/policy"
	"github.com/framegate/framegate/test/refusing"
)

// heard returns a Reach, and what it is told.
func heard() (Reach, <-chan string) {
	all := make(chan string, 100)
	return func(address string, failure *DialError) { all <- fmt.Sprint(address, " ", failure == nil) }, all
}

func TestReach_IsToldOnceWhenItChanges(t *testing.T) {
	t.Parallel()
	server, dead := startServer(t, nil), refusing.Address(t)
	p := newPool(t, func(c *Config) { c.Backoff = policy.Backoff{Base: time.Millisecond, Max: time.Millisecond} })
	hears, told := heard()
	p.SetReach(hears)
	for range 5 {
		_, err := p.Default().Open(t.Context(), dead, hdr, OpenOptions{})
		require.Error(t, err)
		time.Sleep(2 * time.Millisecond) // the backoff, so that there are several dials
	}
	require.Equal(t, dead+" false", receive(t, "the failure", told))
	for range 5 {
		open(t, p, server.addr).Close()
	}
	require.Equal(t, server.addr+" true", receive(t, "the success", told))
	server.stop()
	eventually(t, "no connection", func() bool { return p.Stats().Connections == 0 })
	eventually(t, "the next failure", func() bool {
		s, err := made(p.Default().Open(t.Context(), server.addr, hdr, OpenOptions{}))
		if err == nil {
			s.Close()
		}
		return len(told) > 0
	})
	require.Equal(t, server.addr+" false", receive(t, "the next failure", told))
	require.Empty(t, told)
}

// A connection is made without a call: one, and none where there is one.
func TestTry_FindsOutWhetherAnEndpointCanBeConnectedTo(t *testing.T) {
	t.Parallel()
	server, dead := startServer(t, nil), refusing.Address(t)
	p := newPool(t, func(c *Config) { c.Backoff = policy.Backoff{Base: time.Hour, Max: time.Hour} })
	hears, told := heard()
	p.SetReach(hears)
	p.Default().Try(dead)
	require.Equal(t, dead+" false", receive(t, "the failure", told))
	for range 5 {
		p.Default().Try(dead) // it rests
		p.Default().Try(server.addr)
	}
	require.Equal(t, server.addr+" true", receive(t, "the success", told))
	for range 5 {
		p.Default().Try(server.addr)
	}
	require.Equal(t, 1, p.Stats().Connections)
	require.Empty(t, told)
}
