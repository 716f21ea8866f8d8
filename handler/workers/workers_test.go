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

// waiting returns how many workers are idle.
func (w *workers) waiting() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.idle)
}

func (w *workers) trim() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.trimLocked()
}

// awaitIdle waits until w has so many idle workers.
func (w *workers) awaitIdle(t *testing.T, want int) {
	t.Helper()
	require.Eventually(t, func() bool { return w.waiting() == want }, waitLimit, time.Millisecond, "idle workers, want %d", want)
}

func TestWorkers_AnIdleOneTakesTheNextTask(t *testing.T) {
	t.Parallel()
	w := &workers{armed: true} // they stay
	seen := map[string]bool{}
	for range 50 {
		ran := make(chan string)
		w.run(task{run: func() { ran <- goroutineID() }})
		seen[<-ran] = true
		w.awaitIdle(t, 1)
	}
	require.Len(t, seen, 1, "goroutines for 50 tasks, one after the other")
	w.trim() // it had something to do since the start
	w.awaitIdle(t, 1)
	w.trim()
	w.awaitIdle(t, 0)
}

// No task waits for another: each has a worker at once, however many there are.
func TestWorkers_NoTaskWaits(t *testing.T) {
	t.Parallel()
	const tasks = 2 * maxIdle
	w := new(workers)
	for range 3 {
		var all, done sync.WaitGroup
		all.Add(tasks)
		for range tasks {
			done.Add(1)
			w.run(task{func() {
				all.Done()
				all.Wait() // for all others
			}, &done})
		}
		done.Wait()
	}
	w.awaitIdle(t, 0)
}

func TestWorkers_EndWhenNothingComes(t *testing.T) {
	before := runtime.NumGoroutine()
	w := new(workers)
	for range 20 {
		var done sync.WaitGroup
		for range 300 {
			done.Add(1)
			w.run(task{func() {}, &done})
		}
		done.Wait()
	}
	w.awaitIdle(t, 0)
	for begin := time.Now(); runtime.NumGoroutine() > before; time.Sleep(time.Millisecond) {
		require.Less(t, time.Since(begin), waitLimit, "goroutines that are left: %d", runtime.NumGoroutine()-before)
	}
}

// The worker that has waited for the shortest time has the next task, and the others end.
func TestWorkers_ThoseThatAreTooManyEnd(t *testing.T) {
	t.Parallel()
	w := &workers{armed: true}
	run := func(n int) {
		t.Helper()
		var all, done sync.WaitGroup
		all.Add(n)
		done.Add(n)
		for range n {
			w.run(task{func() { all.Done(); all.Wait() }, &done})
		}
		done.Wait()
	}
	run(10)
	w.awaitIdle(t, 10)
	w.trim() // counts from here
	w.awaitIdle(t, 10)
	run(4)
	w.awaitIdle(t, 10)
	w.trim()
	w.awaitIdle(t, 4)
	w.trim()
	w.trim()
	w.awaitIdle(t, 0)
}

// The group is done with a task when that has ended.
func TestGo_IsDoneInItsGroup(t *testing.T) {
	t.Parallel()
	var group sync.WaitGroup
	release, waited := make(chan struct{}), make(chan struct{})
	Go(&group, func() { <-release })
	go func() { group.Wait(); close(waited) }()
	select {
	case <-waited:
		t.Fatal("the task has not ended")
	case <-time.After(20 * time.Millisecond):
	}
	close(release)
	<-waited
	ran := make(chan struct{})
	Go(nil, func() { close(ran) })
	<-ran
}
