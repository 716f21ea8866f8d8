package eject

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// watched is a Detector whose calls of changed are counted.
type watched struct {
	*Detector
	changes atomic.Int64
}

// watch returns a Detector with n members, a0 and on.
func watch(t *testing.T, cfg Config, n int) *watched {
	require.NoError(t, cfg.Validate())
	w := &watched{}
	w.Detector = New(cfg, func() {
		w.changes.Add(1)
		w.mu.Lock() // changed is called without it
		defer w.mu.Unlock()
	})
	t.Cleanup(w.Close)
	w.SetMembers(addresses(n))
	return w
}

func addresses(n int) (list []string) {
	for i := range n {
		list = append(list, fmt.Sprint("a", i))
	}
	return list
}

func (w *watched) fail(address string, times int) {
	for range times {
		w.Member(address).Report(true, time.Now())
	}
}

func (w *watched) succeed(address string, times int) {
	for range times {
		w.Member(address).Report(false, time.Now())
	}
}

// out returns which of n members are ejected.
func (w *watched) out(n int) (list []string) {
	for _, a := range addresses(n) {
		if m := w.Member(a); m != nil && m.Ejected() {
			list = append(list, a)
		}
	}
	return list
}

func (w *watched) requireCounts(t *testing.T, ejections, prevented uint64) {
	t.Helper()
	e, p := w.Counts()
	require.Equal(t, [2]uint64{ejections, prevented}, [2]uint64{e, p}, "ejections and prevented ones")
}

func TestDetector_ConsecutiveFailuresEject(t *testing.T) {
	w := watch(t, Config{ConsecutiveFailures: 3}, 4)
	w.fail("a0", 2)
	w.succeed("a0", 1)
	w.fail("a0", 2)
	require.Empty(t, w.out(4), "never three in a row")
	require.Zero(t, w.changes.Load())
	w.fail("a0", 1)
	require.Equal(t, []string{"a0"}, w.out(4))
	require.EqualValues(t, 1, w.changes.Load())
	w.requireCounts(t, 1, 0)
	require.Equal(t, "a0", w.Member("a0").Address())
}

func TestDetector_FiveInARowUnlessConfigured(t *testing.T) {
	w := watch(t, Config{}, 2)
	w.fail("a1", 4)
	require.Empty(t, w.out(2))
	w.fail("a1", 1)
	require.Equal(t, []string{"a1"}, w.out(2))
}

func TestDetector_ConsecutiveFailuresOffEjectNobody(t *testing.T) {
	w := watch(t, Config{ConsecutiveFailures: Off}, 2)
	w.fail("a0", 1000)
	require.Empty(t, w.out(2))
	w.requireCounts(t, 0, 0)
}

func TestDetector_EndpointComesBackAtTheEndOfItsTimeAndStartsAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := watch(t, Config{ConsecutiveFailures: 3, BaseTime: 10 * time.Second}, 2)
		require.Zero(t, w.Member("a0").Until())
		begin := time.Now()
		w.fail("a0", 3)
		require.Equal(t, begin.Add(10*time.Second), w.Member("a0").Until())
		time.Sleep(10*time.Second - time.Nanosecond)
		synctest.Wait()
		require.Equal(t, []string{"a0"}, w.out(2))
		w.fail("a0", 100) // calls that began before: they do not count
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		require.Empty(t, w.out(2))
		require.Zero(t, w.Member("a0").Until())
		require.EqualValues(t, 2, w.changes.Load(), "out and back")
		w.fail("a0", 2)
		require.Empty(t, w.out(2), "three, as at first")
		w.requireCounts(t, 1, 0)
	})
}

// ejectFor fails a0 until it is ejected and returns for how long it then is.
func (w *watched) ejectFor(t *testing.T) time.Duration {
	t.Helper()
	begin := time.Now()
	w.fail("a0", 5)
	require.True(t, w.Member("a0").Ejected())
	for w.Member("a0").Ejected() {
		time.Sleep(time.Second)
		synctest.Wait()
	}
	return time.Since(begin)
}

func TestDetector_EachTimeIsLongerUpToMaxTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := watch(t, Config{BaseTime: 10 * time.Second, MaxTime: 35 * time.Second}, 2)
		for i, want := range []time.Duration{10, 20, 30, 35, 35, 35} {
			require.Equal(t, want*time.Second, w.ejectFor(t), "time %d", i+1)
		}
	})
}

