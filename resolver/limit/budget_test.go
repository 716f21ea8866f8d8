package limit

import (
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

// retries takes all the retries that b allows now and returns how many there were.
func retries(b *Budget) (n int) {
	for b.Retry() {
		n++
	}
	return n
}

func TestBudget_IsAShareOfTheCallsAndAlwaysAFew(t *testing.T) {
	for _, c := range []struct{ percent, min, calls, want int }{
		{percent: 20, min: 3, calls: 0, want: 3},
		{percent: 20, min: 3, calls: 19, want: 3},
		{percent: 20, min: 3, calls: 20, want: 4},
		{percent: 20, min: 3, calls: 1000, want: 200},
		{percent: 0, min: 0, calls: 1, want: 3},
		{percent: 0, min: 0, calls: 100, want: 20},
		{percent: 100, min: 1, calls: 50, want: 50},
		{percent: 10, min: -1, calls: 9, want: 0},
		{percent: 10, min: -1, calls: 10, want: 1},
		{percent: -1, min: -1, calls: 1000, want: 0},
		{percent: -1, min: 0, calls: 1000, want: 3},
	} {
		b := NewBudget(c.percent, c.min)
		for range c.calls {
			b.Begin()
		}
		require.Equal(t, c.want, retries(b), "%+v", c)
		calls, retries := b.Active()
		require.Equal(t, [2]int{c.calls, c.want}, [2]int{calls, retries})
	}
}

func TestBudget_FollowsTheCallsUnderWay(t *testing.T) {
	b := NewBudget(50, 1)
	for range 10 {
		b.Begin()
	}
	require.Equal(t, 5, retries(b))
	b.RetryEnd()
	require.True(t, b.Retry())
	require.False(t, b.Retry())
	for range 10 {
		b.End()
	}
	for range 5 {
		require.False(t, b.Retry())
		b.RetryEnd()
	}
	require.Equal(t, 1, retries(b))
}

func TestBudget_IsExactUnderContention(t *testing.T) {
	b := NewBudget(10, 1)
	for range 100 {
		b.Begin()
	}
	var under, most atomic.Int64
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			var held int
			for i := range 10_000 {
				if i%3 < 2 && b.Retry() {
					held++
					if n := under.Add(1); n > most.Load() {
						most.Store(n)
					}
				} else if held > 0 {
					held--
					under.Add(-1)
					b.RetryEnd()
				}
			}
			for range held {
				under.Add(-1)
				b.RetryEnd()
			}
		})
	}
	wg.Wait()
	require.LessOrEqual(t, most.Load(), int64(10))
	_, retries := b.Active()
	require.Zero(t, retries)
}

func BenchmarkBudget(b *testing.B) {
	budget := NewBudget(20, 3)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			budget.Begin()
			if budget.Retry() {
				budget.RetryEnd()
			}
			budget.End()
		}
	})
}
