package reflection

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// program stands for what is compiled: the methods it has.
type program []string

func (p program) has(method string) bool { return slices.Contains(p, method) }

// endpoint counts the fetches of an endpoint, and answers them one way or another.
type endpoint struct {
	mu      sync.Mutex
	fetches int
	running int
	answer  program
	err     error
	delay   time.Duration
}

func (e *endpoint) set(p program, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.answer, e.err = p, err
}

func (e *endpoint) count() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.fetches
}

func (e *endpoint) fetch(ctx context.Context) (program, error) {
	e.mu.Lock()
	e.fetches++
	e.running++
	alone := e.running == 1
	delay := e.delay
	e.mu.Unlock()
	defer func() {
		e.mu.Lock()
		e.running--
		e.mu.Unlock()
	}()
	if !alone {
		return nil, errors.New("two fetches at a time")
	}
	if delay > 0 {
		select {
		case <-time.After(delay):
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.answer, e.err
}

// get is Get for key "k".
func (e *endpoint) get(ctx context.Context, c *Cache[program], method string) error {
	_, err := c.Get(ctx, "k", method, e.fetch, program.has)
	return err
}

// bubble runs a test with a Cache and a false clock. All goroutines have ended when it returns.
func bubble(t *testing.T, cfg CacheConfig, test func(*testing.T, *Cache[program])) {
	t.Helper()
	require.NoError(t, cfg.Validate())
	synctest.Test(t, func(t *testing.T) {
		c := NewCache[program](cfg)
		defer c.Close()
		test(t, c)
	})
}

func TestCache_FetchesOnceForAllWhoWait(t *testing.T) {
	bubble(t, CacheConfig{}, func(t *testing.T, c *Cache[program]) {
		e := &endpoint{answer: program{"/a.A/X", "/a.A/Y"}, delay: time.Second}
		errs := make(chan error, 20)
		for i := range 20 {
			go func() { errs <- e.get(t.Context(), c, []string{"/a.A/X", "/a.A/Y"}[i%2]) }()
		}
		for range 20 {
			require.NoError(t, <-errs)
		}
		require.Equal(t, 1, e.count())
		require.NoError(t, e.get(t.Context(), c, "/a.A/X"))
		require.Equal(t, 1, e.count())
	})
}

func TestCache_FetchesTheServicesOfAKeyOneAfterTheOther(t *testing.T) {
	bubble(t, CacheConfig{}, func(t *testing.T, c *Cache[program]) {
		e := &endpoint{answer: program{"/a.A/X", "/b.B/X", "/c.C/X"}, delay: time.Second}
		errs := make(chan error, 30)
		start := time.Now()
		for i := range 30 {
			go func() { errs <- e.get(t.Context(), c, []string{"/a.A/X", "/b.B/X", "/c.C/X"}[i%3]) }()
		}
		for range 30 {
			require.NoError(t, <-errs)
		}
		require.Equal(t, 3, e.count())
		require.Equal(t, 3*time.Second, time.Since(start))
	})
}

func TestCache_ACallerThatLeavesFailsNobodyElse(t *testing.T) {
	bubble(t, CacheConfig{}, func(t *testing.T, c *Cache[program]) {
		e := &endpoint{answer: program{"/a.A/X"}, delay: time.Second}
		first, cancel := context.WithCancel(t.Context())
		left := make(chan error, 1)
		go func() { left <- e.get(first, c, "/a.A/X") }()
		synctest.Wait()
		stays := make(chan error, 1)
		go func() { stays <- e.get(t.Context(), c, "/a.A/X") }()
		synctest.Wait()
		cancel()
		require.ErrorIs(t, <-left, context.Canceled)
		require.NoError(t, <-stays)
		require.Equal(t, 1, e.count())
	})
}

func TestCache_KeepsTheAnswerOfAFetchThatAllCallersLeft(t *testing.T) {
	bubble(t, CacheConfig{}, func(t *testing.T, c *Cache[program]) {
		e := &endpoint{answer: program{"/a.A/X"}, delay: 2 * time.Second}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.ErrorIs(t, e.get(ctx, c, "/a.A/X"), context.DeadlineExceeded)
		time.Sleep(2 * time.Second)
		require.NoError(t, e.get(t.Context(), c, "/a.A/X"))
		require.Equal(t, 1, e.count())
	})
}

func TestCache_EndsAFetchAfterItsTimeout(t *testing.T) {
	bubble(t, CacheConfig{FetchTimeout: 3 * time.Second}, func(t *testing.T, c *Cache[program]) {
		e := &endpoint{delay: time.Hour}
		start := time.Now()
		require.ErrorIs(t, e.get(t.Context(), c, "/a.A/X"), context.DeadlineExceeded)
		require.Equal(t, 3*time.Second, time.Since(start))
	})
}

func TestCache_LeavesABrokenEndpointAloneLongerAndLonger(t *testing.T) {
	bubble(t, CacheConfig{}, func(t *testing.T, c *Cache[program]) {
		broken := errors.New("broken")
		e := &endpoint{err: broken}
		var pauses []time.Duration
		last := time.Now()
		for len(pauses) < 8 {
			before := e.count()
			require.ErrorIs(t, e.get(t.Context(), c, "/a.A/X"), broken)
			if e.count() > before {
				pauses = append(pauses, time.Since(last))
				last = time.Now()
			}
			time.Sleep(10 * time.Millisecond)
		}
		require.Zero(t, pauses[0])
		for i, most := range []time.Duration{1, 2, 4, 8, 16, 30, 30} {
			most *= time.Second
			require.LessOrEqual(t, pauses[i+1], most+10*time.Millisecond, "pause %d", i+1)
			require.GreaterOrEqual(t, pauses[i+1], most*2/3, "pause %d", i+1)
		}

		e.set(program{"/a.A/X"}, nil) // mended: found after the last pause
		time.Sleep(30 * time.Second)
		require.NoError(t, e.get(t.Context(), c, "/a.A/X"))
	})
}

func TestCache_RefreshesForAMissingMethodOncePerInterval(t *testing.T) {
	bubble(t, CacheConfig{MissInterval: 10 * time.Second}, func(t *testing.T, c *Cache[program]) {
		e := &endpoint{answer: program{"/a.A/X"}}
		require.NoError(t, e.get(t.Context(), c, "/a.A/X"))
		for range 1000 {
			require.ErrorIs(t, e.get(t.Context(), c, "/a.A/New"), ErrMissing)
		}
		require.Equal(t, 1, e.count(), "the answer is new")

		time.Sleep(10 * time.Second)
		for range 1000 {
			require.ErrorIs(t, e.get(t.Context(), c, "/a.A/New"), ErrMissing)
			require.NoError(t, e.get(t.Context(), c, "/a.A/X"))
		}
		require.Equal(t, 2, e.count())

		time.Sleep(10 * time.Second)
		e.set(program{"/a.A/X", "/a.A/New"}, nil)
		require.NoError(t, e.get(t.Context(), c, "/a.A/New"))
		require.Equal(t, 3, e.count())
	})
}

func TestCache_ServesWhatItHoldsWhileARefreshRunsOrFails(t *testing.T) {
	bubble(t, CacheConfig{}, func(t *testing.T, c *Cache[program]) {
		e := &endpoint{answer: program{"/a.A/X"}}
		require.NoError(t, e.get(t.Context(), c, "/a.A/X"))
		time.Sleep(time.Minute)

		broken := errors.New("broken")
		e.mu.Lock()
		e.delay, e.err, e.answer = time.Second, broken, nil
		e.mu.Unlock()
		missing := make(chan error, 1)
		go func() { missing <- e.get(t.Context(), c, "/a.A/New") }()
		synctest.Wait()
		start := time.Now()
		require.NoError(t, e.get(t.Context(), c, "/a.A/X"))
		require.Zero(t, time.Since(start), "the caller waited for the refresh")
		require.ErrorIs(t, <-missing, broken)
		require.NoError(t, e.get(t.Context(), c, "/a.A/X"))
	})
}

func TestCache_RemembersThatAServiceIsMissing(t *testing.T) {
	bubble(t, CacheConfig{MissInterval: 10 * time.Second}, func(t *testing.T, c *Cache[program]) {
		e := &endpoint{err: fmt.Errorf("wrapped: %w", ErrMissing)}
		for range 5 {
			before := e.count()
			for range 100 {
				require.ErrorIs(t, e.get(t.Context(), c, "/a.A/X"), ErrMissing)
			}
			require.Equal(t, before+1, e.count())
			time.Sleep(10 * time.Second)
		}
	})
}

func TestCache_MadeUpServicesDoNotReachTheEndpointEachTime(t *testing.T) {
	bubble(t, CacheConfig{MaxServices: 40}, func(t *testing.T, c *Cache[program]) {
		e := &endpoint{answer: program{"/a.A/X"}}
		require.NoError(t, e.get(t.Context(), c, "/a.A/X"))
		e.set(nil, ErrMissing)
		busy := 0
		for i := range 10_000 {
			err := e.get(t.Context(), c, fmt.Sprintf("/made.Up%d/X", i))
			if errors.Is(err, ErrBusy) {
				busy++
			} else {
				require.ErrorIs(t, err, ErrMissing)
			}
			time.Sleep(10 * time.Millisecond)
		}
		require.InDelta(t, missBurst+100, e.count(), 3) // in 100 s
		require.Equal(t, 10_000, busy+e.count()-1)
		require.LessOrEqual(t, len(c.keys["k"].services), 40)

		before := e.count()
		require.NoError(t, e.get(t.Context(), c, "/a.A/X"))
		require.Equal(t, before, e.count(), "a service with a value made room for one without")
	})
}

func TestCache_RefusesANameThatIsTooLongToKeep(t *testing.T) {
	bubble(t, CacheConfig{}, func(t *testing.T, c *Cache[program]) {
		e := &endpoint{}
		err := e.get(t.Context(), c, "/"+string(make([]byte, maxServiceName+1))+"/X")
		require.ErrorIs(t, err, ErrMissing)
		require.Less(t, len(err.Error()), 2*maxServiceName)
		require.Zero(t, e.count())
	})
}

func TestCache_DropsTheLeastRecentlyUsedKey(t *testing.T) {
	bubble(t, CacheConfig{MaxKeys: 3}, func(t *testing.T, c *Cache[program]) {
		e := &endpoint{answer: program{"/a.A/X"}}
		get := func(key string) {
			_, err := c.Get(t.Context(), key, "/a.A/X", e.fetch, program.has)
			require.NoError(t, err)
		}
		for _, key := range []string{"1", "2", "3", "1", "4"} { // 2 goes
			get(key)
		}
		require.Equal(t, 4, e.count())
		for _, key := range []string{"1", "3", "4"} {
			get(key)
		}
		require.Equal(t, 4, e.count())
		get("2")
		require.Equal(t, 5, e.count())
	})
}

func TestCache_DropsTheLeastRecentlyUsedService(t *testing.T) {
	bubble(t, CacheConfig{MaxServices: 2}, func(t *testing.T, c *Cache[program]) {
		e := &endpoint{answer: program{"/a.A/X", "/b.B/X", "/c.C/X"}}
		for i, method := range []string{"/a.A/X", "/b.B/X", "/a.A/X", "/c.C/X", "/a.A/X", "/b.B/X"} {
			require.NoError(t, e.get(t.Context(), c, method))
			require.Equal(t, []int{1, 2, 2, 3, 3, 4}[i], e.count(), "after call %d", i)
		}
	})
}

func TestCache_CloseEndsFetchesAndCalls(t *testing.T) {
	bubble(t, CacheConfig{FetchTimeout: time.Hour}, func(t *testing.T, c *Cache[program]) {
		e := &endpoint{delay: 2 * time.Hour}
		errs := make(chan error, 2)
		go func() { errs <- e.get(t.Context(), c, "/a.A/X") }()
		go func() { errs <- e.get(t.Context(), c, "/b.B/X") }()
		synctest.Wait()
		start := time.Now()
		c.Close()
		c.Close()
		require.ErrorIs(t, <-errs, ErrClosed)
		require.ErrorIs(t, <-errs, ErrClosed)
		require.Zero(t, time.Since(start))
		require.ErrorIs(t, e.get(t.Context(), c, "/a.A/X"), ErrClosed)
		require.Equal(t, 1, e.count())
	})
}

func TestCache_TurnsAPanicOfAFetchIntoAnError(t *testing.T) {
	bubble(t, CacheConfig{}, func(t *testing.T, c *Cache[program]) {
		_, err := c.Get(t.Context(), "k", "/a.A/X", func(context.Context) (program, error) { panic("oh") }, program.has)
		require.ErrorContains(t, err, "panic: oh")
	})
}

func TestCache_ManyCallersAndChangesAtOnce(t *testing.T) {
	c := NewCache[program](CacheConfig{
		MaxKeys: 3, MaxServices: 2, MissInterval: time.Microsecond, MinBackoff: time.Microsecond,
	})
	defer c.Close()
	wg := sync.WaitGroup{}
	for g := range 8 {
		wg.Go(func() {
			for i := range 500 {
				key, service := fmt.Sprint(i%5), fmt.Sprintf("/s.S%d/", (i+g)%4)
				p, err := c.Get(t.Context(), key, service+"X", func(context.Context) (program, error) {
					if i%7 == 0 {
						return nil, errors.New("broken")
					}
					return program{service + "X"}, nil
				}, program.has)
				if err == nil && !p.has(service+"X") {
					t.Errorf("got the program of another service: %v, want %sX", p, service)
				}
			}
		})
	}
	wg.Wait()
	require.LessOrEqual(t, len(c.keys), 3)
}

func TestCacheConfig_NamesEverythingThatIsWrong(t *testing.T) {
	require.NoError(t, CacheConfig{}.Validate())
	err := CacheConfig{
		MaxKeys: -1, MaxServices: -2, FetchTimeout: -1, MissInterval: -1, MinBackoff: -1, MaxBackoff: -time.Second,
	}.Validate()
	for _, want := range []string{
		"max_keys: -1, want 0 or more", "max_services: -2", "fetch_timeout: -1ns, want 0s or more", "miss_interval",
		"min_backoff", "max_backoff: -1s",
	} {
		require.ErrorContains(t, err, want)
	}
	err = CacheConfig{MaxBackoff: time.Millisecond}.Validate()
	require.EqualError(t, err, "min_backoff: 1s, want at most max_backoff, 1ms")
}

// A call that finds its value takes no memory.
func BenchmarkCache_Get(b *testing.B) {
	c := NewCache[program](CacheConfig{})
	defer c.Close()
	e := &endpoint{answer: program{"/a.A/X"}}
	fetch, ctx := e.fetch, b.Context()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.Get(ctx, "k", "/a.A/X", fetch, program.has); err != nil {
			b.Fatal(err)
		}
	}
}
