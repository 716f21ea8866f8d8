package replay

import (
	"context"
	"sync"
)

// slots bound how many calls are under way. It is safe for concurrent use.
type slots struct {
	ctx  context.Context
	most int

	mu         sync.Mutex // guards the fields below, and place of each call
	changed    sync.Cond  // signals changes of them; its lock is mu
	running    int
	finishable int // running calls whose recording was read to its end: they need no more of it to end
}

// place is what slots know of a call.
type place struct{ running, complete bool }

func newSlots(ctx context.Context, most int) *slots {
	s := &slots{ctx: ctx, most: most}
	s.changed.L = &s.mu
	context.AfterFunc(ctx, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.changed.Broadcast()
	})
	return s
}

// await waits for a free slot while a call will leave one without more of the recordings being read.
func (s *slots) await() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.running >= s.most && s.finishable > 0 && s.ctx.Err() == nil {
		s.changed.Wait()
	}
	return s.ctx.Err()
}

// enter waits for a slot for c, or reports false when the context has ended.
func (s *slots) enter(c *call) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.running >= s.most && s.ctx.Err() == nil {
		s.changed.Wait()
	}
	if s.ctx.Err() != nil {
		return false
	}
	s.running++
	if c.place.running = true; c.place.complete {
		s.finishable++
	}
	return true
}

// complete says that the recording of c was read to its end.
func (s *slots) complete(c *call) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.place.complete = true; c.place.running {
		s.finishable++
	}
	s.changed.Broadcast()
}

// leave gives the slot of c back.
func (s *slots) leave(c *call) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.running--
	if c.place.running = false; c.place.complete {
		s.finishable--
	}
	s.changed.Broadcast()
}
