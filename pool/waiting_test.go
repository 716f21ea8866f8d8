package pool

import (
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/framegate/framegate/pool/policy"
	"github.com/framegate/framegate/pool/transport"
)

// answer is what the done of a wait got.
type answer struct {
	slot Slot
	err  error
}

// goWait waits for a slot without blocking.
func goWait(p *Pool, addr string, opts WaitOptions) (*Waiting, <-chan answer) {
	w, answers := new(Waiting), make(chan answer, 8)
	p.Default().Wait(w, addr, opts, func(slot Slot, err error) { answers <- answer{slot, err} })
	return w, answers
}

// full gives an endpoint whose only connection has its only slot in use.
func fullEndpoint(t *testing.T, change func(*Config)) (*Pool, *server, *Stream) {
	t.Helper()
	server := startServer(t, nil)
	p := newPool(t, func(c *Config) {
		c.Connections.Max, c.StreamsPerConnection, c.WhenFull = 1, 1, policy.WhenFullWait
		if change != nil {
			change(c)
		}
	})
	return p, server, open(t, p, server.addr)
}

func TestTake_TakesAFreeSlotAndNeverOneThatACallWaitsFor(t *testing.T) {
	t.Parallel()
	p, server, holder := fullEndpoint(t, nil)
	_, ok := p.Default().Take(server.addr, nil)
	require.False(t, ok)
	holder.Close()
	slot, ok := p.Default().Take(server.addr, nil)
	require.True(t, ok)
	require.Equal(t, holder.Conn(), slot.Conn())
	slot.Use()
	require.Equal(t, Stats{Endpoints: 1, Connections: 1, Streams: 1}, p.Stats())
	w, answers := goWait(p, server.addr, WaitOptions{})
	defer w.End()
	e := endpointOf(t, p, server.addr)
	e.mu.Lock() // the slot that becomes free cannot be given to the call that waits yet
	go slot.Release()
	eventually(t, "a free slot", func() bool { return holder.conn.Streams() == 0 })
	_, ok = p.Default().Take(server.addr, nil)
	e.mu.Unlock()
	require.False(t, ok, "the slot of a call that waits")
	a := receive(t, "a slot", answers)
	require.NoError(t, a.err)
	a.slot.Release()
	_, ok = p.Default().Take(server.addr, slot.Conn())
	require.False(t, ok, "the connection to avoid")
	p.Close()
	_, ok = p.Default().Take(server.addr, nil)
	require.False(t, ok)
}

// Calls that block and calls that do not are served in the order in which they came.
func TestWait_IsServedInOrderWithOpen(t *testing.T) {
	t.Parallel()
	p, server, holder := fullEndpoint(t, nil)
	var order []<-chan func()
	for i := range 10 {
		next := make(chan func(), 1)
		if i%2 == 0 {
			w := new(Waiting)
			p.Default().Wait(w, server.addr, WaitOptions{}, func(slot Slot, err error) {
				next <- func() { slot.Release() }
				w.End()
			})
		} else {
			got := goOpen(t.Context(), p, server.addr)
			go func() { next <- (<-got).stream.Close }()
		}
		waiting(t, p, server.addr, i+1)
		order = append(order, next)
	}
	free := holder.Close
	for i, next := range order {
		free()
		free = receive(t, "a slot in turn", next)
		for _, later := range order[i+1:] {
			require.Empty(t, later, "a call that came later")
		}
	}
	free()
	require.Zero(t, p.Stats().Streams)
}

