package pool

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"

	"github.com/framegate/framegate/pool/kitexconn"
	"github.com/framegate/framegate/pool/policy"
	"github.com/framegate/framegate/pool/transport"
)

// mustNotWait fails the test when a call has to wait.
func mustNotWait(t *testing.T) OpenOptions {
	return OpenOptions{Wait: func() (func(), bool) {
		t.Error("a call had to wait")
		return nil, false
	}}
}

func TestMax_IsKeptAndStreamsPerConnectionToo(t *testing.T) {
	t.Parallel()
	const most, perConn = 3, 2
	server := startServer(t, nil)
	p := newPool(t, func(c *Config) {
		c.Connections.Max, c.StreamsPerConnection, c.WhenFull = most, perConn, policy.WhenFullWait
	})
	for range most * perConn {
		open(t, p, server.addr)
	}
	for _, c := range usable(t, p, server.addr, most) {
		require.Equal(t, perConn, c.Streams())
	}
	var results []<-chan opened
	for range 20 {
		results = append(results, goOpen(t.Context(), p, server.addr))
	}
	waiting(t, p, server.addr, 20)
	require.EqualValues(t, most, server.accepts.Load())
	require.Equal(t, most*perConn, p.Stats().Streams)
	p.Close()
	for _, r := range results {
		require.ErrorIs(t, receive(t, "the end of Open", r).err, ErrClosed)
	}
}

func TestFull_GrowMakesFiveTimesMaxAndThenWaits(t *testing.T) {
	t.Parallel()
	const most = 2
	server := startServer(t, func(s *server) { s.first = maxStreams(1) })
	p := newPool(t, func(c *Config) { c.Connections.Max = most })
	var streams []*Stream
	for range 5 * most {
		streams = append(streams, open(t, p, server.addr))
	}
	require.EqualValues(t, 5*most, server.accepts.Load())
	result := goOpen(t.Context(), p, server.addr)
	waiting(t, p, server.addr, 1)
	streams[3].Close()
	got := receive(t, "a slot", result)
	require.NoError(t, got.err)
	require.Same(t, streams[3].conn, got.stream.conn)
	require.EqualValues(t, 5*most, server.accepts.Load())
}

func TestFull_FailFailsAtOnce(t *testing.T) {
	t.Parallel()
	server := startServer(t, nil)
	p := newPool(t, func(c *Config) { c.Connections.Max, c.StreamsPerConnection, c.WhenFull = 2, 3, policy.WhenFullFail })
	var streams []*Stream
	for range 6 { // the first waits for a dial, which is no reason to fail
		streams = append(streams, open(t, p, server.addr))
	}
	for range 5 {
		opts := mustNotWait(t)
		got := receive(t, "the end of Open", goOpen(t.Context(), p, server.addr, opts))
		require.ErrorIs(t, requireFullError(t, got, server.addr, 2), errNoStream)
		require.Less(t, got.took, patience/10)
	}
	require.EqualValues(t, 2, server.accepts.Load())
	streams[0].Close()
	open(t, p, server.addr)
}

// While a further connection is being made the endpoint is not full; those who then find no room fail.
func TestFull_FailWaitsForAConnectionThatIsBeingMade(t *testing.T) {
	t.Parallel()
	hold := make(chan struct{})
	server := startServer(t, func(s *server) {
		s.begin = func(c *serverConn) {
			if s.accepts.Load() > 1 {
				<-hold
			}
			c.settings(maxStreams(1)...)
		}
	})
	p := newPool(t, func(c *Config) { c.Connections.Max, c.WhenFull = 2, policy.WhenFullFail })
	open(t, p, server.addr)
	first, second := goOpen(t.Context(), p, server.addr), (<-chan opened)(nil)
	waiting(t, p, server.addr, 1)
	second = goOpen(t.Context(), p, server.addr)
	waiting(t, p, server.addr, 2)
	close(hold)
	require.NoError(t, receive(t, "a slot", first).err)
	requireFullError(t, receive(t, "the end of Open", second), server.addr, 2)
}

