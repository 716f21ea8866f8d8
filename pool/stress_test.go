package pool

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"

	"github.com/framegate/framegate/pool/policy"
	"github.com/framegate/framegate/pool/transport"
)

// A server that sends its connections away every 50 streams, in each of the ways there are, and answers streams in each
// of the ways there are, under 64 goroutines that use them in each of the ways there are: nothing hangs, nothing is
// left.
func TestStress_ServerGoesAwayAllTheTime(t *testing.T) {
	t.Parallel()
	const goroutines, calls = 64, 60
	var goneAway atomic.Int64
	server := startServer(t, func(s *server) {
		s.first = maxStreams(40)
		s.onHeaders = func(c *serverConn, stream uint32) {
			switch stream / 2 % 5 {
			case 0:
				c.finish(stream)
			case 1:
				c.headers(stream)
			case 2:
				c.reset(stream, http2.ErrCodeRefusedStream)
			case 3:
				c.reset(stream, http2.ErrCodeInternal)
			case 4: // nothing
			}
			if c.opened%50 != 0 {
				return
			}
			switch goneAway.Add(1) % 6 {
			case 0:
				c.kill()
			case 1:
				c.goAway(stream - 20)
			case 2:
				c.goAway(0)
			case 3:
				c.goAway(stream)
			default:
				c.goAway(math.MaxInt32)
				c.goAway(stream)
			}
		}
	})
	p := newPool(t, func(c *Config) {
		c.Connections.Max, c.StreamsPerConnection, c.IdleTimeout = 4, 8, 50*time.Millisecond
		c.Keepalive = policy.Keepalive{Time: 10 * time.Millisecond, Timeout: patience}
	})
	ctx, cancel := context.WithTimeout(t.Context(), 3*patience)
	defer cancel()
	var opens, failed, again atomic.Int64
	atMost := func(s *Stream, d time.Duration) {
		timer := time.NewTimer(d)
		defer timer.Stop()
		select {
		case <-s.Done():
		case <-timer.C:
		}
	}
	use := func(s *Stream, how int) {
		switch how {
		case 0: // closed at once
		case 1:
			go s.Reset(errTest) // races with Close
		case 2:
			s.Reset(errTest)
			_, _ = s.Header()
		case 3, 4:
			_ = s.Write(payload("request"))
			atMost(s, 3*time.Millisecond)
		default:
			_ = s.CloseSend()
			atMost(s, 3*time.Millisecond)
		}
	}
	var wg sync.WaitGroup
	for g := range goroutines {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(g), 6))
			for range calls {
				s, err := made(p.Default().Open(ctx, server.addr, hdr, OpenOptions{}))
				opens.Add(1)
				var d *DialError
				if err != nil {
					if failed.Add(1); !errors.As(err, &d) {
						t.Errorf("Open: %v, want nil or a *DialError", err)
						return
					}
					continue
				}
				use(s, rnd.IntN(9))
				if s.Unprocessed() {
					if next, err := reopen(ctx, p, s); err == nil {
						again.Add(1)
						use(next, rnd.IntN(9))
						next.Close()
					} else if !errors.As(err, &d) {
						t.Errorf("Reopen: %v, want nil or a *DialError", err)
					}
				}
				_, _ = s.ResetCode()
				s.Close()
				_ = p.Stats()
			}
		})
	}
	awaitCalls(t, &wg)
	t.Logf("%d opens, %d failed, %d again, %d connections, %d times sent away", opens.Load(), failed.Load(), again.Load(), server.accepts.Load(), goneAway.Load())
	require.Less(t, failed.Load(), opens.Load()/10, "GOAWAY is no reason to fail")
	require.Greater(t, goneAway.Load(), int64(20))
	eventually(t, "nothing", func() bool { return p.Stats() == Stats{} })
	(&sharedServer{server}).waitNoConnection(t)
}

