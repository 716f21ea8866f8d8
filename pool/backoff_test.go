package pool

import (
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/framegate/framegate/pool/policy"
	"github.com/framegate/framegate/test/refusing"
)

// flaky is a server that hangs up at once while it is down.
func flaky(t *testing.T, down *atomic.Bool) *server {
	return startServer(t, func(s *server) {
		s.begin = func(c *serverConn) {
			if down.Load() {
				c.kill()
				return
			}
			c.settings(maxStreams(1)...)
		}
	})
}

func fastBackoff(c *Config) {
	c.Backoff = policy.Backoff{Base: 80 * time.Millisecond, Max: 320 * time.Millisecond}
}

// endpointOf returns what the pool knows of an address.
func endpointOf(t *testing.T, p *Pool, addr string) *endpoint {
	t.Helper()
	e, ok := p.Default().endpoints.Load(addr)
	require.True(t, ok, "the pool does not know %s", addr)
	return e.(*endpoint)
}

func (e *endpoint) failures() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.dial.failures
}

func TestBackoff_OpenFailsAtOnceWithTheLastErrorMeanwhile(t *testing.T) {
	t.Parallel()
	var down atomic.Bool
	down.Store(true)
	server := flaky(t, &down)
	p := newPool(t, func(c *Config) { c.Backoff = policy.Backoff{Base: time.Minute, Max: time.Minute} })
	first := receive(t, "the end of Open", goOpen(t.Context(), p, server.addr))
	want := requireDialError(t, first, server.addr, patience)
	require.False(t, want.InBackoff)
	down.Store(false) // which nobody looks at now
	for range 20 {
		got := receive(t, "the end of Open", goOpen(t.Context(), p, server.addr, mustNotWait(t)))
		require.Equal(t, &DialError{Address: want.Address, Err: want.Err, InBackoff: true}, got.err)
		require.Less(t, got.took, slack)
	}
	require.EqualValues(t, 1, server.accepts.Load())
}

// The dial that a call has made is its own, also when it fails before the call has begun to wait for it.
func TestBackoff_DialThatFailsAtOnceWasTriedForTheCallThatAskedForIt(t *testing.T) {
	t.Parallel()
	addr := refusing.Address(t)
	mayWait := OpenOptions{Wait: func() (func(), bool) { return func() {}, true }}
	for range 300 {
		for _, opts := range []OpenOptions{{}, mayWait} {
			p := newPool(t, func(c *Config) { c.Backoff = policy.Backoff{Base: time.Minute, Max: time.Minute} })
			got := receive(t, "the end of Open", goOpen(t.Context(), p, addr, opts))
			require.False(t, requireDialError(t, got, addr, patience).InBackoff)
			p.Close()
		}
	}
}

func TestBackoff_DialsAreFewHoweverManyCallsThereAre(t *testing.T) {
	t.Parallel()
	for name, begin := range map[string]func(c *serverConn){
		"hangs up": (*serverConn).kill,
		"goes away at once": func(c *serverConn) {
			c.settings()
			c.goAway(0)
		},
		"ends after its SETTINGS": func(c *serverConn) {
			c.settings()
			_ = c.nc.Close()
		},
		"takes no streams": func(c *serverConn) { c.settings(maxStreams(0)...) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := startServer(t, func(s *server) { s.begin = begin })
			p := newPool(t, fastBackoff)
			start := time.Now()
			calls := 0
			for ; time.Since(start) < time.Second || server.accepts.Load() < 4 && time.Since(start) < patience; calls++ {
				s, err := made(p.Default().Open(t.Context(), server.addr, hdr, OpenOptions{}))
				var dialErr *DialError
				if err == nil { // it was faster than the end of the connection
					require.Error(t, ends(t, s))
					s.Close()
				} else {
					require.ErrorAs(t, err, &dialErr)
				}
				time.Sleep(100 * time.Microsecond) // many calls, but not all of a processor
			}
			// At most, with a quarter off each rest: at 0, 60, 180, 420, 660 and 900 ms.
			window, most := time.Since(start), 1
			for at, failures := time.Duration(0), 1; ; failures++ {
				if at += (policy.Backoff{Base: 80 * time.Millisecond, Max: 320 * time.Millisecond}).After(failures, 1); at > window {
					break
				}
				most++
			}
			if name != "hangs up" && name != "takes no streams" {
				most *= 2 // a stream may have been opened in time, which is not the same as a failed dial
			}
			accepts := int(server.accepts.Load())
			t.Logf("%d calls, %d dials, %d expected at most", calls, accepts, most)
			require.LessOrEqual(t, accepts, most)
			require.GreaterOrEqual(t, accepts, 4, "it must be tried again")
			require.Greater(t, calls, 10*accepts)
		})
	}
}