// A call that comes first is served first, and one that comes when others wait does not get ahead of them.
func TestFull_CallsAreServedInTheirOrder(t *testing.T) {
	t.Parallel()
	const waiters = 30
	server := startServer(t, nil)
	p := newPool(t, func(c *Config) { c.Connections.Max, c.StreamsPerConnection, c.WhenFull = 1, 1, policy.WhenFullWait })
	holder := open(t, p, server.addr)
	served := make(chan int, waiters)
	streams := make([]*Stream, waiters)
	for i := range waiters {
		result := goOpen(t.Context(), p, server.addr)
		go func() {
			got := <-result
			if got.err != nil {
				t.Errorf("Open: %v", got.err)
			}
			streams[i] = got.stream
			served <- i
		}()
		waiting(t, p, server.addr, i+1)
	}
	holder.Close()
	for i := range waiters {
		require.Equal(t, i, receive(t, "a slot", served))
		require.Empty(t, served, "one slot serves one call")
		streams[i].Close()
	}
	waiting(t, p, server.addr, 0)
	require.Zero(t, p.Stats().Streams)
}

// A call that comes just when a slot becomes free leaves it to those who wait.
func TestFull_NobodyGetsAheadOfThoseWhoWait(t *testing.T) {
	t.Parallel()
	server := startServer(t, nil)
	p := newPool(t, func(c *Config) { c.Connections.Max, c.StreamsPerConnection, c.WhenFull = 1, 1, policy.WhenFullWait })
	holder := open(t, p, server.addr)
	first := goOpen(t.Context(), p, server.addr)
	waiting(t, p, server.addr, 1)
	e := endpointOf(t, p, server.addr)
	e.mu.Lock() // the slot that becomes free cannot be given to the first yet
	closed := make(chan struct{})
	go func() {
		holder.Close()
		close(closed)
	}()
	eventually(t, "a free slot", func() bool { return holder.conn.Streams() == 0 })
	second := goOpen(t.Context(), p, server.addr)
	select {
	case <-second:
		t.Error("the second call got the slot")
	case <-time.After(50 * time.Millisecond):
	}
	e.mu.Unlock()
	got := receive(t, "a slot", first)
	require.NoError(t, got.err)
	receive(t, "the end of Close", closed)
	waiting(t, p, server.addr, 1)
	got.stream.Close()
	require.NoError(t, receive(t, "a slot", second).err)
}

// A call that was served and lost its slot again, because the peer lowered its limit meanwhile, does not lose its
// place.
func TestFull_CallThatLosesItsSlotKeepsItsPlace(t *testing.T) {
	t.Parallel()
	var q queue
	ws := make([]*Waiting, 5)
	for i := range ws {
		ws[i] = &Waiting{}
		q.add(ws[i])
	}
	for _, i := range []int{0, 1, 3} {
		q.remove(ws[i])
	}
	for _, i := range []int{1, 0, 3} {
		q.putBack(ws[i])
	}
	for i, want := range ws {
		require.Same(t, want, q.first, "place %d", i)
		q.remove(want)
	}
	require.Equal(t, queue{arrivals: 5}, q)
}

// The peer may lower its limit between the taking of a slot and the stream: the transport would wait then, for nobody
// knows what.
func TestFull_SlotThatWasTakenBeforeTheLimitFellIsGivenBack(t *testing.T) {
	t.Parallel()
	server := startServer(t, func(s *server) { s.first = maxStreams(2) })
	p := newPool(t, func(c *Config) { c.Connections.Max, c.WhenFull = 1, policy.WhenFullWait })
	s, end, _ := stream(t, p, server)
	require.True(t, s.conn.take())
	end.settings(maxStreams(1)...)
	limitIs(t, s.conn, 1)
	result := make(chan error, 1)
	go func() {
		_, err := s.conn.open(t.Context(), hdr)
		result <- err
	}()
	require.ErrorIs(t, receive(t, "the end of open", result), transport.ErrOverLimit)
	require.Equal(t, 1, p.Stats().Streams)
	end.settings(maxStreams(2)...)
	limitIs(t, s.conn, 2)
	require.NoError(t, receive(t, "an open", goOpen(t.Context(), p, server.addr, mustNotWait(t))).err)
}

