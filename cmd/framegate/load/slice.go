package load

import (
	"context"
	"sync"
	"time"

	pb "github.com/framegate/framegate/kitex_gen/echo"
)

const (
	// answerGrace is how long calls may go on after the end of their slice, interruptGrace after an interrupt. Calls that take longer
	// end because their connections are closed.
	answerGrace    = 5 * time.Second
	interruptGrace = time.Second
)

// window is the part of a slice that counts: [open, close). Before it, from the slice's start, is the warm-up.
type window struct{ start, open, close time.Time }

func newWindow(warmup, length time.Duration) window {
	start := time.Now()
	open := start.Add(warmup)
	return window{start, open, open.Add(length)}
}

func (w window) holds(t time.Time) bool { return !t.Before(w.open) && t.Before(w.close) }

// elapsed returns how much of the window has passed at now.
func (w window) elapsed(now time.Time) time.Duration {
	return min(max(now.Sub(w.open), 0), w.close.Sub(w.open))
}

// runSlice puts load on s until w closes or ctx ends, waits for the calls in flight, and adds what was measured to s.
func runSlice(ctx context.Context, cfg Config, s *side, w window) {
	s.dialer.resume()
	slice, cancel := context.WithDeadline(ctx, w.close)
	defer cancel()

	var paced *pacer
	if cfg.RatePerSecond > 0 {
		paced = newPacer(w, cfg.RatePerSecond)
	}
	workers := startWorkers(slice, ctx, cfg, s, w, paced)
	if paced != nil {
		paced.run(slice)
	}
	<-slice.Done()
	s.measured += w.elapsed(time.Now())

	grace := answerGrace
	if ctx.Err() != nil {
		grace = interruptGrace
	}
	finished := make(chan struct{})
	go func() { // ends when the workers have, and runSlice waits for it
		workers.Wait()
		close(finished)
	}()
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-finished:
	case <-timer.C:
		s.dialer.hangUp()
		<-finished
	}
	if paced != nil {
		s.unsent += paced.unsent
	}
}

// startWorkers starts cfg.Concurrency workers, spread over the side's connections and recorders. They end when slice does, each
// after the answer to its last call; a call that fails after run has ended does not count.
func startWorkers(slice, run context.Context, cfg Config, s *side, w window, paced *pacer) *sync.WaitGroup {
	var workers sync.WaitGroup
	req := newRequest(cfg)
	for i := range cfg.Concurrency {
		wk := s.newWorker(i, cfg, req, w, paced)
		workers.Go(func() { wk.loop(slice, run) })
	}
	return &workers
}

func (s *side) newWorker(i int, cfg Config, req *pb.Request, w window, paced *pacer) *worker {
	return &worker{
		caller:   newCaller(cfg, s.clients[i%len(s.clients)], req),
		recorder: s.recorders[i%len(s.recorders)],
		dialer:   s.dialer,
		window:   w,
		paced:    paced,
	}
}
