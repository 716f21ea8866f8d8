package transserver

import (
	"context"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/cloudwego/kitex/pkg/gofunc"
	"github.com/cloudwego/kitex/pkg/klog"
)

// init makes Kitex run its goroutines, among them one for each call, in workers. Kitex's own function also sets labels for
// its profiler (server.WithProfiler), which workers do not.
func init() {
	w := &workers{tasks: make(chan func())}
	gofunc.GoFunc = func(_ context.Context, task func()) { w.run(task) }
}

const (
	maxIdleWorkers = 256                    // workers that may wait for a task
	idlePeriod     = 100 * time.Millisecond // time between two releases of the workers that wait
)

// workers are the goroutines that run Kitex's tasks, most of which are calls. The stack of a new goroutine is too small for
// a call: it has to grow, which copies it, in the middle of the call. So a worker whose task has ended waits up to
// idlePeriod for the next task, which gets the large stack.
type workers struct {
	tasks chan func()  // to a worker that waits; nil ends the worker
	idle  atomic.Int32 // workers that wait, or are about to
	armed atomic.Bool  // a timer will call release
}

// run runs a task in a worker that waits, or in a new one. Like a go statement it does not wait for the task. A panic of the
// task is logged.
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
		safely(task)
		if w.idle.Add(1) > maxIdleWorkers {
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

// safely runs a task, and logs a panic instead of ending the process.
func safely(task func()) {
	defer func() {
		if p := recover(); p != nil {
			klog.Errorf("framegate: panic in a goroutine of Kitex: %v\n%s", p, debug.Stack())
		}
	}()
	task()
}