// Limits that fall and rise, connections that are killed, old, idle and left, calls that give up, in every policy at
// once: every Open says what it may, nothing hangs, no slot is lost.
func TestStress_PoliciesUnderAChangingServer(t *testing.T) {
	t.Parallel()
	const goroutines, calls = 12, 150
	server := startServer(t, func(s *server) {
		s.first = maxStreams(4)
		s.onHeaders = func(c *serverConn, stream uint32) { c.finish(stream) }
	})
	p := newPool(t, nil)
	var groups []*Group
	for _, whenFull := range []policy.WhenFull{policy.WhenFullWait, policy.WhenFullFail, policy.WhenFullGrow} {
		groups = append(groups, p.Group(Config{
			Connections: policy.Connections{Min: 1, Max: 2}, StreamsPerConnection: 3, WhenFull: whenFull,
			ConnectTimeout: 200 * time.Millisecond, IdleTimeout: 20 * time.Millisecond, MaxAge: 50 * time.Millisecond,
			Backoff: policy.Backoff{Base: time.Millisecond, Max: 5 * time.Millisecond},
		}))
	}
	open(t, p, server.addr).Close() // so that there is a connection to disturb
	stop := make(chan struct{})
	var disturb, wg sync.WaitGroup
	disturb.Go(func() {
		rnd := rand.New(rand.NewPCG(1, 8))
		tick := time.NewTicker(500 * time.Microsecond)
		defer tick.Stop()
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			case <-tick.C:
			}
			conns := server.all()
			c := conns[max(0, len(conns)-1-rnd.IntN(8))] // one of the last, if there are so many
			switch rnd.IntN(12) {
			case 0:
				c.kill()
			case 1:
				c.goAway(math.MaxInt32)
			case 2:
				p.Leave(server.addr)
			default:
				c.settings(maxStreams(uint32(rnd.IntN(5)))...)
			}
		}
	})
	var ok, failed, full, gaveUp, waits atomic.Int64
	for _, g := range groups {
		for i := range goroutines {
			wg.Go(func() {
				rnd := rand.New(rand.NewPCG(uint64(i), 9))
				for range calls {
					ctx, cancel := t.Context(), func() {}
					if rnd.IntN(2) == 0 {
						ctx, cancel = context.WithTimeout(ctx, time.Duration(rnd.IntN(3000))*time.Microsecond)
					}
					opts := OpenOptions{Wait: func() (func(), bool) {
						if rnd.IntN(10) == 0 {
							return nil, false
						}
						waits.Add(1)
						return func() { waits.Add(-1) }, true
					}}
					s, err := made(g.Open(ctx, server.addr, hdr, opts))
					var dialErr *DialError
					var fullErr *FullError
					switch {
					case err == nil:
						ok.Add(1)
						_, _ = s.Header()
						if s.Unprocessed() {
							if next, err := g.Open(ctx, server.addr, hdr, OpenOptions{Avoid: s.Conn()}); err == nil {
								next.Close()
							}
						}
						_ = s.Silent()
						s.Close()
					case errors.As(err, &dialErr):
						failed.Add(1)
					case errors.As(err, &fullErr):
						full.Add(1)
					case ctx.Err() != nil && errors.Is(err, ctx.Err()):
						gaveUp.Add(1)
					default:
						t.Errorf("Open: %v", err)
					}
					cancel()
				}
			})
		}
	}
	done := make(chan struct{})
	go func() {
		wg.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(6 * patience):
		t.Fatal("calls hang")
	}
	close(stop)
	disturb.Wait()
	t.Logf("%d streams, %d failed, %d full, %d gave up, %d connections", ok.Load(), failed.Load(), full.Load(), gaveUp.Load(), server.accepts.Load())
	require.NotZero(t, ok.Load())
	require.NotZero(t, full.Load())
	require.NotZero(t, gaveUp.Load())
	require.Zero(t, waits.Load(), "calls that wait and were not said to have ended it")
	require.Zero(t, p.Stats().Streams)
	for g := range p.all() {
		for e := range g.all() {
			require.Zero(t, e.waiting.Load())
			require.Nil(t, e.queue.first)
		}
	}
	p.Leave(server.addr)
	eventually(t, "nothing", func() bool { return p.Stats() == Stats{} })
	(&sharedServer{server}).waitNoConnection(t)
}

