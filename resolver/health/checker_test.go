package health

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/framegate/framegate/test/race"
)

// fakeProber does what result says, after it took for so long. These tests are of when checks are made and who hears
// of them; those of what a check is use real endpoints.
type fakeProber struct {
	mu     sync.Mutex // guards what follows
	err    error
	takes  time.Duration
	starts []time.Time

	opened, closed atomic.Int64
}

func (f *fakeProber) probe(ctx context.Context) error {
	f.mu.Lock()
	f.starts = append(f.starts, time.Now())
	err, takes := f.err, f.takes
	f.mu.Unlock()
	if takes == 0 { // a timer that is due when it is made has crashed the race detector's runtime (go1.26.8, in a bubble)
		return err
	}
	select {
	case <-time.After(takes):
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (f *fakeProber) close() { f.closed.Add(1) }

func (f *fakeProber) set(err error, takes time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.err, f.takes = err, takes
}

func (f *fakeProber) checks() []time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.starts)
}

// faked returns a Checker whose checks of every address are f's.
func faked(t *testing.T, f *fakeProber) *Checker {
	c := newChecker(t)
	c.newProber = func(string, Config) prober { f.opened.Add(1); return f }
	return c
}

// next returns the next value of ch, which is to come within an hour of the test's own time.
func next[T any](t *testing.T, ch <-chan T) T {
	t.Helper()
	select {
	case v := <-ch:
		return v
	case <-time.After(time.Hour):
		require.FailNow(t, "none came in an hour")
		panic("unreachable")
	}
}

var tcpConfig = Config{Type: TypeTCP, Interval: 10 * time.Second}

func TestWatch_FirstCheckComesAtOnceAndDecidesAlone(t *testing.T) {
	for _, err := range []error{nil, errBad} {
		synctest.Test(t, func(t *testing.T) {
			f := &fakeProber{err: err}
			c := faked(t, f)
			changes := subscribe(t, c, "a:1", tcpConfig)
			status, ok := c.Status("a:1", tcpConfig)
			require.True(t, ok)
			require.Equal(t, Status{Healthy: true}, status, "until it is known")
			begin := time.Now()
			got := next(t, changes)
			require.LessOrEqual(t, time.Since(begin), firstWithin)
			require.Equal(t, err == nil, got.Healthy)
			require.Equal(t, err, got.Err)
			require.Equal(t, time.Now(), got.Checked)
			status, _ = c.Status("a:1", tcpConfig)
			require.Equal(t, got, status)
		})
	}
}

// However the checks fall, fall failed ones in a row take no longer than that many intervals, and rise good ones alike.
func TestWatch_AChangeShowsWithinIntervalTimesFall(t *testing.T) {
	for i := range 50 {
		synctest.Test(t, func(t *testing.T) {
			f := &fakeProber{}
			c := faked(t, f)
			changes := subscribe(t, c, "a:1", tcpConfig)
			require.True(t, next(t, changes).Healthy)
			time.Sleep(time.Duration(i) * 777 * time.Millisecond)
			for range 20 {
				for _, want := range []struct {
					err     error
					healthy bool
					most    time.Duration
				}{{errBad, false, 3 * tcpConfig.Interval}, {nil, true, 2 * tcpConfig.Interval}} {
					f.set(want.err, 0)
					begin := time.Now()
					require.Equal(t, want.healthy, next(t, changes).Healthy)
					require.LessOrEqual(t, time.Since(begin), want.most)
				}
			}
			require.Empty(t, changes)
		})
	}
}

func TestWatch_ChecksFollowInAboutTheInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeProber{}
		subscribe(t, faked(t, f), "a:1", tcpConfig)
		f.set(nil, 900*time.Millisecond) // a slow check delays no other
		time.Sleep(1000 * tcpConfig.Interval)
		starts := f.checks()
		require.InDelta(t, 1111, len(starts), 25)
		shortest, longest := time.Hour, time.Duration(0)
		for i := range len(starts) - 2 {
			gap := starts[i+2].Sub(starts[i+1])
			shortest, longest = min(shortest, gap), max(longest, gap)
		}
		require.InDelta(t, 8, shortest.Seconds(), 0.1)
		require.InDelta(t, 10, longest.Seconds(), 0.1)
		require.LessOrEqual(t, longest, tcpConfig.Interval)
	})
}

