package limit

import (
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func allowed(b *Buckets, key string) bool {
	ok, _ := b.Allow(key, time.Now())
	return ok
}

// requireWhole fails if the index does not lead to the buckets.
func requireWhole(t *testing.T, b *Buckets) {
	t.Helper()
	n := 0
	for i := range b.shards {
		s := &b.shards[i]
		require.Len(t, s.index, len(s.list))
		for hash, i := range s.index {
			require.Equal(t, hash, s.list[i].hash)
		}
		n += len(s.list)
	}
	require.Equal(t, n, b.Len())
}

// flood makes a call with each of n invented keys and returns how many were allowed.
func flood(b *Buckets, name string, n int) (ok int) {
	for i := range n {
		if allowed(b, fmt.Sprintf("%s-%d", name, i)) {
			ok++
		}
	}
	return ok
}

func TestBuckets_EachKeyHasItsOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := NewBuckets(Rate{PerSecond: 2, Burst: 3}, 100)
		for _, key := range []string{"a", "b", ""} {
			require.Equal(t, 3, drain(func(now time.Time) (bool, time.Duration) { return b.Allow(key, now) }), key)
		}
		ok, after := b.Allow("a", time.Now())
		require.False(t, ok)
		require.Equal(t, 500*time.Millisecond, after)
		time.Sleep(after)
		require.True(t, allowed(b, "a"))
		require.False(t, allowed(b, "a"))
		require.Equal(t, 3, b.Len())
	})
}

func TestBuckets_AFloodOfKeysResetsNoKnownKeyAndGetsABoundedShare(t *testing.T) {
	for _, maxKeys := range []int{1, 3, 200, 1000} {
		synctest.Test(t, func(t *testing.T) {
			b := NewBuckets(Rate{PerSecond: 1, Burst: 5}, maxKeys)
			require.Equal(t, 5, drain(func(now time.Time) (bool, time.Duration) { return b.Allow("known", now) }))
			require.Equal(t, maxKeys-1+5, flood(b, "x", 20*maxKeys), "a call of each new key that has a bucket, and one burst for all others")
			require.False(t, allowed(b, "known"))
			require.Equal(t, maxKeys, b.Len())
			ok, after := b.Allow("yet another", time.Now())
			require.False(t, ok)
			require.Equal(t, time.Second, after, "of the bucket that all others share")
			time.Sleep(900 * time.Millisecond)
			require.Zero(t, flood(b, "y", 20*maxKeys), "no bucket is full yet")
			time.Sleep(100 * time.Millisecond)
			require.True(t, allowed(b, "known"))
			require.False(t, allowed(b, "known"), "one second, one token")
			requireWhole(t, b)
		})
	}
}

// What all keys together get in any time is at most what so many buckets and the shared one give.
func TestBuckets_AllKeysTogetherAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const maxKeys, burst, seconds = 150, 4, 20
		b := NewBuckets(Rate{PerSecond: 2, Burst: burst}, maxKeys)
		got := 0
		for i := range seconds * 10 {
			got += flood(b, fmt.Sprint(i), 500)     // keys that come once
			got += flood(b, "same", 50)             // keys that come again and again
			got += flood(b, fmt.Sprint(i/20), 1000) // keys that come for a while
			time.Sleep(100 * time.Millisecond)
		}
		require.LessOrEqual(t, got, (maxKeys+1)*(burst+2*seconds))
		require.Equal(t, maxKeys, b.Len())
	})
}

func TestBuckets_AFullBucketIsDroppedForANewcomer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const maxKeys = 10
		b := NewBuckets(Rate{PerSecond: 1, Burst: 2}, maxKeys)
		require.Equal(t, maxKeys+2, flood(b, "x", 100), "each of ten a call, and the burst that all others share")
		time.Sleep(time.Second) // the ten are full again
		drain(b.overflow.Allow)
		require.Zero(t, flood(b, "too soon", maxKeys))
		time.Sleep(keepFull)
		drain(b.overflow.Allow)
		require.Equal(t, maxKeys, flood(b, "y", maxKeys))
		for i := range maxKeys {
			require.True(t, allowed(b, fmt.Sprintf("y-%d", i)), "a bucket of its own has a second token")
		}
		require.False(t, allowed(b, "x-0"), "it has no bucket any more")
		requireWhole(t, b)
	})
}