// An endpoint may take connections only to end them: that is a failure too, and in a row if nothing else comes between.
func TestBackoff_ConnectionThatEndsUnusedIsAFailure(t *testing.T) {
	t.Parallel()
	no := OpenOptions{Wait: func() (func(), bool) { return nil, false }} // has a connection made, and does not use it
	server := startServer(t, nil)
	for name, end := range map[string]func(c *serverConn){
		"closed":         (*serverConn).kill,
		"told to goaway": func(c *serverConn) { c.goAway(0) },
	} {
		t.Run(name, func(t *testing.T) {
			p := newPool(t, func(c *Config) { c.Backoff = policy.Backoff{Base: time.Millisecond, Max: time.Minute} })
			e, err := p.Default().endpoint(server.addr)
			require.NoError(t, err)
			for i := range 4 {
				eventually(t, "a connection", func() bool {
					e.mu.Lock()
					defer e.unlock()
					e.dial.spare = len(*e.usable.Load()) == 0
					e.dialLocked()
					return len(*e.usable.Load()) == 1
				})
				end(server.all()[len(server.all())-1])
				usable(t, p, server.addr, 0)
				require.Equal(t, i+1, e.failures())
			}
		})
		t.Run(name+", then calls fail at once", func(t *testing.T) {
			p := newPool(t, func(c *Config) { c.Backoff = policy.Backoff{Base: time.Minute, Max: time.Minute} })
			_, err := p.Default().Open(t.Context(), server.addr, hdr, no)
			require.Error(t, err)
			usable(t, p, server.addr, 1)
			end(server.all()[len(server.all())-1])
			usable(t, p, server.addr, 0)
			got := receive(t, "the end of Open", goOpen(t.Context(), p, server.addr, mustNotWait(t)))
			require.ErrorIs(t, requireDialError(t, got, server.addr, patience), errGoneAtOnce)
		})
		t.Run(name+", but was used", func(t *testing.T) {
			p := newPool(t, func(c *Config) { c.Backoff = policy.Backoff{Base: time.Minute, Max: time.Minute} })
			open(t, p, server.addr).Close()
			end(server.all()[len(server.all())-1])
			usable(t, p, server.addr, 0)
			open(t, p, server.addr).Close()
		})
	}
}

func TestBackoff_SuccessResetsIt(t *testing.T) {
	t.Parallel()
	var down atomic.Bool
	down.Store(true)
	server := flaky(t, &down)
	p := newPool(t, func(c *Config) { c.Backoff = policy.Backoff{Base: time.Millisecond, Max: 2 * time.Millisecond} })
	eventually(t, "three failed dials", func() bool {
		_, err := p.Default().Open(t.Context(), server.addr, hdr, OpenOptions{})
		require.Error(t, err)
		return endpointOf(t, p, server.addr).failures() >= 3
	})
	down.Store(false)
	var s *Stream
	eventually(t, "a stream", func() (ok bool) {
		var err error
		s, err = made(p.Default().Open(t.Context(), server.addr, hdr, OpenOptions{}))
		return err == nil
	})
	require.Zero(t, endpointOf(t, p, server.addr).failures())
	s.Close()
}

