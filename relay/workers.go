package relay

// workers are the goroutines of a shard that make calls for package handler. They are used again, because a new goroutine grows its stack
// several times in a call. All is guarded by the shard's mu.
type workers struct {
	idle []chan func() // of those that wait for work, each with room for one
	rest int           // the least of len(idle) since the last trim
	over bool          // the shard is closed
}

// do runs f in a goroutine. mu is held.
func (s *shard) do(f func()) {
	if n := len(s.workers.idle); n > 0 {
		s.workers.idle[n-1] <- f
		s.workers.idle = s.workers.idle[:n-1]
		s.workers.rest = min(s.workers.rest, n-1)
		return
	}
	s.wg.Go(func() {
		next := make(chan func(), 1)
		for f := f; f != nil; f = s.await(next) {
			f()
		}
	})
}

// await waits for a worker's next work. It returns nil if the worker is to end.
func (s *shard) await(next chan func()) func() {
	s.mu.Lock()
	if s.workers.over {
		s.mu.Unlock()
		return nil
	}
	s.workers.idle = append(s.workers.idle, next)
	s.mu.Unlock()
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
}

// end ends the n workers that have waited for the longest time.
func (w *workers) end(n int) {
	for _, next := range w.idle[:n] {
		close(next)
	}
	w.idle = append(w.idle[:0], w.idle[n:]...)
}
