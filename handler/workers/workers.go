// Package workers runs the goroutines of calls.
package workers

import (
	"sync/atomic"
	"time"
)

// Go runs f in a goroutine, like a go statement. The goroutine may be one that has run others before: it is for functions that
// need a large stack and are many, as the parts of calls are.
func Go(f func()) { all.run(f) }

// all are the workers of the process.
var all = &workers{tasks: make(chan func())}

const (
	maxIdle    = 256                    // workers that may wait for a task
	idlePeriod = 100 * time.Millisecond // time between two releases of the workers that wait
)

// workers are goroutines that run tasks. The stack of a new goroutine is too small for a call: it has to grow, which copies it, in
// the middle of the call. So a worker whose task has ended waits up to idlePeriod for the next task, which gets the large stack.
type workers struct {
	tasks chan func()  // to a worker that waits; nil ends the worker
	idle  atomic.Int32 // workers that wait, or are about to
	armed atomic.Bool  // a timer will call release
}

// run runs a task in a worker that waits, or in a new one. It does not wait for the task.
func (w *workers) run(task func()) {
	select {
	case w.tasks <- task:
	default:
		go w.work(task)
	}
}

// work is the goroutine of a worker.
func (w *workers) work(task func()) {
	for task != nil {
		task()
		if w.idle.Add(1) > maxIdle {
			w.idle.Add(-1)
			return
		}
		w.arm()
		task = <-w.tasks
		w.idle.Add(-1)
	}
}

// arm sets the timer for release, unless it is set.
func (w *workers) arm() {
	if !w.armed.Load() && w.armed.CompareAndSwap(false, true) {
		time.AfterFunc(idlePeriod, w.release)
	}
}

// release ends the workers that are idle.
func (w *workers) release() {
	for w.end() {
	}
	w.armed.Store(false)
	if w.idle.Load() > 0 { // workers that were about to wait
		w.arm()
	}
}

// end ends one worker that waits, and reports whether there was one.
func (w *workers) end() bool {
	select {
	case w.tasks <- nil:
		return true
	default:
		return false
	}
}
