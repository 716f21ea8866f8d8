package transserver

import (
	"context"
	"runtime/debug"

	"github.com/cloudwego/kitex/pkg/gofunc"
	"github.com/cloudwego/kitex/pkg/klog"

	"github.com/framegate/framegate/handler/workers"
)

// init makes Kitex run its goroutines, among them one for each call, in workers. Kitex's own function also sets labels for
// its profiler (server.WithProfiler), which workers do not.
func init() {
	gofunc.GoFunc = func(_ context.Context, task func()) { workers.Go(nil, func() { safely(task) }) }
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