func TestWatch_ChecksOfManyAddressesDoNotBurst(t *testing.T) {
	cases := []struct {
		many   int
		within time.Duration // the first checks
	}{{100, firstWithin}, {1000, time.Second}, {5000, 5 * time.Second}, {20_000, tcpConfig.Interval}}
	for _, c := range cases[:race.Choose(len(cases), 2)] {
		synctest.Test(t, func(t *testing.T) {
			f := &fakeProber{}
			checker := faked(t, f)
			begin := time.Now()
			for i := range c.many {
				checker.Subscribe(fmt.Sprint("a:", i), tcpConfig, func(Status) {})
			}
			time.Sleep(c.within)
			synctest.Wait()
			require.GreaterOrEqual(t, len(f.checks()), c.many, "each has been checked")
			time.Sleep(3 * tcpConfig.Interval)
			first, later := map[time.Duration]int{}, map[time.Duration]int{}
			for _, at := range f.checks() {
				if since := at.Sub(begin); since < c.within {
					first[since*10/c.within]++
				} else {
					later[since*20/tcpConfig.Interval]++
				}
			}
			for part, n := range first {
				require.Less(t, n, 10+4*c.many/10, "first checks, part %d of 10", part)
			}
			for part, n := range later {
				require.Less(t, n, 10+3*c.many/20, "part %d of 20 in an interval", part)
			}
			checker.Close()
		})
	}
}

func TestWatch_ACheckThatTakesTooLongHasFailed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeProber{}
		changes := subscribe(t, faked(t, f), "a:1", Config{Type: TypeTCP, Interval: 2 * time.Second, Timeout: 2 * time.Second})
		require.True(t, next(t, changes).Healthy)
		f.set(nil, time.Hour)
		begin := time.Now()
		got := next(t, changes)
		require.False(t, got.Healthy)
		require.ErrorIs(t, got.Err, context.DeadlineExceeded)
		require.Equal(t, 3, got.Failures)
		require.LessOrEqual(t, time.Since(begin), 4*2*time.Second, "fall intervals and a timeout")
	})
}

func TestWatch_SeveralWithOneConfigShareTheChecks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeProber{err: errBad}
		c := faked(t, f)
		first := make(chan Status, 10)
		stopFirst := c.Subscribe("a:1", tcpConfig, func(s Status) { first <- s })
		require.False(t, next(t, first).Healthy)
		same := tcpConfig
		same.Rise, same.Fall, same.Timeout = DefaultRise, DefaultFall, DefaultTimeout
		n := len(f.checks())
		second := subscribe(t, c, "a:1", same)
		synctest.Wait()
		require.Len(t, f.checks(), n, "not checked anew")
		require.Len(t, second, 1, "what is known is told at once")
		require.False(t, next(t, second).Healthy)

		stopFirst()
		stopFirst()
		f.set(nil, 0)
		require.True(t, next(t, second).Healthy, "the second subscription goes on")
		require.Empty(t, first, "and the first hears of nothing")
		require.EqualValues(t, 1, f.opened.Load())

		other := tcpConfig
		other.Fall = 9
		subscribe(t, c, "a:1", other)
		subscribe(t, c, "a:2", same)
		synctest.Wait()
		require.EqualValues(t, 3, f.opened.Load(), "another Config, and another address")
	})
}

func TestWatch_TheLastStopEndsTheChecks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeProber{}
		c := faked(t, f)
		one, two := c.Subscribe("a:1", tcpConfig, func(Status) {}), c.Subscribe("a:1", tcpConfig, func(Status) {})
		time.Sleep(time.Minute)
		one()
		before := len(f.checks())
		time.Sleep(time.Minute)
		require.Greater(t, len(f.checks()), before)
		two()
		before = len(f.checks())
		time.Sleep(time.Minute)
		require.Len(t, f.checks(), before)
		require.EqualValues(t, 1, f.closed.Load())
		_, ok := c.Status("a:1", tcpConfig)
		require.False(t, ok)
		subscribe(t, c, "a:1", tcpConfig)
		status, _ := c.Status("a:1", tcpConfig)
		require.Equal(t, Status{Healthy: true}, status, "unknown again")
	})
}

func TestWatch_StopEndsACheckThatIsUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		f := &fakeProber{takes: time.Hour}
		c := faked(t, f)
		c.log = slog.New(slog.NewTextHandler(&log, nil))
		stop := c.Subscribe("a:1", Config{Type: TypeTCP, Interval: time.Hour, Timeout: time.Hour}, func(s Status) {
			require.Fail(t, "told of a check that was not finished", "%+v", s)
		})
		time.Sleep(time.Second)
		require.Len(t, f.checks(), 1)
		stop()
		synctest.Wait()
		require.EqualValues(t, 1, f.closed.Load())
		require.Empty(t, log.String(), "that it was not finished says nothing of the endpoint")
	})
}

