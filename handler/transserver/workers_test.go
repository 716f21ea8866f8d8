package transserver

import (
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cloudwego/kitex/pkg/gofunc"
	"github.com/cloudwego/kitex/pkg/klog"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/framegate/framegate/test/leak"
	"github.com/framegate/framegate/test/testlog"
)

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
	const tasks = 4 * maxIdleWorkers
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

// A panic costs its task alone, and is logged.
func TestWorkers_OutlivePanics(t *testing.T) {
	var log testlog.Buffer
	klog.SetOutput(&log)
	klog.SetLevel(klog.LevelError)
	t.Cleanup(func() { klog.SetLevel(klog.LevelFatal); klog.SetOutput(os.Stderr) })
	w := &workers{tasks: make(chan func())}
	for range 3 {
		w.run(func() { panic("what a task did") })
	}
	ran := make(chan struct{})
	w.run(func() { close(ran) })
	<-ran
	require.Eventually(t, func() bool { return log.Count("what a task did") == 3 }, waitLimit, time.Millisecond)
	w.awaitIdle(t, 0)
}

// Kitex uses them.
func TestWorkers_AreThoseOfKitex(t *testing.T) {
	t.Parallel()
	stack := make(chan string)
	gofunc.GoFunc(t.Context(), func() {
		b := make([]byte, 4096)
		stack <- string(b[:runtime.Stack(b, false)])
	})
	require.Contains(t, <-stack, "transserver.(*workers)")
}

// What a task leaves behind is found, though it was run by a worker that was there before.
func TestWorkers_HideNoLeak(t *testing.T) {
	ran := make(chan struct{})
	gofunc.GoFunc(t.Context(), func() { close(ran) })
	<-ran
	ignore := leak.IgnoreCurrent(t)
	entered, release := make(chan struct{}), make(chan struct{})
	gofunc.GoFunc(t.Context(), func() { close(entered); <-release })
	<-entered
	require.Error(t, goleak.Find(ignore), "a task that does not end")
	close(release)
	require.NoError(t, goleak.Find(ignore))
}
