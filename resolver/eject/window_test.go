package eject

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

var percent = Config{ConsecutiveFailures: Off, FailurePercent: 40, MinCalls: 10, Window: 10 * time.Second}

func TestWindow_FailurePercentEjects(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := watch(t, percent, 4)
		w.succeed("a0", 10)
		w.fail("a0", 6)
		require.Empty(t, w.out(4), "6 of 16 is less than 40 %")
		w.fail("a0", 1)
		require.Equal(t, []string{"a0"}, w.out(4), "7 of 17 is more")
		w.succeed("a1", 6)
		w.fail("a1", 4)
		require.Equal(t, []string{"a0", "a1"}, w.out(4), "4 of 10 is 40 %")
	})
}

func TestWindow_TooFewCallsSayNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := watch(t, percent, 4)
		w.fail("a0", 9)
		require.Empty(t, w.out(4))
		w.fail("a0", 1)
		require.Equal(t, []string{"a0"}, w.out(4))
	})
}

func TestWindow_OldCallsAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := watch(t, percent, 4)
		w.fail("a0", 9)
		time.Sleep(percent.Window)
		w.fail("a0", 9)
		require.Empty(t, w.out(4), "nine in each window")
		time.Sleep(percent.Window - percent.Window/slots)
		w.fail("a0", 1)
		require.Equal(t, []string{"a0"}, w.out(4), "nine a little less than a window ago, and one")
	})
}

func TestWindow_SuccessesOfLongAgoDoNotHideFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := watch(t, percent, 4)
		for range 100 {
			w.succeed("a0", 1000)
			time.Sleep(time.Second)
		}
		time.Sleep(9 * time.Second)
		w.fail("a0", 9)
		require.Empty(t, w.out(4))
		w.fail("a0", 1)
		require.Equal(t, []string{"a0"}, w.out(4))
	})
}

// Its window is empty when it comes back, and what is reported meanwhile is not in it.
func TestWindow_StartsAnewWhenTheEndpointIsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := percent
		cfg.BaseTime = time.Second
		w := watch(t, cfg, 4)
		w.fail("a0", 10)
		require.Equal(t, []string{"a0"}, w.out(4))
		w.fail("a0", 100)
		time.Sleep(time.Second)
		synctest.Wait()
		w.fail("a0", 9)
		require.Empty(t, w.out(4))
		w.fail("a0", 1)
		require.Equal(t, []string{"a0"}, w.out(4))
	})
}

// An endpoint that is held for its share of failures is held until the share is less.
func TestWindow_HeldUntilTheShareIsLess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := watch(t, percent, 1)
		w.fail("a0", 10)
		w.requireCounts(t, 0, 1)
		w.succeed("a0", 15) // 10 of 25
		require.Equal(t, held, w.Member("a0").load())
		w.succeed("a0", 1)
		require.Equal(t, serving, w.Member("a0").load())
		w.fail("a0", 1) // 11 of 27
		w.requireCounts(t, 0, 2)
	})
}

func TestWindow_BothRulesMayBeOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := percent
		cfg.ConsecutiveFailures = 3
		w := watch(t, cfg, 4)
		w.succeed("a0", 1000)
		w.fail("a0", 3)
		for range 5 {
			w.fail("a1", 1)
			w.succeed("a1", 1)
		}
		w.fail("a1", 1)
		require.Equal(t, []string{"a0", "a1"}, w.out(4))
	})
}

func TestWindow_CountsSaturate(t *testing.T) {
	var w window
	for range countMask + 10 {
		w.add(slots, callFailed)
	}
	calls, failures := w.sum(slots)
	require.Equal(t, [2]int64{countMask, countMask}, [2]int64{calls, failures})
	w.add(slots+1, callGood)
	w.add(2*slots, callGood) // in place of the first
	calls, failures = w.sum(2 * slots)
	require.Equal(t, [2]int64{2, 0}, [2]int64{calls, failures})
}

func TestWindow_LosesNoCallUnderContention(t *testing.T) {
	const each = 100_000
	var w window
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for range each {
				w.add(slots, []uint64{callGood, callFailed}[i%2])
			}
		})
	}
	wg.Wait()
	calls, failures := w.sum(slots)
	require.Equal(t, [2]int64{4 * each, 2 * each}, [2]int64{calls, failures})
}

func TestWindow_SlotNumbersMayWrap(t *testing.T) {
	var w window
	for slot := uint64(slotMask - 5); slot < slotMask+15; slot++ {
		w.add(slot, callFailed)
		calls, _ := w.sum(slot)
		require.Equal(t, min(int64(slot-(slotMask-5))+1, slots), calls, slot)
	}
}
