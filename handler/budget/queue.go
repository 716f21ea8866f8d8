package budget

import (
	"cmp"
	"context"
	"slices"
	"time"
)

// waiter is a share that waits for bytes. It is guarded by the budget's mu until done gives its result.
type waiter struct {
	share *Share
	n     int64
	done  chan error // has room for the result
}

// take takes n bytes of the part that has a queue.
//
// Who holds bytes and waits for more might wait for ever: everything may be held by calls that wait like itself, or by the
// request of a call whose answer waits. So a call keeps its place in the order for as long as it holds anything, the first
// in the queue gets whatever is given back, and what it cannot get even when all those that do not wait have given
// everything back is taken from the youngest call that waits: it begins again with its message if it can (ErrYield), or
// ends (ErrOver). So the first one always goes on.
func (b *Budget) take(s *Share, n int64) error {
	c := s.call
	b.mu.Lock()
	switch {
	case c.evicted:
		b.mu.Unlock()
		return b.over()
	case s.held+n > b.max:
		b.mu.Unlock()
		return ErrNever
	}
	if c.held == 0 && c.waiting == 0 && !s.reserved {
		b.ticket++
		c.ticket = b.ticket
	}
	if len(b.queue) == 0 && b.used+n <= b.max {
		b.addLocked(s, n)
		b.mu.Unlock()
		return nil
	}
	if s.mayYield && s.small > 0 { // which is not to wait
		s.yielded = s.held + s.small + n
		b.mu.Unlock()
		return ErrYield
	}
	patience := b.patience(c.ctx)
	if patience <= 0 {
		b.mu.Unlock()
		return b.over()
	}
	w := &waiter{share: s, n: n, done: make(chan error, 1)}
	b.enqueueLocked(w)
	b.serveLocked()
	b.watchLocked()
	b.mu.Unlock()
	return b.wait(w, patience)
}

func (b *Budget) over() error {
	b.refused.Add(1)
	return ErrOver
}

// patience returns how long a call may wait: there must be time to tell the client before its deadline.
func (b *Budget) patience(ctx context.Context) time.Duration {
	deadline, ok := ctx.Deadline()
	if !ok {
		return b.maxWait
	}
	left := time.Until(deadline)
	return min(left-min(max(left/10, 10*time.Millisecond), time.Second), b.maxWait)
}

// wait returns the result of a waiter in the queue.
func (b *Budget) wait(w *waiter, patience time.Duration) error {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case err := <-w.done:
		return err
	case <-timer.C:
		return b.leave(w, ErrOver)
	case <-w.share.call.ctx.Done():
		return b.leave(w, w.share.call.err())
	}
}

// leave takes a waiter that gives up out of the queue.
func (b *Budget) leave(w *waiter, why error) error {
	b.mu.Lock()
	select {
	case err := <-w.done: // at this very moment
		b.mu.Unlock()
		if err == nil && why != ErrOver {
			w.share.Give(w.n)
			err = why
		}
		return err
	default:
	}
	b.settleLocked(slices.Index(b.queue, w), why)
	b.serveLocked()
	b.mu.Unlock()
	<-w.done
	return why
}

// give gives n bytes of a share back.
func (b *Budget) give(s *Share, n int64) {
	b.mu.Lock()
	b.addLocked(s, -n)
	b.serveLocked()
	b.mu.Unlock()
}

// addLocked changes what a share holds by n.
func (b *Budget) addLocked(s *Share, n int64) {
	c := s.call
	was := c.held
	s.held += n
	c.held += n
	b.used += n
	if c.waiting > 0 {
		b.stuck += n
	}
	switch {
	case was == 0 && c.held > 0:
		b.linkLocked(c)
	case was > 0 && c.held == 0:
		b.unlinkLocked(c)
	}
}

// enqueueLocked puts a waiter in its place, behind those of the same call.
func (b *Budget) enqueueLocked(w *waiter) {
	c := w.share.call
	if c.waiting++; c.waiting == 1 {
		b.stuck += c.held
	}
	at, _ := slices.BinarySearchFunc(b.queue, c.ticket+1, func(w *waiter, ticket uint64) int {
		return cmp.Compare(w.share.call.ticket, ticket)
	})
	b.queue = slices.Insert(b.queue, at, w)
}

// settleLocked ends the wait of the waiter at a place of the queue.
func (b *Budget) settleLocked(at int, result error) {
	w := b.queue[at]
	c := w.share.call
	b.queue = slices.Delete(b.queue, at, at+1)
	if c.waiting--; c.waiting == 0 {
		b.stuck -= c.held
	}
	if result == nil {
		b.addLocked(w.share, w.n)
	} else if result == ErrOver {
		b.refused.Add(1)
	}
	w.done <- result
}

// serveLocked gives the first waiters what there is, and makes room where nobody else will.
func (b *Budget) serveLocked() {
	for len(b.queue) > 0 {
		w := b.queue[0]
		switch {
		case b.used+w.n <= b.max:
			b.settleLocked(0, nil)
		case b.stuck+w.n <= b.max:
			return // somebody who does not wait will give enough back
		default:
			b.makeRoomLocked(w.share.call)
		}
	}
}

// makeRoomLocked has the youngest call that waits and holds something give it back, for c; if there is none but c itself,
// its own other direction has the rest, and c ends.
func (b *Budget) makeRoomLocked(c *Call) {
	for at, w := range slices.Backward(b.queue) {
		s := w.share
		switch {
		case s.call == c || s.call.held == 0:
			continue
		case s.mayYield && s.held > 0:
			s.yielded = s.held + s.small + w.n
			b.settleLocked(at, ErrYield)
		default:
			b.evictLocked(s.call)
		}
		return
	}
	b.evictLocked(c)
}

// evictLocked ends the waits of a call, and those that it would begin.
func (b *Budget) evictLocked(c *Call) {
	c.evicted = true
	for c.waiting > 0 {
		b.settleLocked(slices.IndexFunc(b.queue, func(w *waiter) bool { return w.share.call == c }), ErrOver)
	}
}
