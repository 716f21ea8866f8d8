package limit

import (
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// drain takes tokens until there is none and returns how many there were.
func drain(allow func(time.Time) (bool, time.Duration)) (n int) {
	for {
		ok, _ := allow(time.Now())
		if !ok {
			return n
		}
		n++
	}
}

func TestBucket_BurstAtOnceThenTheRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := NewBucket(Rate{PerSecond: 10, Burst: 25})
		require.Equal(t, 25, drain(b.Allow))
		time.Sleep(time.Second)
		require.Equal(t, 10, drain(b.Allow))
		time.Sleep(time.Hour)
		require.Equal(t, 25, drain(b.Allow), "never more than the burst")
	})
}

func TestBucket_BurstIsTheRateRoundedUpUnlessGiven(t *testing.T) {
	for perSecond, want := range map[float64]int{0.2: 1, 1: 1, 2.1: 3, 100: 100} {
		require.Equal(t, want, drain(NewBucket(Rate{PerSecond: perSecond}).Allow), "%v", perSecond)
	}
}

func TestBucket_SaysWhenATokenWillBeThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := NewBucket(Rate{PerSecond: 4, Burst: 2})
		drain(b.Allow)
		ok, after := b.Allow(time.Now())
		require.False(t, ok)
		require.Equal(t, 250*time.Millisecond, after)
		time.Sleep(100 * time.Millisecond)
		ok, after = b.Allow(time.Now())
		require.False(t, ok, "what was refused took nothing")
		require.Equal(t, 150*time.Millisecond, after)
		time.Sleep(after - time.Nanosecond)
		ok, _ = b.Allow(time.Now())
		require.False(t, ok)
		time.Sleep(time.Nanosecond)
		ok, after = b.Allow(time.Now())
		require.True(t, ok)
		require.Zero(t, after)
		ok, _ = b.Allow(time.Now())
		require.False(t, ok, "it was one token")
	})
}

func TestBucket_LongRunKeepsTheRate(t *testing.T) {
	for _, perSecond := range []float64{0.5, 3, 700} {
		synctest.Test(t, func(t *testing.T) {
			b := NewBucket(Rate{PerSecond: perSecond, Burst: 1})
			begin, n := time.Now(), 0
			for ; n < 2000; n++ {
				ok, after := b.Allow(time.Now())
				if !ok {
					time.Sleep(after)
					ok, _ = b.Allow(time.Now())
				}
				require.True(t, ok)
			}
			require.InEpsilon(t, perSecond, float64(n-1)/time.Since(begin).Seconds(), 0.001)
		})
	}
}

// However many take from it at once, it gives out what it has.
func TestBucket_GivesNoTokenTwice(t *testing.T) {
	b := NewBucket(Rate{PerSecond: MinPerSecond, Burst: 10_000})
	var taken atomic.Int64
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() { taken.Add(int64(drain(b.Allow))) })
	}
	wg.Wait()
	require.Equal(t, int64(10_000), taken.Load())
}

func BenchmarkBucket(b *testing.B) {
	for name, r := range map[string]Rate{"allowed": {PerSecond: MaxPerSecond, Burst: MaxBurst}, "refused": {PerSecond: MinPerSecond}} {
		b.Run(name, func(b *testing.B) {
			bucket := NewBucket(r)
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					bucket.Allow(time.Now())
				}
			})
		})
	}
}
