package pool

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/framegate/framegate/pool/policy"
)

// endpoint is one address in one Group, and the connections to it. It goes through
//
//	serving <-> left -> gone
//
// An Open makes it serving, Leave and nothing else makes it left. It is gone when it has been forgotten: when nothing
// is left of it (forgetIfEmpty), or with the pool.
type endpoint struct {
	group *Group
	addr  string

	usable atomic.Pointer[[]*conn] // takes new streams, oldest first; the slice is never changed
	conns  sync.Map                // every *conn that is not closed, also those that only finish their streams

	waiting atomic.Int32 // calls in queue; whoever makes room looks at it
	dial    dialing

	mu      sync.Mutex // guards the fields below, dial, and changes of usable and waiting; unlocked by unlock
	use     use
	queue   queue
	asked   time.Time // when a call last found no room, or the endpoint was made
	known   reachability
	closing []*conn // retired with mu held; unlock closes those without streams
}

// use says what an endpoint is for.
type use int

const (
	serving use = iota
	left        // no calls are expected
	gone        // no calls are possible
)

func newEndpoint(g *Group, addr string) *endpoint {
	e := &endpoint{group: g, addr: addr, asked: time.Now()}
	e.usable.Store(&[]*conn{})
	return e
}

// unlock unlocks mu, and then closes what must not be closed under it: a closed connection calls back.
func (e *endpoint) unlock() {
	e.reachLocked()
	closing := e.closing
	e.closing = nil
	e.mu.Unlock()
	for _, c := range closing {
		c.closeWhenIdle()
	}
}

// useLocked is for a call that found no room.
func (e *endpoint) useLocked() error {
	switch {
	case e.group.pool.ctx.Err() != nil:
		return ErrClosed
	case e.use == gone:
		return errEndpointGone
	}
	e.use, e.asked = serving, time.Now()
	return nil
}

// overLocked reports whether the endpoint is gone, or will be at once because the pool is being closed.
func (e *endpoint) overLocked() bool { return e.use == gone || e.group.pool.ctx.Err() != nil }

// take takes a slot of the connection with the fewest streams, avoid aside, or returns nil. It does not wait. When it
// finds all connections busy it has a further one made for later calls.
func (e *endpoint) take(avoid *conn) *conn {
	seen := e.usable.Load()
	c, busy := e.pick(*seen, avoid)
	if busy && e.dial.isIdle() {
		e.mu.Lock()
		if e.usable.Load() == seen { // otherwise there may be one by now
			e.dial.spare = true
			e.dialLocked()
		}
		e.unlock()
	}
	return c
}

// pick is the part of take that needs no lock, and chooses among conns. It reports whether all of them are busy, which
// is when three quarters of their room are in use, and there may be another.
func (e *endpoint) pick(conns []*conn, avoid *conn) (picked *conn, busy bool) {
	for {
		var best *conn
		var least int32
		calm, bestBusyAt := 0, int32(0) // connections that are not busy
		for _, c := range conns {
			n, room := c.inflight.Load(), c.room()
			busyAt := room - room/4
			if n < busyAt {
				calm++
			}
			if c != avoid && n >= 0 && n < room && (best == nil || n < least) {
				best, least, bestBusyAt = c, n, busyAt
			}
		}
		if best == nil {
			return nil, false
		}
		if best.take() {
			if least == bestBusyAt-1 {
				calm-- // busy from now on
			}
			return best, calm <= 0 && len(conns) < e.group.cfg.Connections.Max
		}
		// Somebody else was faster, or it was retired.
	}
}

// serve gives the slots that c has to those who wait.
func (e *endpoint) serve(c *conn) {
	e.mu.Lock()
	defer e.unlock()
	for e.queue.first != nil && !c.retired.Load() && c.take() {
		e.answerLocked(e.queue.first, c, nil)
	}
}

func (e *endpoint) answerLocked(w *waiter, c *conn, err error) {
	e.queue.remove(w)
	e.waiting.Add(-1)
	w.conn, w.err = c, err
	w.answer <- struct{}{}
}

// settleLocked does what follows from a change of the connections: it gives those who wait the slots there are, tells
// them if there will be none, and has a connection made if one is wanted.
func (e *endpoint) settleLocked() {
	for e.queue.first != nil {
		c, busy := e.pick(*e.usable.Load(), nil)
		if c == nil {
			break
		}
		e.dial.spare = e.dial.spare || busy
		e.answerLocked(e.queue.first, c, nil)
	}
	if e.queue.first != nil {
		if err := e.hopelessLocked(); err != nil {
			for e.queue.first != nil {
				e.answerLocked(e.queue.first, nil, err)
			}
		}
	}
	e.dialLocked()
}

// hopelessLocked returns the error for calls that find no room, or nil if they are to wait.
func (e *endpoint) hopelessLocked() error {
	conns := *e.usable.Load()
	switch {
	case len(conns) == 0 && e.dial.state() == dialResting:
		return e.dial.failure
	case len(conns) == 0:
		return nil
	case !slices.ContainsFunc(conns, (*conn).takesStreams):
		e.dial.spare = true // another process may answer at this address by now
		return &DialError{Address: e.addr, Err: errNoStreams}
	case e.group.cfg.WhenFull != policy.WhenFullFail, e.dial.state() == dialUnderWay:
		return nil
	case e.dial.state() == dialIdle && e.freshLocked() < e.group.cfg.Connections.Max:
		return nil // dialLocked will make one
	}
	return e.full(errNoStream)
}