// A call whose time is over just after its connection had no room for it says that its time is over.
func TestFull_CallThatEndsAfterItsSlotWasRefused(t *testing.T) {
	t.Parallel()
	server := startServer(t, nil)
	ctx, cancel := context.WithCancel(t.Context())
	p := New(Config{ConnectTimeout: patience, IdleTimeout: -1}, refusingDialer{cancel}, discard)
	t.Cleanup(p.Close)
	_, err := p.Default().Open(ctx, server.addr, hdr, OpenOptions{}) // waits for the connection
	require.ErrorIs(t, err, context.Canceled)
	ctx, cancel = context.WithCancel(t.Context())
	c, ok := p.Default().Take(server.addr, nil)
	require.True(t, ok)
	c.conn.tr.(*refusingConn).cancel = cancel
	c.Release()
	_, err = p.Default().Open(ctx, server.addr, hdr, OpenOptions{}) // finds the connection
	require.ErrorIs(t, err, context.Canceled)
	require.Zero(t, p.Stats().Streams)
}

// refusingDialer makes connections whose peers lower their limits, after which the call is cancelled.
type refusingDialer struct{ cancel context.CancelFunc }

func (d refusingDialer) Dial(ctx context.Context, addr string, p *policy.Policy, o transport.Owner) (transport.Conn, error) {
	c, err := kitexconn.Dialer{}.Dial(ctx, addr, p, o)
	return &refusingConn{c, d.cancel}, err
}

type refusingConn struct {
	transport.Conn
	cancel context.CancelFunc
}

func (c *refusingConn) Open(context.Context, *transport.Header) (transport.Stream, error) {
	c.cancel()
	return nil, transport.ErrOverLimit
}

// A call that gives up while it is being served passes the slot on.
func TestFull_CallsThatGiveUpLoseNoSlot(t *testing.T) {
	t.Parallel()
	const limit = 3
	server := startServer(t, nil)
	p := newPool(t, func(c *Config) { c.Connections.Max, c.StreamsPerConnection, c.WhenFull = 1, limit, policy.WhenFullWait })
	open(t, p, server.addr).Close()
	var wg sync.WaitGroup
	var gaveUp, got atomic.Int64
	for g := range 24 {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(g), 3))
			for n := 0; n < 150 || n < 100_000 && gaveUp.Load() == 0; n++ {
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(rnd.IntN(400))*time.Microsecond)
				s, err := p.Default().Open(ctx, server.addr, hdr, OpenOptions{})
				switch {
				case err == nil:
					got.Add(1)
					s.Close()
				case errors.Is(err, context.DeadlineExceeded):
					gaveUp.Add(1)
				default:
					t.Errorf("Open: %v", err)
				}
				cancel()
			}
		})
	}
	wg.Wait()
	t.Logf("%d streams, %d gave up", got.Load(), gaveUp.Load())
	require.NotZero(t, got.Load())
	require.NotZero(t, gaveUp.Load())
	require.Equal(t, Stats{Endpoints: 1, Connections: 1}, p.Stats())
	waiting(t, p, server.addr, 0)
	for range limit {
		require.NoError(t, receive(t, "an open", goOpen(t.Context(), p, server.addr, mustNotWait(t))).err)
	}
}

// With a deadline a call waits until then, and not only for ConnectTimeout.
func TestFull_DeadlineBoundsTheWait(t *testing.T) {
	t.Parallel()
	const timeout = 300 * time.Millisecond
	server := startServer(t, nil)
	p := newPool(t, func(c *Config) {
		c.Connections.Max, c.StreamsPerConnection, c.WhenFull, c.ConnectTimeout = 1, 1, policy.WhenFullWait, timeout
	})
	holder := open(t, p, server.addr)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	result := goOpen(ctx, p, server.addr)
	short, cancelShort := context.WithTimeout(t.Context(), 4*timeout)
	defer cancelShort()
	got := receive(t, "the end of Open", goOpen(short, p, server.addr))
	require.ErrorIs(t, got.err, context.DeadlineExceeded)
	require.GreaterOrEqual(t, got.took, 3*timeout)
	require.Empty(t, result, "the other's deadline is far")
	holder.Close()
	require.NoError(t, receive(t, "a slot", result).err)
}

