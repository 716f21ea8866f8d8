package testbed

import (
	"testing"
	"time"
)

const pollInterval = 5 * time.Millisecond

// Poll calls check until it returns nil, and fails the test with the last error when Patience has passed. It is for
// conditions without a channel to wait on, such as the number of open files.
func Poll(t testing.TB, check func() error) {
	t.Helper()
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	deadline := time.Now().Add(Patience)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("after %s still: %v", Patience, err)
		}
		<-tick.C
	}
}

// Await receives from c, and fails the test when nothing comes within Patience. what names the event that did not come.
func Await[T any](t testing.TB, c <-chan T, what string) T {
	t.Helper()
	timer := time.NewTimer(Patience)
	defer timer.Stop()
	select {
	case v := <-c:
		return v
	case <-timer.C:
		t.Fatalf("got nothing in %s, want %s", Patience, what)
		panic("unreachable")
	}
}
