// Package workers runs the goroutines of calls.
//
// The stack of a new goroutine is too small for a call: it has to grow, which copies it, several times in the middle of the call.
// That is a tenth of a call's CPU. So the goroutine of a task that has ended waits for the next one for a while, with its large stack.
package workers

import (
	"slices"
	"sync"
	"time"
)

// Go runs f in a goroutine, like a go statement, and is done with it in group, unless that is nil, as sync.WaitGroup.Go is. The
// goroutine may be one that has run others before: Go is for functions that need a large stack and are many.
func Go(group *sync.WaitGroup, f func()) {
	if group != nil {
		group.Add(1)
	}
	all.run(task{f, group})
}

// all are the workers of the process.
var all workers

const (
	maxIdle    = 4096                   // workers that may wait for a task
	idlePeriod = 100 * time.Millisecond // a worker that waits ends after one to two of them
)

// workers are goroutines that run tasks.
type workers struct {
	mu    sync.Mutex
	idle  []chan task // of those that wait, each with room for one task; the one that has waited for the longest time is the first
	rest  int         // the least of len(idle) since the last trim
	armed bool        // a timer will call tick
}

// task is what a worker runs.
type task struct {
	run   func() // nil ends the worker
	group *sync.WaitGroup
}

// run runs a task in the worker that has waited for the shortest time, whose stack may be in the processor's caches, or in a new one.
func (w *workers) run(t task) {
	w.mu.Lock()
	n := len(w.idle)
	if n == 0 {
		w.mu.Unlock()
		go w.work(t)
		return
	}
	next := w.idle[n-1]
	w.idle = w.idle[:n-1]
	w.rest = min(w.rest, n-1)
	w.mu.Unlock()
	next <- t
}

// work is the goroutine of a worker.
func (w *workers) work(t task) {
	next := make(chan task, 1)
	for t.run != nil {
		t.do()
		if !w.wait(next) {
			return
		}
		t = <-next
	}
}

// do runs the task.
func (t task) do() {
	if t.group != nil {
		defer t.group.Done()
	}
	t.run()
}

// wait adds a worker to those that wait, or reports false if there are enough of them.
func (w *workers) wait(next chan task) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.idle) >= maxIdle {
		return false
	}
	w.idle = append(w.idle, next)
	w.armLocked()
	return true
}

// armLocked sets the timer for tick, unless it is set.
func (w *workers) armLocked() {
	if !w.armed {
		w.armed = true
		time.AfterFunc(idlePeriod, w.tick)
	}
}

// tick trims the workers for as long as there are some.
func (w *workers) tick() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.trimLocked()
	w.armed = false
	if len(w.idle) > 0 {
		w.armLocked()
	}
}

// trimLocked ends the workers that had nothing to do since the last trim.
func (w *workers) trimLocked() {
	for _, next := range w.idle[:w.rest] {
		next <- task{}
	}
	w.idle = slices.Delete(w.idle, 0, w.rest)
	w.rest = len(w.idle)
}
