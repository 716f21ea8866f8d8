package limit

import (
	"math"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestConcurrency_ZeroValueHasNoBound(t *testing.T) {
	var c Concurrency
	for range 1000 {
		require.True(t, c.Acquire())
	}
	require.Equal(t, 1000, c.Active())
}

func TestConcurrency_RefusesOverTheBoundUntilARelease(t *testing.T) {
	var c Concurrency
	c.SetMax(2)
	require.True(t, c.Acquire())
	require.True(t, c.Acquire())
	require.False(t, c.Acquire())
	require.False(t, c.Acquire())
	require.Equal(t, 2, c.Active(), "what is refused does not count")
	c.Release()
	require.True(t, c.Acquire())
	require.False(t, c.Acquire())
}

func TestConcurrency_BoundMayChangeWhileCallsAreUnderWay(t *testing.T) {
	var c Concurrency
	for range 3 {
		require.True(t, c.Acquire())
	}
	c.SetMax(2)
	require.Equal(t, 3, c.Active(), "what is under way goes on")
	c.Release()
	require.False(t, c.Acquire(), "two of two")
	c.Release()
	require.True(t, c.Acquire())
	c.SetMax(3)
	require.True(t, c.Acquire())
	require.False(t, c.Acquire())
	c.SetMax(-1)
	require.True(t, c.Acquire(), "no bound")
}

// Nobody is refused while fewer than the bound are under way, and never are more, however many try.
func TestConcurrency_IsExactUnderContention(t *testing.T) {
	const bound, workers, rounds = 1, 4, 500_000
	var c Concurrency
	c.SetMax(bound)
	var inside, most, needless atomic.Int64
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for range rounds {
				if c.Acquire() {
					if n := inside.Add(1); n > most.Load() {
						most.Store(n)
					}
					if c.Active() > bound {
						most.Store(int64(c.Active()))
					}
					inside.Add(-1)
					c.Release()
				}
			}
		})
	}
	wg.Wait()
	require.LessOrEqual(t, most.Load(), int64(bound))
	require.Zero(t, c.Active())

	// As many as the bound, each one at a time: there is always room.
	for range bound {
		wg.Go(func() {
			for range rounds {
				if !c.Acquire() {
					needless.Add(1)
					continue
				}
				c.Release()
			}
		})
	}
	wg.Wait()
	require.Zero(t, needless.Load())
}

func BenchmarkConcurrency(b *testing.B) {
	var c Concurrency
	c.SetMax(1000)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if c.Acquire() {
				c.Release()
			}
		}
	})
}

// The room is what the bound leaves, and nothing if it was lowered beneath the calls that are under way.
func TestConcurrency_Room(t *testing.T) {
	var c Concurrency
	require.Equal(t, math.MaxInt, c.Room())
	for range 3 {
		require.True(t, c.Acquire())
	}
	for bound, want := range map[int]int{10: 7, 3: 0, 1: 0, 0: math.MaxInt} {
		c.SetMax(bound)
		require.Equal(t, want, c.Room(), "bound %d", bound)
	}
}
