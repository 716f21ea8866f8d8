package budget

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// party is a call with its two shares.
type party struct {
	Call
	request, response Share
	cancel            context.CancelFunc
	evictions         atomic.Int32
}

func (p *party) Evict() { p.evictions.Add(1); p.cancel() }

func newParty(ctx context.Context, b *Budget) *party {
	p := &party{}
	ctx, p.cancel = context.WithCancel(ctx)
	p.Open(ctx, b, p)
	p.request.Of(&p.Call)
	p.response.Of(&p.Call)
	return p
}

// of returns a budget of so many bytes for large messages, none of which are small.
func of(large int64) *Budget {
	b := New(MinBytes)
	b.max, b.smallMax = large, 0
	return b
}

// later returns the result of a Take that waits.
func later(s *Share, n int64) <-chan error {
	done := make(chan error, 1)
	go func() { done <- s.Take(n) }()
	synctest.Wait()
	return done
}

func requireWaits(t *testing.T, done <-chan error) {
	t.Helper()
	synctest.Wait()
	select {
	case err := <-done:
		t.Fatalf("did not wait: %v", err)
	default:
	}
}

func requireEmpty(t *testing.T, b *Budget) {
	t.Helper()
	require.Zero(t, b.Stats().Used)
	require.Zero(t, b.Stats().Waiting)
	require.Zero(t, b.stuck)
	require.Nil(t, b.holders)
}

func TestShare_WaitsInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := of(100)
		first, second, third := newParty(t.Context(), b), newParty(t.Context(), b), newParty(t.Context(), b)
		require.NoError(t, first.request.Take(80))
		two := later(&second.request, 60)
		three := later(&third.request, 10)
		requireWaits(t, three) // there is room for it, but not its turn
		require.Equal(t, 2, b.Stats().Waiting)
		first.request.Give(30)
		requireWaits(t, two)
		first.request.Give(30)
		require.NoError(t, <-two)
		require.NoError(t, <-three)
		for _, p := range []*party{first, second, third} {
			p.request.Free()
		}
		requireEmpty(t, b)
	})
}

// Who holds bytes is before who came later and holds none.
func TestShare_HolderIsServedFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := of(100)
		holder, other, late := newParty(t.Context(), b), newParty(t.Context(), b), newParty(t.Context(), b)
		require.NoError(t, holder.request.Take(10))
		require.NoError(t, other.request.Take(85))
		newcomer := later(&late.request, 20)
		more := later(&holder.response, 20)
		other.request.Give(15)
		require.NoError(t, <-more)
		requireWaits(t, newcomer)
		other.request.Free()
		require.NoError(t, <-newcomer)
	})
}

func TestShare_GivesUpShortlyBeforeTheDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := of(100)
		holder := newParty(t.Context(), b)
		require.NoError(t, holder.request.Take(100))
		for _, c := range []struct{ deadline, want time.Duration }{
			{time.Second, 900 * time.Millisecond}, {20 * time.Second, 19 * time.Second}, {time.Hour, maxWait}, {0, maxWait},
			{50 * time.Millisecond, 40 * time.Millisecond}, {5 * time.Millisecond, 0},
		} {
			ctx := t.Context()
			if c.deadline > 0 {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, c.deadline)
				defer cancel()
			}
			began := time.Now()
			holder.Begin() // or it would be ended for going on too slowly
			require.ErrorIs(t, newParty(ctx, b).request.Take(1), ErrOver)
			require.Equal(t, c.want, time.Since(began), "deadline %s", c.deadline)
		}
		require.EqualValues(t, 6, b.Stats().Refused)
	})
}

func TestShare_HearsOfTheCallsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := of(100)
		holder, waiting, next := newParty(t.Context(), b), newParty(t.Context(), b), newParty(t.Context(), b)
		require.NoError(t, holder.request.Take(90))
		done := later(&waiting.request, 50)
		behind := later(&next.request, 10)
		waiting.cancel()
		err := <-done
		require.ErrorIs(t, err, ErrEnded)
		require.ErrorIs(t, err, context.Canceled)
		require.NoError(t, <-behind, "the next has its turn")
		require.ErrorIs(t, waiting.request.Take(1), ErrEnded)
	})
}

func TestShare_MoreThanAllIsNever(t *testing.T) {
	b := New(MinBytes)
	p := newParty(t.Context(), b)
	require.ErrorIs(t, p.request.Take(MinBytes), ErrNever)
	require.NoError(t, p.request.Take(MinBytes/2))
	require.ErrorIs(t, p.request.Take(MinBytes/2), ErrNever)
	require.NoError(t, p.request.Take(MinBytes/4))
	p.request.Free()
	requireEmpty(t, b)
}

