package workers

import (
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const waitLimit = 10 * time.Second

// goroutineID returns what tells a goroutine from others.
func goroutineID() string {
	b := make([]byte, 64)
	id, _, _ := strings.Cut(string(b[:runtime.Stack(b, false)]), " [")
	return id
}

// awaitIdle waits until w has so many idle workers.
func (w *workers) awaitIdle(t *testing.T, want int) {
	t.Helper()
	require.Eventually(t, func() bool { return w.idle.Load() == int32(want) }, waitLimit, time.Millisecond, "idle workers, want %d", want)
}

func TestWorkers_AnIdleOneTakesTheNextTask(t *testing.T) {
	t.Parallel()
	w := &workers{tasks: make(chan func())}
	w.armed.Store(true) // they stay
	seen := map[string]bool{}
	for range 50 {
		ran := make(chan string)
		w.run(func() { ran <- goroutineID() })
		seen[<-ran] = true
		time.Sleep(time.Millisecond) // it is about to wait
	}
	require.Less(t, len(seen), 50, "goroutines for 50 tasks, one after the other")
	w.release()
	w.awaitIdle(t, 0)
}

// No task waits for another: each has a worker at once, however many there are.
func TestWorkers_NoTaskWaits(t *testing.T) {
	t.Parallel()
	const tasks = 4 * maxIdle
	w := &workers{tasks: make(chan func())}
	for range 3 {
		var all, done sync.WaitGroup
		all.Add(tasks)
		for range tasks {
			done.Add(1)
			w.run(func() {
				defer done.Done()
				all.Done()
				all.Wait() // for all others
			})
		}
		done.Wait()
	}
	w.awaitIdle(t, 0)
}

func TestWorkers_EndWhenNothingComes(t *testing.T) {
	before := runtime.NumGoroutine()
	w := &workers{tasks: make(chan func())}
	for range 20 {
		var done sync.WaitGroup
		for range 300 {
			done.Add(1)
			w.run(done.Done)
		}
		done.Wait()
	}
	w.awaitIdle(t, 0)
	for begin := time.Now(); runtime.NumGoroutine() > before; time.Sleep(time.Millisecond) {
		require.Less(t, time.Since(begin), waitLimit, "goroutines that are left: %d", runtime.NumGoroutine()-before)
	}
}
