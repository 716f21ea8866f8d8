package pool

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/framegate/framegate/test/refusing"
)

func TestIdle_ConnectionIsClosedAndTheEndpointForgotten(t *testing.T) {
	t.Parallel()
	const idle = 50 * time.Millisecond
	server := startServer(t, nil)
	p := newPool(t, func(c *Config) { c.IdleTimeout = idle })
	open(t, p, server.addr).Close()
	start := time.Now()
	c := receive(t, "a connection", server.accepted)
	receive(t, "the end of the idle connection", c.ended)
	require.GreaterOrEqual(t, time.Since(start), idle)
	eventually(t, "nothing", func() bool { return p.Stats() == Stats{} })
	_, known := p.Default().endpoints.Load(server.addr)
	require.False(t, known)
	open(t, p, server.addr).Close() // and is found again
	require.EqualValues(t, 2, server.accepts.Load())
}

func TestIdle_ConnectionIsNotClosedUnderAStream(t *testing.T) {
	t.Parallel()
	const idle = 20 * time.Millisecond
	server := startServer(t, nil)
	p := newPool(t, func(c *Config) { c.IdleTimeout = idle })
	s := open(t, p, server.addr)
	c := receive(t, "a connection", server.accepted)
	select {
	case <-c.ended:
		t.Fatal("the connection was closed under its stream")
	case <-s.Done():
		t.Fatal("the stream has ended")
	case <-time.After(8 * idle):
	}
	s.Close()
	receive(t, "the end of the idle connection", c.ended)
}

func TestIdle_NeverWhenNegative(t *testing.T) {
	t.Parallel()
	server := startServer(t, nil)
	p := newPool(t, func(c *Config) { c.IdleTimeout = -1 })
	open(t, p, server.addr).Close()
	c := receive(t, "a connection", server.accepted)
	select {
	case <-c.ended:
		t.Fatal("the connection was closed")
	case <-time.After(100 * time.Millisecond):
	}
}

func TestIdle_EndpointThatCannotBeReachedIsForgotten(t *testing.T) {
	t.Parallel()
	p := newPool(t, func(c *Config) { c.IdleTimeout = 20 * time.Millisecond })
	_, err := p.Default().Open(t.Context(), refusing.Address(t), hdr, OpenOptions{})
	require.Error(t, err)
	eventually(t, "no endpoint", func() bool { return p.Stats() == Stats{} })
}

// Calls that come just as the sweeper closes and forgets what they would use must not notice.
func TestIdle_StormAroundTheSweepNeverFails(t *testing.T) {
	t.Parallel()
	server := startServer(t, nil)
	p := newPool(t, func(c *Config) { c.IdleTimeout = 10 * time.Millisecond }) // swept every 10 ms
	stop := make(chan struct{})
	var wg sync.WaitGroup
	var calls atomic.Int64
	for i := range 8 {
		wg.Go(func() {
			for {
				s, err := p.Default().Open(context.Background(), server.addr, hdr, OpenOptions{})
				if err != nil {
					t.Errorf("Open: %v", err)
					return
				}
				s.Close()
				calls.Add(1)
				select {
				case <-stop:
					return
				case <-time.After(time.Duration(9+i) * time.Millisecond): // about the time of a sweep
				}
			}
		})
	}
	for range 3 { // and sweeps of its own, as if every connection were idle
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				for e := range p.Default().all() {
					e.sweep(time.Now().Add(time.Hour))
				}
				time.Sleep(200 * time.Microsecond)
			}
		})
	}
	time.Sleep(500 * time.Millisecond) // of storm
	eventually(t, "many calls, and connections that were swept", func() bool { return calls.Load() > 50 && server.accepts.Load() > 10 })
	close(stop)
	wg.Wait()
	eventually(t, "nothing", func() bool { return p.Stats() == Stats{} })
}