// All hold some and want more than there is left: the oldest goes on, the youngest has to end.
func TestBudget_NoDeadlockOfHoldersThatWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := of(100)
		var all []*party
		var results []<-chan error
		for range 4 {
			p := newParty(t.Context(), b)
			require.NoError(t, p.request.Take(25))
			all = append(all, p)
		}
		for _, p := range all[:3] {
			results = append(results, later(&p.request, 25))
		}
		for _, done := range results {
			requireWaits(t, done) // the fourth may give back
		}
		require.ErrorIs(t, <-later(&all[3].request, 1), ErrOver)
		requireWaits(t, results[0]) // for what the fourth holds
		require.ErrorIs(t, all[3].response.Take(1), ErrOver, "its call ends")
		all[3].request.Free()
		require.NoError(t, <-results[0])
		requireWaits(t, results[1])
		all[0].request.Free()
		require.NoError(t, <-results[1])
		require.NoError(t, <-results[2])

		beyond := later(&all[1].request, 40) // more than there is without the youngest
		requireWaits(t, beyond)
		require.ErrorIs(t, <-later(&all[2].request, 1), ErrOver)
		all[2].request.Free()
		require.NoError(t, <-beyond)
		all[1].request.Free()
		requireEmpty(t, b)
		require.Zero(t, all[0].evictions.Load())
	})
}

// A call holds its request and its answer, and the one waits for the other: it ends at once, and at once lets another go on
// that is in the same case.
func TestBudget_NoDeadlockOfACallWithItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := of(100)
		alone := newParty(t.Context(), b)
		require.NoError(t, alone.request.Take(60)) // on its way to an endpoint that waits for its answer to be taken
		require.NoError(t, alone.response.Take(20))
		require.ErrorIs(t, alone.response.Take(30), ErrOver)
		alone.request.Free()
		alone.response.Free()

		older, younger := newParty(t.Context(), b), newParty(t.Context(), b)
		require.NoError(t, older.request.Take(40))
		require.NoError(t, younger.request.Take(40))
		first := later(&older.response, 50)
		requireWaits(t, first) // the younger is not known to wait
		second := later(&younger.response, 10)
		require.ErrorIs(t, <-second, ErrOver)
		younger.request.Free()
		require.NoError(t, <-first)
		older.request.Free()
		older.response.Free()
		requireEmpty(t, b)
	})
}

// A share that can begin again does so, instead of its call's end, and holds nothing while it waits in its old place.
func TestBudget_TheYoungestBeginsAgainIfItCan(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := of(100)
		older, younger, late := newParty(t.Context(), b), newParty(t.Context(), b), newParty(t.Context(), b)
		require.NoError(t, older.request.Take(50))
		younger.request.MayYield(true)
		require.NoError(t, younger.request.Take(40))
		behind := later(&late.request, 20)
		grow := later(&older.request, 30)
		requireWaits(t, grow)
		require.ErrorIs(t, younger.request.Take(30), ErrYield)
		younger.request.Give(40)
		require.NoError(t, <-grow)
		require.NoError(t, <-behind, "20 are left")
		reserved := make(chan error, 1)
		go func() { reserved <- younger.request.Reserve() }()
		requireWaits(t, reserved)
		late.request.Free()
		requireWaits(t, reserved)
		third := newParty(t.Context(), b)
		last := later(&third.request, 1)
		older.request.Free()
		require.NoError(t, <-reserved)
		requireWaits(t, last)
		require.EqualValues(t, 100, younger.request.Held(), "twice 40 and 30, but not more than all")
		require.NoError(t, younger.request.Take(70))
		younger.request.Give(40)
		require.NoError(t, younger.request.Take(70))
		require.ErrorIs(t, younger.request.Take(1), ErrNever)
		require.EqualValues(t, 100, younger.request.Held())
		younger.request.Give(30)
		younger.request.Release()
		require.NoError(t, <-last)
		require.EqualValues(t, 70, younger.request.Held())
		for _, p := range []*party{younger, third} {
			p.request.Free()
		}
		requireEmpty(t, b)
	})
}