// freshLocked counts the connections in use that are not about to be replaced.
func (e *endpoint) freshLocked() int {
	n := 0
	for _, c := range *e.usable.Load() {
		if !c.aged {
			n++
		}
	}
	return n
}

func (e *endpoint) setUsableLocked(conns []*conn) { e.usable.Store(&conns) }

// retireLocked takes a connection out of use and reports whether it was in use. Its streams go on; it closes with the
// last of them.
func (e *endpoint) retireLocked(c *conn) bool {
	old := *e.usable.Load()
	i := slices.Index(old, c)
	if i < 0 {
		return false
	}
	e.setUsableLocked(slices.Concat(old[:i], old[i+1:]))
	c.retired.Store(true)
	if c.age != nil {
		c.age.Stop()
	}
	e.closing = append(e.closing, c)
	return true
}

// retire is for a connection that has ended or was told to go away. It may be called more than once.
func (e *endpoint) retire(c *conn) {
	e.mu.Lock()
	defer e.unlock()
	if !e.retireLocked(c) || e.overLocked() {
		return
	}
	if c.diedYoung() {
		e.dial.failures = max(e.dial.failures, c.failures)
		e.dialFailedLocked(&DialError{Address: e.addr, Err: errGoneAtOnce})
	}
	e.settleLocked()
}

// limitChanged hears that the peer has changed its limit on streams.
func (e *endpoint) limitChanged(c *conn) {
	e.mu.Lock()
	defer e.unlock()
	if e.overLocked() {
		return
	}
	if c.takesStreams() && e.dial.failure != nil && e.dial.failure.Err == errNoStreams {
		e.dial.succeeded()
	}
	e.settleLocked()
}

// replace is for a connection that has reached its age: it makes way for another, which is made first if it is in use.
func (e *endpoint) replace(c *conn) {
	e.mu.Lock()
	defer e.unlock()
	if !slices.Contains(*e.usable.Load(), c) || e.overLocked() {
		return
	}
	c.aged = true
	unused := c.idleSince(time.Now().Add(-e.group.cfg.MaxAge / 2))
	switch {
	case unused && e.queue.first == nil && e.freshLocked() >= e.group.cfg.Connections.Min:
		e.retireLocked(c)
	case e.dial.state() == dialResting:
		e.retireAgedLocked()
	}
	e.settleLocked()
}

// retireAgedLocked retires the connections that have reached their age if there is another.
func (e *endpoint) retireAgedLocked() {
	conns := *e.usable.Load()
	if !slices.ContainsFunc(conns, func(c *conn) bool { return !c.aged && c.takesStreams() }) {
		return
	}
	for _, c := range conns {
		if c.aged {
			e.retireLocked(c)
		}
	}
}

// leave is for an endpoint to which no calls are expected.
func (e *endpoint) leave() {
	e.mu.Lock()
	if !e.overLocked() {
		e.use = left
		for _, c := range *e.usable.Load() {
			e.retireLocked(c)
		}
		e.settleLocked()
	}
	e.unlock()
	e.forgetIfLeft()
}

// sweep closes connections idle since before the given time, but for those that are kept, and forgets the endpoint if
// nothing is left of it.
func (e *endpoint) sweep(since time.Time) {
	e.mu.Lock()
	spare := len(*e.usable.Load()) - e.group.cfg.Connections.Min
	for _, c := range *e.usable.Load() {
		if spare > 0 && e.queue.first == nil && c.idleSince(since) && c.shut() {
			e.retireLocked(c)
			spare--
		}
	}
	forget := e.group.cfg.Connections.Min == 0 || e.asked.Before(since)
	e.unlock()
	if forget {
		e.forgetIfEmpty()
	}
}

func (e *endpoint) forgetIfLeft() {
	e.mu.Lock()
	isLeft := e.use == left
	e.unlock()
	if isLeft {
		e.forgetIfEmpty()
	}
}

// forgetIfEmpty makes the endpoint gone if it has no connection, no dial and no call.
func (e *endpoint) forgetIfEmpty() {
	e.mu.Lock()
	if len(*e.usable.Load()) == 0 && e.dial.state() != dialUnderWay && e.queue.first == nil && len(e.all()) == 0 {
		e.goneLocked()
	}
	isGone := e.use == gone
	e.unlock()
	if isGone {
		e.group.forget(e)
	}
}

func (e *endpoint) goneLocked() {
	e.use = gone
	e.dial.stopRest()
}

func (e *endpoint) all() []*conn {
	var all []*conn
	e.conns.Range(func(c, _ any) bool {
		all = append(all, c.(*conn))
		return true
	})
	return all
}

// close is for the end of the pool.
func (e *endpoint) close() {
	e.mu.Lock()
	e.goneLocked()
	for e.queue.first != nil {
		e.answerLocked(e.queue.first, nil, ErrClosed)
	}
	e.unlock()
	for _, c := range e.all() {
		c.closeNow(ErrClosed)
	}
}