func TestWatch_NobodyIsToldAfterStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeProber{}
		c := faked(t, f)
		var told atomic.Int64
		stops := make(chan func(), 2)
		for range 2 {
			stops <- c.Subscribe("a:1", tcpConfig, func(Status) {
				told.Add(1)
				(<-stops)()
				(<-stops)()
			})
		}
		time.Sleep(time.Minute)
		require.EqualValues(t, 1, told.Load(), "the first that was told stopped the other")
	})
}

func TestWatch_StopAgainDoesNotTouchWhoCameAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeProber{}
		c := faked(t, f)
		stop := c.Subscribe("a:1", tcpConfig, func(Status) {})
		stop()
		changes := subscribe(t, c, "a:1", tcpConfig)
		stop()
		_, ok := c.Status("a:1", tcpConfig)
		require.True(t, ok)
		subscribe(t, c, "a:1", tcpConfig)
		next(t, changes)
		require.EqualValues(t, 2, f.opened.Load(), "the two that stay share the checks")
	})
}

func TestWatch_StopAndWatchFromChanged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeProber{}
		c := faked(t, f)
		told := make(chan string, 10)
		stops := make(chan func(), 1)
		stops <- c.Subscribe("a:1", tcpConfig, func(Status) {
			told <- "first"
			c.Subscribe("a:1", tcpConfig, func(Status) { told <- "second" })
			(<-stops)()
		})
		require.Equal(t, "first", next(t, told))
		require.Equal(t, "second", next(t, told))
		f.set(errBad, 0)
		require.Equal(t, "second", next(t, told))
		require.Empty(t, told)
	})
}

func TestClose_EndsEverythingAndWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeProber{takes: 500 * time.Millisecond}
		c := faked(t, f)
		changes := make(chan Status, 1000)
		var stops []func()
		for i := range 100 {
			stops = append(stops, c.Subscribe(fmt.Sprint("a:", i), tcpConfig, func(s Status) { changes <- s }))
		}
		time.Sleep(300 * time.Millisecond) // some are being checked
		c.Close()
		require.EqualValues(t, 100, f.closed.Load())
		told := len(changes)
		c.Close()
		for _, stop := range stops {
			stop()
		}
		c.Subscribe("a:1", tcpConfig, func(s Status) { changes <- s })()
		time.Sleep(time.Hour)
		require.Len(t, changes, told)
		require.EqualValues(t, 100, f.opened.Load())
	})
}

func TestChecker_LogsChangesOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		f := &fakeProber{}
		c := NewChecker(slog.New(slog.NewTextHandler(&out, nil)))
		c.newProber = func(string, Config) prober { return f }
		changes := subscribe(t, c, "a:1", tcpConfig)
		next(t, changes)
		f.set(errBad, 0)
		next(t, changes)
		time.Sleep(time.Hour)
		c.Close()
		require.Equal(t, 2, bytes.Count(out.Bytes(), []byte("\n")), out.String())
		require.Contains(t, out.String(), `level=INFO msg="endpoint healthy" endpoint=a:1 check=tcp`)
		require.Contains(t, out.String(), `level=WARN msg="endpoint unhealthy" endpoint=a:1 check=tcp failures=3 error=bad`)
	})
}

// Watchers come and go while the state changes: each that stays hears of the last state.
func TestWatch_ManyAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := Config{Type: TypeTCP, Interval: 100 * time.Millisecond, Rise: 1, Fall: 1}
		f := &fakeProber{}
		c := faked(t, f)
		var wg sync.WaitGroup
		var stay [8]atomic.Pointer[Status]
		for i := range stay {
			wg.Go(func() {
				for range 200 {
					stop := c.Subscribe("a:1", cfg, func(Status) {})
					time.Sleep(time.Millisecond * time.Duration(i))
					f.set([]error{nil, errBad}[i%2], 0)
					stop()
				}
				t.Cleanup(c.Subscribe("a:1", cfg, func(s Status) { stay[i].Store(&s) }))
			})
		}
		wg.Wait()
		for _, err := range []error{errBad, nil, errBad} {
			f.set(err, 0)
			time.Sleep(time.Second)
			synctest.Wait()
			for i := range stay {
				require.Equal(t, err == nil, stay[i].Load().Healthy)
			}
		}
	})
}
