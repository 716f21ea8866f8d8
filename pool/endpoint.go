package pool

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/framegate/framegate/pool/policy"
	"github.com/framegate/framegate/pool/transport"
)

// endpoint is one address in one Group, with the connections to it:
//
//	serving <-> left -> gone
//
// It is left after Group.Leave, and serving again after the next Open. It is gone when the Group has removed it, because it
// has neither connections nor calls (forgetIfEmpty), and when the pool is closed.
type endpoint struct {
	group *Group
	addr  string

	usable atomic.Pointer[[]*conn] // the connections that take new streams, oldest first; the slice is immutable
	conns  sync.Map                // the *conn that are not closed, including retired ones

	waiting atomic.Int32 // calls in queue; read by conn.Release without mu
	dial    dialing

	mu       sync.Mutex // guards the fields below and dial, and changes of usable and waiting; unlocked by unlock
	use      use
	queue    queue
	asked    time.Time    // when a call last found no room, or when the endpoint was made
	known    reachability // what was last reported
	closing  []*conn      // connections that were retired since mu was locked; unlock closes those without streams
	answered queue        // calls that were answered since mu was locked; unlock calls their done
}

// use is the state of an endpoint.
type use int

const (
	serving use = iota
	left        // no further calls are expected
	gone        // the Group has removed the endpoint: calls get errEndpointGone
)

func newEndpoint(g *Group, addr string) *endpoint {
	e := &endpoint{group: g, addr: addr, asked: time.Now()}
	e.usable.Store(&[]*conn{})
	return e
}

// unlock unlocks mu, and then answers the calls in answered and closes the connections in closing. It does neither with mu
// held, because both may call methods that lock mu.
func (e *endpoint) unlock() {
	e.reachLocked()
	closing, answered := e.closing, e.answered.first
	e.closing, e.answered = nil, queue{}
	e.mu.Unlock()
	for w := answered; w != nil; {
		next := w.next
		w.prev, w.next = nil, nil
		w.done(w.slot, w.err)
		w = next
	}
	for _, c := range closing {
		c.closeWhenIdle()
	}
}

// useLocked makes the endpoint serving, for a call that found no room. It fails if the endpoint is gone or the pool is closed.
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

// overLocked reports whether the endpoint is gone or the pool is being closed.
func (e *endpoint) overLocked() bool { return e.use == gone || e.group.pool.ctx.Err() != nil }

// take takes a slot of the connection with the fewest streams other than avoid, and returns the connection, or nil if none
// has a slot. It does not wait. If all connections are busy, it starts a dial for later calls; see pick.
func (e *endpoint) take(avoid transport.Conn) *conn {
	seen := e.usable.Load()
	c, busy := e.pick(*seen, avoid)
	if busy && e.dial.isIdle() {
		e.mu.Lock()
		if e.usable.Load() == seen { // otherwise there may be another connection by now
			e.dial.spare = true
			e.dialLocked()
		}
		e.unlock()
	}
	return c
}

// pick takes a slot of the connection among conns that has the fewest streams, other than avoid. busy reports whether all
// conns are busy now, which is when three quarters of their slots are in use, and another connection may be made. It needs
// no lock.
func (e *endpoint) pick(conns []*conn, avoid transport.Conn) (picked *conn, busy bool) {
	for {
		var best *conn
		var fewest int32                // streams of best
		calm, bestBusyAt := 0, int32(0) // connections that are not busy; streams at which best is busy
		for _, c := range conns {
			n, room := c.inflight.Load(), c.room()
			busyAt := room - room/4
			if n < busyAt {
				calm++
			}
			if n >= 0 && n < room && (best == nil || n < fewest) && (avoid == nil || c.tr != avoid) {
				best, fewest, bestBusyAt = c, n, busyAt
			}
		}
		if best == nil {
			return nil, false
		}
		if best.take() {
			if fewest == bestBusyAt-1 {
				calm-- // the slot makes it busy
			}
			return best, calm <= 0 && len(conns) < e.group.cfg.Connections.Max
		}
		// Another goroutine has taken the slot, or the connection was retired: try again.
	}
}