// A peer that reads or sends nothing, or next to nothing, cannot hold the budget for ever.
func TestBudget_EndsHoldersThatDoNotGoOnWhileOthersWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := of(10 << 20)
		still, slow, fast, busy := newParty(t.Context(), b), newParty(t.Context(), b), newParty(t.Context(), b), newParty(t.Context(), b)
		all := []*party{still, slow, fast, busy}
		for _, p := range all {
			require.NoError(t, p.request.Take(5<<19))
		}
		busy.Begin()
		time.Sleep(time.Hour) // nobody waits: there is no hurry
		waiting := newParty(t.Context(), b)
		began := time.Now()
		done := later(&waiting.request, 5<<19)
		var result error
		for i := 0; result == nil && i < 60; i++ {
			slow.request.Moved(1)
			fast.request.Moved(1 << 20)
			time.Sleep(time.Second)
			for _, p := range []*party{still, slow} {
				if p.evictions.Load() > 0 {
					p.request.Free()
				}
			}
			select {
			case err := <-done:
				require.NoError(t, err)
				result = errors.New("served")
			default:
			}
		}
		require.Error(t, result)
		require.InDelta(t, 11, time.Since(began).Seconds(), 2)
		require.EqualValues(t, 1, still.evictions.Load())
		require.EqualValues(t, 1, slow.evictions.Load())
		require.Zero(t, fast.evictions.Load())
		require.Zero(t, busy.evictions.Load())
		require.ErrorIs(t, context.Cause(still.ctx), context.Canceled)
		for _, p := range append(all, waiting) {
			p.request.Free()
		}
		requireEmpty(t, b)
		time.Sleep(2 * b.stall.interval)
	})
}

func TestShare_SmallMessagesPassThoseThatWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New(MinBytes)
		holder, large, small := newParty(t.Context(), b), newParty(t.Context(), b), newParty(t.Context(), b)
		require.NoError(t, holder.request.Take(b.max))
		waiting := later(&large.request, 4<<20)
		requireWaits(t, waiting)
		require.NoError(t, small.request.Take(100<<10))
		require.EqualValues(t, b.max+100<<10, b.Stats().Used)
		small.request.Free()
		holder.request.Free()
		require.NoError(t, <-waiting)
		large.request.Free()
		requireEmpty(t, b)
	})
}

func TestShare_NilHasNoBound(t *testing.T) {
	var s *Share
	require.NoError(t, s.Take(1<<60))
	require.NoError(t, s.KeepLong(1))
	require.NoError(t, s.TakeLong(1<<60))
	s.Give(1)
	s.Free()
	s.Moved(1)
	p := newParty(t.Context(), nil)
	require.NoError(t, p.request.Take(1<<60))
	p.request.Free()
	p.cancel()
	require.ErrorIs(t, p.request.Take(1), ErrEnded)
}

// Whatever calls do, the bound holds, everybody goes on, and everything is given back.
func TestBudget_ManyCallsAtOnce(t *testing.T) {
	b := of(1 << 20)
	b.stall = stallConfig{time: 50 * time.Millisecond, interval: 5 * time.Millisecond, bytes: 1}
	var wg sync.WaitGroup
	var served atomic.Int64
	for i := range 32 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(i), 1))
			for range 100 {
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(1+r.IntN(200))*time.Millisecond)
				p := newParty(ctx, b)
				var both sync.WaitGroup
				for _, s := range []*Share{&p.request, &p.response} {
					seed := r.Uint64()
					both.Go(func() {
						defer s.Free()
						r := rand.New(rand.NewPCG(seed, 2))
						for i := range 8 {
							s.MayYield(i < 5 && r.IntN(2) == 0)
							err := s.Take(int64(r.IntN(200 << 10)))
							if errors.Is(err, ErrYield) {
								s.Give(s.Held())
								err = s.Reserve()
							}
							if err != nil {
								return
							}
							s.Moved(r.IntN(2))
							if r.IntN(4) == 0 {
								s.Give(s.Held() / 2)
							}
							b.mu.Lock()
							used, stuck := b.used, b.stuck
							b.mu.Unlock()
							if used > b.max || stuck > used {
								t.Errorf("%d in use, %d by those who wait, of %d", used, stuck, b.max)
							}
						}
						served.Add(1)
					})
				}
				both.Wait()
				p.cancel()
				cancel()
			}
		})
	}
	wg.Wait()
	requireEmpty(t, b)
	require.NotZero(t, served.Load())
}

func BenchmarkShare(bench *testing.B) {
	for name, n := range map[string]int64{"small": 4 << 10, "large": smallShare + 1} {
		bench.Run(name, func(bench *testing.B) {
			p := newParty(bench.Context(), New(1<<30))
			bench.ReportAllocs()
			for bench.Loop() {
				if err := p.request.Take(n); err != nil {
					bench.Fatal(err)
				}
				p.request.Free()
			}
		})
	}
}