// Who uses his bucket keeps it, although it is full again between two calls, while a flood takes all others and what
// newcomers share.
func TestBuckets_AKeyInUseOutlivesAFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const maxKeys = 100
		b := NewBuckets(Rate{PerSecond: 10, Burst: 10}, maxKeys)
		for i := range 100 {
			require.True(t, allowed(b, "regular"), i)
			for j := range 3 {
				time.Sleep(keepFull / 3)
				for k := range 3 * maxKeys {
					drain(func(now time.Time) (bool, time.Duration) { return b.Allow(fmt.Sprint(i, j, k), now) })
				}
				drain(b.overflow.Allow)
			}
		}
	})
}

// Buckets that many calls emptied do not hide those that are full.
func TestBuckets_ANewcomerFindsAFullBucketBehindEmptyOnes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const maxKeys = 60
		b := NewBuckets(Rate{PerSecond: 1, Burst: 50}, maxKeys)
		for i := range 40 {
			drain(func(now time.Time) (bool, time.Duration) { return b.Allow(fmt.Sprintf("empty-%d", i), now) })
		}
		flood(b, "once", 20)
		time.Sleep(time.Second + keepFull) // those have been full for long enough, and the forty are not
		own := 0
		for i := range 25 {
			before := b.overflow.full.Load()
			require.True(t, allowed(b, fmt.Sprintf("new-%d", i)))
			if b.overflow.full.Load() == before {
				own++
			}
		}
		require.Equal(t, 20, own, "all but the five that met only empty ones")
	})
}

func TestBuckets_KeepsNoKeys(t *testing.T) {
	b := NewBuckets(Rate{PerSecond: 1}, 2000)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for i := range 4000 {
		b.Allow(strings.Repeat("k", 10_000)+fmt.Sprint(i), time.Now())
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	require.Less(t, int64(after.HeapAlloc)-int64(before.HeapAlloc), int64(1<<20), "2000 keys were 20 MB")
	require.Equal(t, 2000, b.Len())
}

func TestBuckets_NumberOfKeysHasADefaultAndABound(t *testing.T) {
	require.EqualValues(t, DefaultKeys, NewBuckets(Rate{PerSecond: 1}, 0).maxKeys)
	require.EqualValues(t, DefaultKeys, NewBuckets(Rate{PerSecond: 1}, -1).maxKeys)
	require.EqualValues(t, MaxKeys, NewBuckets(Rate{PerSecond: 1}, 1<<40).maxKeys)
	b := NewBuckets(Rate{PerSecond: MinPerSecond, Burst: 1}, 0)
	require.Equal(t, DefaultKeys+1, flood(b, "x", 3*DefaultKeys))
	require.Equal(t, DefaultKeys, b.Len())
}

func TestBuckets_CallsOfManyAtOnceAreCounted(t *testing.T) {
	b := NewBuckets(Rate{PerSecond: MinPerSecond, Burst: 100}, 50)
	var got atomic.Int64
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i := range 5000 {
				if allowed(b, fmt.Sprint(i%200)) {
					got.Add(1)
				}
			}
		})
	}
	wg.Wait()
	require.Equal(t, 50, b.Len())
	require.EqualValues(t, 51*100, got.Load(), "fifty keys and the shared bucket")
}

func TestBuckets_AKnownKeyAllocatesNothing(t *testing.T) {
	b := NewBuckets(Rate{PerSecond: 1}, 100)
	flood(b, "x", 1000)
	require.Zero(t, testing.AllocsPerRun(1000, func() {
		b.Allow("x-1", time.Now())
		b.Allow("x-999", time.Now()) // of the shared bucket
	}))
}

func BenchmarkBuckets(b *testing.B) {
	keys := make([]string, 10_000)
	for i := range keys {
		keys[i] = fmt.Sprintf("tenant-%d", i)
	}
	for _, n := range []int{1, 10_000} {
		b.Run(fmt.Sprintf("known=%d", n), func(b *testing.B) {
			buckets := NewBuckets(Rate{PerSecond: 1000}, 0)
			for _, k := range keys[:n] {
				buckets.Allow(k, time.Now())
			}
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for i := 0; pb.Next(); i++ {
					buckets.Allow(keys[i%n], time.Now())
				}
			})
		})
	}
	b.Run("newcomer", func(b *testing.B) {
		buckets := NewBuckets(Rate{PerSecond: MaxPerSecond}, 5000)
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			buckets.Allow(keys[i%len(keys)], time.Now())
		}
	})
}