// With a connection in use a failed dial fails no call. Calls that wait get a further connection when one can be made.
func TestBackoff_FailedGrowthOnlyDelaysGrowth(t *testing.T) {
	t.Parallel()
	var down atomic.Bool
	server := flaky(t, &down)
	p := newPool(t, func(c *Config) {
		fastBackoff(c)
		c.Connections.Max, c.WhenFull = 3, policy.WhenFullWait
	})
	open(t, p, server.addr)
	open(t, p, server.addr)
	usable(t, p, server.addr, 3) // one is kept ready
	for _, c := range server.all()[2:] {
		down.Store(true)
		c.kill()
	}
	usable(t, p, server.addr, 2)
	result := goOpen(t.Context(), p, server.addr)
	waiting(t, p, server.addr, 1)
	eventually(t, "three failed dials", func() bool { return endpointOf(t, p, server.addr).failures() >= 3 })
	select {
	case got := <-result:
		t.Fatalf("Open did not wait: %v", got.err)
	default:
	}
	require.LessOrEqual(t, server.accepts.Load(), int64(10))
	down.Store(false)
	require.NoError(t, receive(t, "a stream", result).err)
	require.Zero(t, endpointOf(t, p, server.addr).failures())
}

func TestNoStreams_FailsAtOnceUntilTheLimitIsRaised(t *testing.T) {
	t.Parallel()
	server := startServer(t, func(s *server) { s.first = maxStreams(0) })
	p := newPool(t, func(c *Config) { c.Backoff = policy.Backoff{Base: time.Minute, Max: time.Minute} })
	for range 20 { // the first after a dial
		got := receive(t, "the end of Open", goOpen(t.Context(), p, server.addr))
		require.ErrorIs(t, requireDialError(t, got, server.addr, patience), errNoStreams)
		require.Less(t, got.took, patience/10)
	}
	require.EqualValues(t, 1, server.accepts.Load())
	require.Equal(t, Stats{Endpoints: 1, Connections: 1}, p.Stats(), "the connection stays")
	receive(t, "a connection", server.accepted).settings(maxStreams(1)...)
	var s *Stream
	eventually(t, "a stream", func() (ok bool) {
		var err error
		s, err = made(p.Default().Open(t.Context(), server.addr, hdr, mustNotWait(t)))
		var dialErr *DialError
		require.True(t, err == nil || errors.As(err, &dialErr) && errors.Is(err, errNoStreams), "%v", err)
		return err == nil
	})
	s.Close()
}

// Those who wait for a slot hear that there will be none.
func TestNoStreams_EndsCallsThatWait(t *testing.T) {
	t.Parallel()
	server := startServer(t, func(s *server) { s.first = maxStreams(1) })
	p := newPool(t, func(c *Config) { c.Connections.Max, c.WhenFull = 1, policy.WhenFullWait })
	s := open(t, p, server.addr)
	var results []<-chan opened
	for range 5 {
		results = append(results, goOpen(t.Context(), p, server.addr))
	}
	waiting(t, p, server.addr, 5)
	receive(t, "a connection", server.accepted).settings(maxStreams(0)...)
	for _, r := range results {
		got := receive(t, "the end of Open", r)
		require.ErrorIs(t, requireDialError(t, got, server.addr, patience), errNoStreams)
	}
	notEnded(t, "the stream that there is", s.Done())
}

func TestEndpoints_SayWhyThereIsNoConnection(t *testing.T) {
	t.Parallel()
	var down atomic.Bool
	down.Store(true)
	server := flaky(t, &down)
	p := newPool(t, func(c *Config) { c.Backoff = policy.Backoff{Base: time.Millisecond, Max: 2 * time.Millisecond} })
	failure := requireDialError(t, receive(t, "the end of Open", goOpen(t.Context(), p, server.addr)), server.addr, patience)
	require.Same(t, failure, p.Endpoints()[0].Failure)
	down.Store(false)
	eventually(t, "a stream", func() bool {
		s, err := made(p.Default().Open(t.Context(), server.addr, hdr, OpenOptions{}))
		if err == nil {
			s.Close()
		}
		return err == nil
	})
	require.Nil(t, p.Endpoints()[0].Failure)
}