func TestWait_CancelEndsItOnce(t *testing.T) {
	t.Parallel()
	why := errors.New("the client is gone")
	p, busy, holder := fullEndpoint(t, nil)
	w, answers := goWait(p, busy.addr, WaitOptions{})
	w.Cancel(why)
	w.Cancel(errors.New("again"))
	require.Equal(t, answer{err: why}, receive(t, "the end", answers))
	w.End()
	holder.Close()
	require.Empty(t, answers)
	waiting(t, p, busy.addr, 0)

	w, answers = goWait(p, busy.addr, WaitOptions{}) // gets a slot at once
	a := receive(t, "a slot", answers)
	w.Cancel(why)
	w.End()
	require.NoError(t, a.err)
	require.Empty(t, answers, "it was answered before")
	a.slot.Release()

	silent := startServer(t, func(s *server) { s.begin = func(*serverConn) {} })
	w, answers = goWait(p, silent.addr, WaitOptions{})
	w.Cancel(why)
	w.End()
	var dial *DialError
	require.ErrorAs(t, receive(t, "the end", answers).err, &dial, "there is no connection")
	require.ErrorIs(t, dial, why)
	require.Equal(t, silent.addr, dial.Address)
}

func TestWait_EndsAfterConnectTimeoutUnlessTheCallerHasADeadline(t *testing.T) {
	t.Parallel()
	const timeout = time.Second
	p, server, holder := fullEndpoint(t, func(c *Config) { c.ConnectTimeout = timeout })
	own, ownAnswers := goWait(p, server.addr, WaitOptions{OwnDeadline: true})
	defer own.End()
	w, answers := goWait(p, server.addr, WaitOptions{})
	var full *FullError
	require.ErrorAs(t, receive(t, "the end", answers).err, &full)
	require.ErrorIs(t, full, errNoStreamIn)
	why := errors.New("over the peer's limit")
	w.Again(why)
	var dial *DialError
	require.ErrorAs(t, receive(t, "the end", answers).err, &dial, "it has waited for as long as it may")
	require.ErrorIs(t, dial, why)
	w.End()
	require.Empty(t, ownAnswers)
	holder.Close()
	require.NoError(t, receive(t, "a slot", ownAnswers).err)
}

// A call that could not open its stream waits again in the place that it had.
func TestWait_AgainKeepsThePlace(t *testing.T) {
	t.Parallel()
	p, server, holder := fullEndpoint(t, nil)
	first, firstAnswers := goWait(p, server.addr, WaitOptions{})
	defer first.End()
	second, secondAnswers := goWait(p, server.addr, WaitOptions{})
	defer second.End()
	holder.Close()
	lost := receive(t, "a slot", firstAnswers)
	lost.slot.Use() // so that the second does not get it yet
	first.Again(transport.ErrOverLimit)
	waiting(t, p, server.addr, 2)
	lost.slot.Release()
	got := receive(t, "a slot", firstAnswers)
	require.Empty(t, secondAnswers)
	got.slot.Release()
	require.NoError(t, receive(t, "a slot", secondAnswers).err)
}

// done may use the pool as it likes.
func TestWait_AnswersWithoutALock(t *testing.T) {
	t.Parallel()
	p, server, holder := fullEndpoint(t, nil)
	var left atomic.Int64
	done := make(chan struct{})
	const calls = 50
	left.Store(calls)
	for range calls {
		w := new(Waiting)
		p.Default().Wait(w, server.addr, WaitOptions{}, func(slot Slot, err error) {
			if err != nil {
				t.Errorf("Wait: %v", err)
			} else {
				_, _ = p.Default().Take(server.addr, nil)
				_ = p.Endpoints()
				slot.Release() // answers the next one
			}
			w.End()
			if left.Add(-1) == 0 {
				close(done)
			}
		})
	}
	holder.Close()
	receive(t, "every call", done)
	w := new(Waiting)
	err := make(chan error, 1)
	p.Close()
	p.Default().Wait(w, server.addr, WaitOptions{}, func(_ Slot, e error) { p.Close(); err <- e })
	w.End()
	require.ErrorIs(t, receive(t, "the end", err), ErrClosed)
}

