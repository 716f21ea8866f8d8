package relay

import "slices"

// workers are the goroutines of a shard in which package handler makes calls, and that write for it. They are used again, because a new
// goroutine grows its stack several times in a call. All is guarded by the shard's mu.
type workers struct {
	shard *shard

	idle []chan func() // of those that wait for work, each with room for one
	rest int           // the least of len(idle) since the last trim
	over bool          // the shard is closed
}

// do runs f in a goroutine. mu is held.
func (w *workers) do(f func()) {
	if n := len(w.idle); n > 0 {
		w.idle[n-1] <- f
		w.idle = w.idle[:n-1]
		w.rest = min(w.rest, n-1)
		return
	}
	w.shard.wg.Go(func() {
		next := make(chan func(), 1)
		for f := f; f != nil; f = w.await(next) {
			f()
		}
	})
}

// await waits for a worker's next work. It returns nil if the worker is to end.
func (w *workers) await(next chan func()) func() {
	w.shard.mu.Lock()
	if w.over {
		w.shard.mu.Unlock()
		return nil
	}
	w.idle = append(w.idle, next)
	w.shard.mu.Unlock()
	return <-next
}

// trim ends the workers that had nothing to do since the last trim.
func (w *workers) trim() {
	w.end(w.rest)
	w.rest = len(w.idle)
}

// close ends all workers, the others when they have done their work.
func (w *workers) close() {
	w.over = true
	w.end(len(w.idle))
	w.rest = 0
}

// end ends the n workers that have waited for the longest time.
func (w *workers) end(n int) {
	for _, next := range w.idle[:n] {
		close(next)
	}
	w.idle = slices.Delete(w.idle, 0, n)
}
