// Package leak helps tests to find leaked goroutines.
package leak

import (
	"regexp"
	"runtime"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// waiting matches the stack of a worker goroutine that waits for a task (package workers).
var waiting = regexp.MustCompile(`\[chan receive[^\n]*\]:\n[^\n]*handler/workers\.\(\*workers\)\.work\(`)

// IgnoreCurrent is Settle and then goleak.IgnoreCurrent, for tests of what runs in workers. Without Settle, goleak would ignore
// an idle worker goroutine that later runs the tested code, and so would miss a leak in it.
func IgnoreCurrent(t testing.TB) goleak.Option {
	t.Helper()
	Settle(t)
	return goleak.IgnoreCurrent()
}

// Settle waits until there are no idle worker goroutines: those that are left run a task.
func Settle(t testing.TB) {
	t.Helper()
	for begin := time.Now(); waiting.Match(stacks()); time.Sleep(time.Millisecond) {
		if time.Since(begin) > 10*time.Second {
			t.Fatal("goroutines wait for tasks, and do not end")
		}
	}
}

func stacks() []byte {
	for b := make([]byte, 1<<20); ; b = make([]byte, 2*len(b)) {
		if n := runtime.Stack(b, true); n < len(b) {
			return b[:n]
		}
	}
}