// A call that must not use a connection gets one that is made for it, and any other when none can be made.
func TestWait_AvoidsAConnection(t *testing.T) {
	t.Parallel()
	busy := startServer(t, nil)
	p := newPool(t, func(c *Config) { c.Connections.Max = 2 })
	s := open(t, p, busy.addr)
	var asked atomic.Int64
	opts := WaitOptions{OpenOptions: OpenOptions{Avoid: s.Conn(), Wait: func() (func(), bool) {
		asked.Add(1)
		return func() { asked.Add(-1) }, true
	}}}
	w, answers := goWait(p, busy.addr, opts)
	a := receive(t, "a slot", answers)
	require.NoError(t, a.err)
	require.NotEqual(t, s.Conn(), a.slot.Conn())
	require.EqualValues(t, 1, asked.Load())
	w.End()
	require.Zero(t, asked.Load())
	a.slot.Release()
	slot, ok := p.Default().Take(busy.addr, s.Conn())
	require.True(t, ok)
	require.Equal(t, a.slot.Conn(), slot.Conn())
	slot.Release()

	down := newPool(t, func(c *Config) { c.Connections.Max, c.ConnectTimeout = 2, time.Second })
	var silent atomic.Bool
	once := startServer(t, func(s *server) {
		s.begin = func(c *serverConn) {
			if !silent.Load() {
				c.settings()
			}
		}
	})
	s = open(t, down, once.addr)
	silent.Store(true)
	w, answers = goWait(down, once.addr, WaitOptions{OpenOptions: OpenOptions{Avoid: s.Conn()}})
	a = receive(t, "a slot", answers)
	require.NoError(t, a.err)
	require.Equal(t, s.Conn(), a.slot.Conn(), "the only one")
	w.End()
	a.slot.Release()
	eventually(t, "the end of the backoff", func() bool { return endpointOf(t, down, once.addr).dial.state() != dialBackingOff })
	_, answers = goWait(down, once.addr, WaitOptions{OpenOptions: OpenOptions{Avoid: s.Conn()}, OwnDeadline: true})
	down.Close()
	require.ErrorIs(t, receive(t, "the end", answers).err, ErrClosed)
}

func TestWait_RefusedCallsDoNotWait(t *testing.T) {
	t.Parallel()
	p, server, holder := fullEndpoint(t, nil)
	no := OpenOptions{Wait: func() (func(), bool) { return func() { t.Error("it has not waited") }, false }}
	w, answers := goWait(p, server.addr, WaitOptions{OpenOptions: no})
	w.End()
	var full *FullError
	require.ErrorAs(t, receive(t, "the end", answers).err, &full)
	waiting(t, p, server.addr, 0)
	holder.Close()
	w, answers = goWait(p, server.addr, WaitOptions{OpenOptions: no})
	require.NoError(t, receive(t, "a slot", answers).err, "it need not wait")
	w.End()
}

// Pools share nothing: each has its own connections, counts and reports for an address.
func TestPool_SeveralForOneAddress(t *testing.T) {
	t.Parallel()
	server := startServer(t, nil)
	var pools []*Pool
	reports := make(chan int, 16)
	for i := range 3 {
		p := newPool(t, func(c *Config) { c.Connections.Max, c.StreamsPerConnection, c.WhenFull = 1, 1, policy.WhenFullFail })
		p.SetReach(func(address string, failure *DialError) {
			if address == server.addr && failure == nil {
				reports <- i
			}
		})
		pools = append(pools, p)
	}
	var reported int
	for _, p := range pools {
		open(t, p, server.addr)
		reported += 1 << receive(t, "a report", reports)
		requireFullError(t, receive(t, "the end of Open", goOpen(t.Context(), p, server.addr)), server.addr, 1)
	}
	require.Equal(t, 1+2+4, reported, "each reports once")
	require.EqualValues(t, 3, server.accepts.Load())
	pools[0].Close()
	for _, p := range pools[1:] {
		require.Equal(t, []EndpointStats{{Address: server.addr, Connections: 1, Streams: 1}}, p.Endpoints())
	}
}