// Calls that do not block beside calls that do, in two pools, while connections come and go and limits change: every call is
// answered once, and no slot is lost.
func TestStress_WaitingCalls(t *testing.T) {
	t.Parallel()
	server := startServer(t, func(s *server) {
		s.first = maxStreams(4)
		s.onHeaders = func(c *serverConn, stream uint32) {
			switch {
			case c.opened == 40:
				c.goAway(stream)
				c.finish(stream)
			case c.opened%9 == 0:
				c.settings(maxStreams(uint32(1 + c.opened%4))...)
				c.finish(stream)
			case c.opened%25 == 0:
				c.kill()
			default:
				c.finish(stream)
			}
		}
	})
	pools := []*Pool{}
	for range 2 {
		pools = append(pools, newPool(t, func(c *Config) {
			fastBackoff(c)
			c.Connections.Max, c.StreamsPerConnection, c.WhenFull, c.ConnectTimeout = 2, 3, policy.WhenFullWait, 300*time.Millisecond
		}))
	}
	const goroutines, calls = 24, 60
	var got, again, failed, canceled, waits atomic.Int64
	gone := errors.New("gone")
	one := func(p *Pool, rnd *rand.Rand) {
		var avoid transport.Conn
		if slot, ok := p.Default().Take(server.addr, nil); ok {
			avoid = slot.Conn()
			slot.Release()
		}
		opts := WaitOptions{OpenOptions: OpenOptions{Wait: func() (func(), bool) {
			waits.Add(1)
			return func() { waits.Add(-1) }, true
		}}}
		if rnd.IntN(4) == 0 {
			opts.Avoid = avoid
		}
		var w Waiting
		defer w.End()
		answers := make(chan answer, 1)
		p.Default().Wait(&w, server.addr, opts, func(slot Slot, err error) { answers <- answer{slot, err} })
		if rnd.IntN(3) == 0 {
			after := time.AfterFunc(time.Duration(rnd.IntN(500))*time.Microsecond, func() { w.Cancel(gone) })
			defer after.Stop()
		}
		for {
			a := receive(t, "an answer", answers)
			var dial *DialError
			var full *FullError
			switch {
			case errors.Is(a.err, gone):
				canceled.Add(1)
				return
			case errors.As(a.err, &dial), errors.As(a.err, &full):
				failed.Add(1)
				return
			case a.err != nil:
				t.Errorf("Wait: %v", a.err)
				return
			}
			s, err := a.slot.Open(t.Context(), hdr)
			if err == nil {
				got.Add(1)
				s.Close()
				return
			}
			again.Add(1)
			w.Again(err)
		}
	}
	var wg sync.WaitGroup
	for i := range goroutines {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(i), 11))
			p := pools[i%2]
			for n := range calls {
				if (i+n)%3 == 0 {
					if s, err := p.Default().Open(t.Context(), server.addr, hdr, OpenOptions{}); err == nil {
						s.Close()
					}
					continue
				}
				one(p, rnd)
			}
		})
	}
	awaitCalls(t, &wg)
	t.Logf("%d streams, %d again, %d failed, %d canceled", got.Load(), again.Load(), failed.Load(), canceled.Load())
	require.NotZero(t, got.Load())
	require.NotZero(t, canceled.Load())
	require.Zero(t, waits.Load())
	for _, p := range pools {
		waiting(t, p, server.addr, 0)
		require.Zero(t, p.Stats().Streams)
		e := endpointOf(t, p, server.addr)
		e.mu.Lock()
		require.Nil(t, e.queue.first)
		require.Nil(t, e.dial.joined.first)
		e.mu.Unlock()
	}
}

// awaitCalls waits until all calls have ended.
func awaitCalls(t *testing.T, wg *sync.WaitGroup) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		wg.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(3 * patience):
		t.Fatal("calls hang")
	}
}