// twoConnections gives an endpoint with two connections and the server's ends of them, in the order of the pool.
func twoConnections(t *testing.T, p *Pool, server *server) (conns []*conn, ends []*serverConn) {
	t.Helper()
	open(t, p, server.addr).Close()
	conns = usable(t, p, server.addr, 2)
	for _, c := range conns {
		for _, end := range server.all() {
			if end.nc.RemoteAddr().String() == c.tr.LocalAddr().String() {
				ends = append(ends, end)
			}
		}
	}
	require.Len(t, ends, 2)
	return conns, ends
}

func limitIs(t *testing.T, c *conn, limit uint32) {
	t.Helper()
	eventually(t, "the limit", func() bool { return c.tr.MaxStreams() == limit })
}

func TestFull_ConnectionIsNotWaitedForWhileAnotherHasRoom(t *testing.T) {
	t.Parallel()
	for _, whenFull := range []policy.WhenFull{policy.WhenFullWait, policy.WhenFullFail, policy.WhenFullGrow} {
		t.Run(string(whenFull), func(t *testing.T) {
			server := startServer(t, func(s *server) { s.first = maxStreams(10) })
			p := newPool(t, func(c *Config) { c.Connections.Min, c.Connections.Max, c.WhenFull = 2, 2, whenFull })
			conns, ends := twoConnections(t, p, server)
			open(t, p, server.addr)
			open(t, p, server.addr)
			require.Equal(t, 1, conns[0].Streams())
			ends[0].settings(maxStreams(1)...) // it is full now
			limitIs(t, conns[0], 1)
			for range 9 {
				got := receive(t, "an open", goOpen(t.Context(), p, server.addr, mustNotWait(t)))
				require.NoError(t, got.err)
				require.Same(t, conns[1], got.stream.conn)
			}
			require.EqualValues(t, 2, server.accepts.Load())
		})
	}
}

func TestFull_LimitsThatFallAndRiseAreFollowedOnEachConnection(t *testing.T) {
	t.Parallel()
	server := startServer(t, func(s *server) { s.first = maxStreams(10) })
	p := newPool(t, func(c *Config) { c.Connections.Min, c.Connections.Max, c.WhenFull = 2, 2, policy.WhenFullWait })
	conns, ends := twoConnections(t, p, server)
	ends[0].settings(maxStreams(0)...)
	limitIs(t, conns[0], 0)
	for range 10 { // passed by
		got := receive(t, "an open", goOpen(t.Context(), p, server.addr, mustNotWait(t)))
		require.NoError(t, got.err)
		require.Same(t, conns[1], got.stream.conn)
	}
	ends[1].settings(maxStreams(2)...) // far below what it has
	limitIs(t, conns[1], 2)
	var results []<-chan opened
	for i := range 4 {
		results = append(results, goOpen(t.Context(), p, server.addr))
		waiting(t, p, server.addr, i+1)
	}
	ends[0].settings(maxStreams(3)...)
	for _, r := range results[:3] {
		got := receive(t, "a slot", r)
		require.NoError(t, got.err)
		require.Same(t, conns[0], got.stream.conn)
	}
	waiting(t, p, server.addr, 1)
	ends[1].settings(maxStreams(11)...)
	require.NoError(t, receive(t, "a slot", results[3]).err)
	require.Equal(t, 3+11, p.Stats().Streams)
	require.EqualValues(t, 2, server.accepts.Load())
}