// serve gives free slots of c to calls that wait.
func (e *endpoint) serve(c *conn) {
	e.mu.Lock()
	defer e.unlock()
	for e.queue.first != nil && !c.retired.Load() && c.take() {
		e.answerLocked(e.queue.first, c, nil)
	}
}

// settleLocked is called after a change of the connections, the queue or the dial. It gives free slots to calls that wait,
// fails the calls if they are not to wait any longer, and starts a dial if another connection is wanted.
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

// hopelessLocked returns the error with which calls that find no slot fail, or nil if they are to wait.
func (e *endpoint) hopelessLocked() error {
	conns := *e.usable.Load()
	switch {
	case len(conns) == 0 && e.dial.state() == dialBackingOff:
		return e.dial.failure
	case len(conns) == 0:
		return nil
	case !slices.ContainsFunc(conns, (*conn).takesStreams):
		e.dial.spare = true // dial again: another process may answer at this address by now
		return &DialError{Address: e.addr, Err: errNoStreams}
	case e.group.cfg.WhenFull != policy.WhenFullFail, e.dial.state() == dialUnderWay:
		return nil
	case e.dial.state() == dialIdle && e.freshLocked() < e.group.cfg.Connections.Max:
		return nil // dialLocked starts a dial
	}
	return e.full(errNoStream)
}

// freshLocked returns the number of usable connections that are not to be replaced.
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

// retireLocked retires a connection: it gets no new streams, and closes when its last stream has ended. It reports whether
// the connection was usable.
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

// retire retires a connection that takes no new streams any more. It may be called more than once.
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

// limitChanged is called when the peer of c has changed its MAX_CONCURRENT_STREAMS.
func (e *endpoint) limitChanged(c *conn) {
	e.mu.Lock()
	defer e.unlock()
	if e.overLocked() {
		return
	}
	if e.dial.failure != nil && e.dial.failure.Err == errNoStreams && slices.Contains(*e.usable.Load(), c) && c.takesStreams() {
		e.dial.succeeded()
	}
	e.settleLocked()
}

// replace is called when a connection has reached Config.MaxAge. It retires a connection that is not used. Otherwise it
// marks the connection as aged, and a new connection replaces it; see addLocked.
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
	case e.dial.state() == dialBackingOff:
		e.retireAgedLocked()
	}
	e.settleLocked()
}

// retireAgedLocked retires the aged connections, if there is another that takes streams.
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

// leave makes the endpoint left and retires its connections; see Group.Leave.
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

// sweep closes connections that have had no stream since a time, but leaves Connections.Min. It then removes the endpoint
// from the group if nothing is left of it.
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

// forgetIfLeft calls forgetIfEmpty if the endpoint is left.
func (e *endpoint) forgetIfLeft() {
	e.mu.Lock()
	isLeft := e.use == left
	e.unlock()
	if isLeft {
		e.forgetIfEmpty()
	}
}

// forgetIfEmpty removes the endpoint from its group if it has no connection, no dial under way and no call that waits.
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
	e.dial.stopBackoff()
}

// all returns the connections that are not closed.
func (e *endpoint) all() []*conn {
	var all []*conn
	e.conns.Range(func(c, _ any) bool {
		all = append(all, c.(*conn))
		return true
	})
	return all
}

// close closes all connections and fails all calls that wait, when the pool is closed.
func (e *endpoint) close() {
	e.mu.Lock()
	e.goneLocked()
	for e.queue.first != nil {
		e.answerLocked(e.queue.first, nil, ErrClosed)
	}
	for e.dial.joined.first != nil {
		e.answerLocked(e.dial.joined.first, nil, ErrClosed)
	}
	e.unlock()
	for _, c := range e.all() {
		c.tr.CloseNow(ErrClosed)
	}
}