func TestDetector_ATimeIsForgivenForEachBaseTimeThatTheEndpointIsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := watch(t, Config{BaseTime: 10 * time.Second, MaxTime: 60 * time.Second}, 2)
		for _, c := range []struct{ back, want time.Duration }{
			{0, 10}, {9, 20}, {0, 30}, // not a whole base time
			{10, 30}, {20, 20}, {15, 20}, // one, two and one are forgiven
			{1000, 10}, {0, 20}, // all
			{0, 30}, {0, 40}, {0, 50}, {0, 60}, {0, 60}, {0, 60},
			{10, 60}, {60, 10}, // what was over max_time does not count
		} {
			time.Sleep(c.back * time.Second)
			w.succeed("a0", 10)
			require.Equal(t, c.want*time.Second, w.ejectFor(t), "%+v", c)
		}
	})
}

func TestDetector_OneTimerBringsAllBackEachAtItsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := watch(t, Config{BaseTime: 10 * time.Second, MaxPercent: 100}, 4)
		w.fail("a0", 5)
		time.Sleep(10 * time.Second)
		synctest.Wait()
		w.fail("a0", 5) // until 30 s
		time.Sleep(5 * time.Second)
		w.fail("a1", 5) // until 25 s
		w.fail("a2", 5)
		time.Sleep(time.Second)
		w.fail("a3", 5) // until 26 s
		require.Equal(t, addresses(4), w.out(4))
		for _, c := range []struct {
			after time.Duration
			want  []string
		}{{9, []string{"a0", "a3"}}, {1, []string{"a0"}}, {4, nil}} {
			time.Sleep(c.after*time.Second - time.Nanosecond)
			synctest.Wait()
			require.NotEqual(t, c.want, w.out(4))
			time.Sleep(time.Nanosecond)
			synctest.Wait()
			require.Equal(t, c.want, w.out(4))
		}
		w.requireCounts(t, 5, 0)
	})
}

func TestDetector_AtMostTheShareIsEjectedAndWhatIsPreventedIsCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := watch(t, Config{MaxPercent: 50, BaseTime: 10 * time.Second}, 5)
		for _, a := range addresses(5) {
			w.fail(a, 7)
		}
		require.Equal(t, []string{"a0", "a1"}, w.out(5))
		w.requireCounts(t, 2, 3)
		w.fail("a2", 100)
		w.requireCounts(t, 2, 3) // it is the same failure still
		w.succeed("a3", 1)       // it has recovered
		time.Sleep(10 * time.Second)
		synctest.Wait()
		require.Empty(t, w.out(5))
		w.fail("a3", 1)
		require.Empty(t, w.out(5))
		w.fail("a2", 1)
		require.Equal(t, []string{"a2"}, w.out(5), "now there is room: one more failure is enough")
		w.fail("a3", 4)
		require.Equal(t, []string{"a2", "a3"}, w.out(5))
		w.fail("a4", 1)
		w.requireCounts(t, 4, 3)
		w.succeed("a4", 1)
		w.fail("a4", 5)
		w.requireCounts(t, 4, 4) // it failed anew
	})
}

func TestDetector_TheOnlyEndpointIsNotEjected(t *testing.T) {
	w := watch(t, Config{}, 1)
	w.fail("a0", 100)
	require.Empty(t, w.out(1))
	w.requireCounts(t, 0, 1)
	w.SetMembers(addresses(2))
	w.fail("a0", 1)
	require.Equal(t, []string{"a0"}, w.out(2), "there is another now")
}

