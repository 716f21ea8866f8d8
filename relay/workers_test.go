package relay

import (
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/framegate/framegate/relay/h2"
)

// Workers are used again, those that are too many end, and all end with their shard.
func TestWorkers(t *testing.T) {
	t.Parallel()
	s := newShard(h2.NewBudget(1 << 20))
	idle := func() int {
		s.lock()
		defer s.unlock()
		return len(s.workers.idle)
	}
	awaitIdle := func(want int) {
		t.Helper()
		require.Eventually(t, func() bool { return idle() == want }, patience, patience/1000, "%d are to be idle", want)
	}
	run := func(n int) {
		t.Helper()
		var all, done sync.WaitGroup // no one ends before all have begun
		all.Add(n)
		s.lock()
		for range n {
			done.Add(1)
			s.workers.do(func() {
				defer done.Done()
				all.Done()
				all.Wait()
			})
		}
		s.unlock()
		done.Wait()
	}
	run(10)
	awaitIdle(10)
	run(3)
	awaitIdle(10)
	trim := func() {
		s.lock()
		defer s.unlock()
		s.workers.trim()
	}
	trim() // from now on
	run(4)
	awaitIdle(10)
	trim()
	require.Equal(t, 4, idle(), "6 had nothing to do")
	run(6)
	awaitIdle(6)
	ended := make(chan struct{})
	release := make(chan struct{})
	s.lock()
	s.workers.do(func() { <-release })
	s.unlock()
	go func() {
		s.close()
		close(ended)
	}()
	awaitIdle(0)
	close(release)
	<-ended
	trim() // of a tick that came late
}
