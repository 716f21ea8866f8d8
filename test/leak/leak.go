// Package leak helps tests to find goroutines that are left behind.
package leak

import (
	"regexp"
	"runtime"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// waiting matches a goroutine of Kitex's that waits for a task (handler/transserver/workers.go).
var waiting = regexp.MustCompile(`\[chan receive[^\n]*\]:\n[^\n]*transserver\.\(\*workers\)\.work\(`)

// IgnoreCurrent is goleak.IgnoreCurrent for tests with a Kitex server, after Settle: what is tested might be run by a
// goroutine that waits for its next task, and what that leaves behind would be ignored.
func IgnoreCurrent(t testing.TB) goleak.Option {
	t.Helper()
	Settle(t)
	return goleak.IgnoreCurrent()
}

// Settle returns when no goroutine of Kitex waits for its next task: those that are left have one.
func Settle(t testing.TB) {
	t.Helper()
	for begin := time.Now(); waiting.Match(stacks()); time.Sleep(time.Millisecond) {
		if time.Since(begin) > 10*time.Second {
			t.Fatal("goroutines wait for tasks of Kitex, and do not end")
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