func TestFull_OneStreamAConnectionAndTenCallers(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		whenFull policy.WhenFull
		most     int
		held     bool // every call goes on until all are open
	}{
		"grow": {policy.WhenFullGrow, 2, true},
		"wait": {policy.WhenFullWait, 2, false},
	} {
		t.Run(name, func(t *testing.T) {
			const callers, calls = 10, 30
			server := startServer(t, func(s *server) {
				s.first = maxStreams(1)
				s.onHeaders = func(c *serverConn, stream uint32) { c.finish(stream) }
			})
			p := newPool(t, func(cfg *Config) { cfg.Connections.Max, cfg.WhenFull = c.most, c.whenFull })
			var wg, all sync.WaitGroup
			all.Add(callers)
			for range callers {
				wg.Go(func() {
					for i := range calls {
						s, err := made(p.Default().Open(t.Context(), server.addr, hdr, OpenOptions{}))
						if err != nil {
							t.Errorf("Open: %v", err)
							return
						}
						if c.held && i == 0 {
							all.Done()
							all.Wait()
						}
						if _, err := s.Header(); err != nil {
							t.Errorf("Header: %v", err)
						}
						s.Close()
					}
				})
			}
			wg.Wait()
			require.Zero(t, p.Stats().Streams)
			if c.held {
				require.EqualValues(t, callers, server.accepts.Load())
			} else {
				require.LessOrEqual(t, server.accepts.Load(), int64(c.most))
			}
		})
	}
}

// One call after the other needs one connection, however few streams each may have.
func TestOpen_CallsInARowNeedOneConnection(t *testing.T) {
	t.Parallel()
	server := startServer(t, func(s *server) { s.first = maxStreams(1) })
	p := newPool(t, nil)
	for range 50 {
		open(t, p, server.addr).Close()
	}
	require.LessOrEqual(t, server.accepts.Load(), int64(2), "with one kept ready")
}

func TestWait_IsAskedOnceAndOnlyOfCallsThatMustWait(t *testing.T) {
	t.Parallel()
	server := startServer(t, nil)
	p := newPool(t, func(c *Config) { c.Connections.Max, c.StreamsPerConnection, c.WhenFull = 1, 2, policy.WhenFullWait })
	var asked, ended atomic.Int32
	opts := OpenOptions{Wait: func() (func(), bool) {
		asked.Add(1)
		return func() { ended.Add(1) }, true
	}}
	first := receive(t, "an open", goOpen(t.Context(), p, server.addr, opts)) // waits for a dial
	require.NoError(t, first.err)
	require.EqualValues(t, 1, asked.Load())
	require.EqualValues(t, 1, ended.Load())
	require.NoError(t, receive(t, "an open", goOpen(t.Context(), p, server.addr, opts)).err)
	require.EqualValues(t, 1, asked.Load(), "there was room")

	third := goOpen(t.Context(), p, server.addr, opts)
	waiting(t, p, server.addr, 1)
	require.EqualValues(t, 2, asked.Load())
	require.EqualValues(t, 1, ended.Load(), "it still waits")
	first.stream.Close()
	require.NoError(t, receive(t, "a slot", third).err)
	require.EqualValues(t, 2, asked.Load())
	require.EqualValues(t, 2, ended.Load())

	ctx, cancel := context.WithCancel(t.Context())
	fourth := goOpen(ctx, p, server.addr, opts)
	waiting(t, p, server.addr, 1)
	cancel()
	require.ErrorIs(t, receive(t, "the end of Open", fourth).err, context.Canceled)
	require.EqualValues(t, 3, asked.Load())
	require.EqualValues(t, 3, ended.Load())
}

func TestWait_NoMeansFullAtOnceAndAConnectionForLaterCalls(t *testing.T) {
	t.Parallel()
	server := startServer(t, func(s *server) { s.first = []http2.Setting(maxStreams(1)) })
	p := newPool(t, func(c *Config) { c.Connections.Max, c.WhenFull = 1, policy.WhenFullWait })
	no := OpenOptions{Wait: func() (func(), bool) { return nil, false }}
	got := receive(t, "the end of Open", goOpen(t.Context(), p, server.addr, no))
	require.ErrorIs(t, requireFullError(t, got, server.addr, 0), errMayNotWait)
	usable(t, p, server.addr, 1)
	require.NoError(t, receive(t, "an open", goOpen(t.Context(), p, server.addr, no)).err)
	got = receive(t, "the end of Open", goOpen(t.Context(), p, server.addr, no))
	require.ErrorIs(t, requireFullError(t, got, server.addr, 1), errMayNotWait)
	waiting(t, p, server.addr, 0)
	require.Equal(t, 1, p.Stats().Streams)
}
