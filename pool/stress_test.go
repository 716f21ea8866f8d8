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

	"github.com/framegate/framegate/pool/h2conn"
)

// A server that sends its connections away every 50 streams, in each of the ways there are, and answers streams in each
// of the ways there are, under 64 goroutines that use them in each of the ways there are: nothing hangs, nothing is left.
func TestStress_ServerGoesAwayAllTheTime(t *testing.T) {
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
		c.MaxConnections, c.StreamsPerConnection, c.IdleTimeout = 4, 8, 50*time.Millisecond
		c.Keepalive = h2conn.Keepalive{Time: 10 * time.Millisecond, Timeout: patience}
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
			go s.Reset(errDone) // races with Close
		case 2:
			s.Reset(errDone)
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
				s, err := p.Default().Open(ctx, server.addr, hdr, OpenOptions{})
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
	t.Logf("%d opens, %d failed, %d again, %d connections, %d times sent away", opens.Load(), failed.Load(), again.Load(), server.accepts.Load(), goneAway.Load())
	require.Less(t, failed.Load(), opens.Load()/10, "GOAWAY is no reason to fail")
	require.Greater(t, goneAway.Load(), int64(20))
	eventually(t, "nothing", func() bool { return p.Stats() == Stats{} })
	(&sharedServer{server}).waitNoConnection(t)
}
