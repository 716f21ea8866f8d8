package budget

import (
	"cmp"
	"context"
	"slices"
	"time"
)

// waiter is a share that waits for n bytes. It is guarded by the budget's mu until done gives its result.
type waiter struct {
	share *Share
	n     int64
	done  chan error // has room for one result, which is nil if the bytes were taken
}

// take takes n bytes of the part for large messages, which has a queue.
//
// A call that holds bytes and waits for more could wait for ever, because everything may be held by calls that wait as it
// does, or by the request of a call whose answer waits. Three rules prevent such a deadlock:
//
//   - a call keeps its place in the queue (its ticket) for as long as it holds anything;
//   - the first in the queue gets whatever is given back;
//   - if the first cannot be served even when all calls that do not wait give back everything, the youngest call that waits
//     and holds something makes room: its share begins its message again (ErrYield) or, if it cannot, the call ends
//     (ErrOver).
//
// So the first in the queue always goes on.
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
	if s.mayYield && s.small > 0 { // a share that waits must hold nothing of the part for small messages
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
	b.scheduleCheckLocked()
	b.mu.Unlock()
	return b.wait(w, patience)
}

// over counts a message that is refused, and returns ErrOver.
func (b *Budget) over() error {
	b.refused.Add(1)
	return ErrOver
}

// patience returns how long a call may wait: at most maxWait, and a little less than until its deadline, so that there is
// time to send the client the error.
func (b *Budget) patience(ctx context.Context) time.Duration {
	deadline, ok := ctx.Deadline()
	if !ok {
		return b.maxWait
	}
	left := time.Until(deadline)
	return min(left-min(max(left/10, 10*time.Millisecond), time.Second), b.maxWait)
}

// wait waits for the result of w, which is in the queue, for at most patience.
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

// leave removes w, which gives up for the reason why, from the queue and returns its result.
func (b *Budget) leave(w *waiter, why error) error {
	b.mu.Lock()
	select {
	case err := <-w.done: // served before leave had the lock
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

// give gives back n bytes of the part for large messages, and serves the queue.
func (b *Budget) give(s *Share, n int64) {
	b.mu.Lock()
	b.addLocked(s, -n)
	b.serveLocked()
	b.mu.Unlock()
}

// addLocked changes by n what a share holds of the part for large messages.
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

// enqueueLocked puts w into the queue by its call's ticket, behind another waiter of the same call.
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

// settleLocked removes the waiter at a place of the queue and gives it its result. If that is nil, the waiter's share gets
// its bytes.
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

// serveLocked serves waiters from the front of the queue for as long as there is room. It makes room for the first one if
// the calls that do not wait will not give back enough.
func (b *Budget) serveLocked() {
	for len(b.queue) > 0 {
		w := b.queue[0]
		switch {
		case b.used+w.n <= b.max:
			b.settleLocked(0, nil)
		case b.stuck+w.n <= b.max:
			return // calls that do not wait hold enough, and will give it back
		default:
			b.makeRoomLocked(w.share.call)
		}
	}
}

// makeRoomLocked makes room for c: the last waiter whose call holds something yields, or its call ends. If there is no such
// call but c itself, then c's other direction holds the rest, and c ends.
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

// evictLocked makes all waits of a call fail with ErrOver, those in the queue and those that it begins later.
func (b *Budget) evictLocked(c *Call) {
	c.evicted = true
	for c.waiting > 0 {
		b.settleLocked(slices.IndexFunc(b.queue, func(w *waiter) bool { return w.share.call == c }), ErrOver)
	}
}
