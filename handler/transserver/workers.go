package transserver

import (
	"context"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/cloudwego/kitex/pkg/gofunc"
	"github.com/cloudwego/kitex/pkg/klog"
)

// Whoever imports this package has Kitex run its goroutines, among them one for each call, in workers. Kitex's own labels
// them for its profiler (server.WithProfiler), which these do not.
func init() {
	w := &workers{tasks: make(chan func())}
	gofunc.GoFunc = func(_ context.Context, task func()) { w.run(task) }
}

const (
	maxIdleWorkers = 256                    // how many wait for a task at most
	idlePeriod     = 100 * time.Millisecond // how often those that wait are ended
)

// workers are the goroutines that Kitex asks for. Most are to run a call, and many calls come together. The stack of a new
// goroutine is too small for a call: it grows, and is copied, in its middle. So a worker that is done takes the next task,
// if one comes soon. It ends with its task otherwise, as the goroutine of a go statement would.
type workers struct {
	tasks chan func() // to a worker that waits; nil ends it
	idle  atomic.Int32
	armed atomic.Bool // release is to come
}

// run runs a task in a goroutine, as go does, but logs a panic and recovers from it.
func (w *workers) run(task func()) {
	select {
	case w.tasks <- task:
	default:
		go w.work(task)
	}
}

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

// arm sees to it that the idle workers end, in idlePeriod.
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
	if w.idle.Load() > 0 { // some were about to wait
		w.arm()
	}
}

// end ends a worker that waits, and reports whether there was one.
func (w *workers) end() bool {
	select {
	case w.tasks <- nil:
		return true
	default:
		return false
	}
}

func safely(task func()) {
	defer func() {
		if p := recover(); p != nil {
			klog.Errorf("framegate: panic in a goroutine of Kitex: %v\n%s", p, debug.Stack())
		}
	}()
	task()
}
