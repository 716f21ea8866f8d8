package transserver

import (
	"runtime"
	"testing"
	"time"

	"github.com/cloudwego/kitex/pkg/gofunc"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/framegate/framegate/test/leak"
)

// A panic costs its task alone, and is logged.
func TestGoFunc_LogsPanics(t *testing.T) {
	t.Parallel()
	before := kitexLog.Count("what a task did")
	for range 3 {
		gofunc.GoFunc(t.Context(), func() { panic("what a task did") })
	}
	ran := make(chan struct{})
	gofunc.GoFunc(t.Context(), func() { close(ran) })
	<-ran
	require.Eventually(t, func() bool { return kitexLog.Count("what a task did") == before+3 }, waitLimit, time.Millisecond)
}

func TestGoFunc_UsesWorkers(t *testing.T) {
	t.Parallel()
	stack := make(chan string)
	gofunc.GoFunc(t.Context(), func() {
		b := make([]byte, 4096)
		stack <- string(b[:runtime.Stack(b, false)])
	})
	require.Contains(t, <-stack, "workers.(*workers)")
}

// What a task leaves behind is found, though it was run by a worker that was there before.
func TestGoFunc_HidesNoLeak(t *testing.T) {
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