func TestDetector_MembersThatStayKeepTheirStateAndOthersAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := watch(t, Config{MaxPercent: 100}, 4)
		w.fail("a0", 5)
		w.fail("a1", 5)
		w.fail("a2", 4)
		a1, a2, until := w.Member("a1"), w.Member("a2"), w.Member("a0").Until()
		time.Sleep(time.Second)
		w.SetMembers([]string{"a0", "a2", "new", "a2"})
		require.Equal(t, until, w.Member("a0").Until())
		require.Same(t, a2, w.Member("a2"))
		require.Nil(t, w.Member("a1"))
		require.Nil(t, w.Member("a3"))
		w.fail("a2", 1)
		require.True(t, a2.Ejected(), "its fifth")

		require.False(t, a1.Ejected(), "it is nobody's any more")
		require.Zero(t, a1.Until())
		before := w.changes.Load()
		for range 10 {
			a1.Report(true, time.Now())
		}
		require.False(t, a1.Ejected())
		w.requireCounts(t, 3, 0)
		w.SetMembers([]string{"a0", "a1", "a2"})
		require.NotSame(t, a1, w.Member("a1"))
		require.False(t, w.Member("a1").Ejected())
		require.Equal(t, before, w.changes.Load())
	})
}

// With fewer members, fewer may be ejected at once.
func TestDetector_WhenMembersLeaveTheShareStillHolds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := watch(t, Config{MaxPercent: 50}, 6)
		for _, a := range []string{"a1", "a0", "a2"} {
			w.fail(a, 5)
			time.Sleep(time.Second)
		}
		changes := w.changes.Load()
		w.SetMembers([]string{"a0", "a1", "a2", "a3"})
		require.Equal(t, []string{"a0", "a2"}, w.out(4), "a1 was the next to come back")
		require.Equal(t, changes+1, w.changes.Load())
		w.fail("a3", 5)
		w.requireCounts(t, 3, 1)
		w.SetMembers([]string{"a2"})
		require.Empty(t, w.out(4))
		w.SetMembers(nil)
		require.Nil(t, w.Member("a2"))
	})
}

func TestDetector_AfterCloseNothingChangesAndNoTimerStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := watch(t, Config{}, 4)
		w.fail("a0", 5)
		w.Close()
		require.False(t, w.timer.Stop(), "it does not run any more")
		w.Close()
		w.fail("a1", 100)
		w.SetMembers(nil)
		time.Sleep(time.Hour)
		synctest.Wait()
		require.Equal(t, []string{"a0"}, w.out(4))
		require.EqualValues(t, 1, w.changes.Load())
		w.requireCounts(t, 1, 0)
	})
}

// Whatever is reported and changed at once, the share holds and everybody comes back.
func TestDetector_HoldsTheShareUnderContention(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const members, most = 9, 3
		w := watch(t, Config{ConsecutiveFailures: 2, FailurePercent: 50, MinCalls: 5, BaseTime: 10 * time.Millisecond, MaxPercent: 34}, members)
		var wg sync.WaitGroup
		var over atomic.Int64
		for g := range 8 {
			wg.Go(func() {
				for i := range 3000 {
					w.Member(fmt.Sprint("a", (i*7+g)%members)).Report(i%5 != g%5, time.Now())
					w.mu.Lock()
					if n := len(w.out(members)); n > most || n != w.Detector.out {
						over.Add(1)
					}
					w.mu.Unlock()
					if i%50 == 0 {
						time.Sleep(time.Millisecond)
					}
				}
			})
		}
		wg.Wait()
		require.Zero(t, over.Load())
		time.Sleep(DefaultMaxTime)
		synctest.Wait()
		require.Empty(t, w.out(members))
		ejections, prevented := w.Counts()
		require.Greater(t, ejections, uint64(most))
		require.NotZero(t, prevented)
	})
}

func TestReport_ASuccessAllocatesNothing(t *testing.T) {
	for _, cfg := range []Config{{}, {FailurePercent: 50}} {
		m := watch(t, cfg, 2).Member("a0")
		require.Zero(t, testing.AllocsPerRun(1000, func() {
			m.Report(false, time.Now())
			m.Report(true, time.Now())
			_ = m.Ejected()
		}))
	}
}

func BenchmarkReport(b *testing.B) {
	for name, cfg := range map[string]Config{"streak": {}, "percent": {FailurePercent: 50}} {
		d := New(cfg, func() {})
		d.SetMembers(addresses(2))
		m := d.Member("a0")
		b.Run(name+"/good", func(b *testing.B) {
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					m.Report(false, time.Now())
				}
			})
		})
		d.SetMembers(addresses(1)) // so that it is held
		b.Run(name+"/held", func(b *testing.B) {
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					m.Report(true, time.Now())
				}
			})
		})
		d.Close()
	}
}
