package pool

import (
	"errors"
	"sync/atomic"
	"time"

	"github.com/framegate/framegate/pool/transport"
)

// OpenOptions are the options of Group.Open, and of Group.Wait.
type OpenOptions struct {
	// Avoid is the connection of an earlier attempt of this call that the endpoint certainly did not process; nil for none.
	// The call uses another connection, if there is one or one can be made.
	Avoid transport.Conn

	// Wait, if not nil, is called at most once, just before the call has to wait for a stream or a connection. It is for
	// callers that bound the number of calls that wait, which the pool does not. If it returns false, the call fails at once
	// with a *FullError; a dial that was started goes on, for later calls. If it returns true, Open calls end once, when it no
	// longer waits. Both are called without a lock held.
	Wait func() (end func(), ok bool)
}

// WaitOptions are the options of Group.Wait.
type WaitOptions struct {
	OpenOptions

	// OwnDeadline says that the caller calls Cancel at a deadline of its own. Otherwise the wait ends after ConnectTimeout.
	OwnDeadline bool
}

// Waiting is a call that waits for a slot without blocking a goroutine, in the same queue as those of Group.Open:
//
//	Group.Wait -> joined -> queued -> answered -> End
//	                          ^          |
//	                          +-- Again -+
//
// It is joined only if it has an Avoid: while there is a dial for a connection other than that one. Waiting must be zero before
// Wait, and not be copied.
type Waiting struct {
	// Set once, by Group.Wait:
	group *Group
	addr  string
	avoid transport.Conn // OpenOptions.Avoid
	bound time.Duration  // how long it may wait; 0 with WaitOptions.OwnDeadline
	done  func(Slot, error)

	// Owned by the caller of Wait, Again and End, of which one runs at a time:
	ask   func() (end func(), ok bool) // OpenOptions.Wait; nil when it was called, or for none
	end   func()                       // what ask returned; nil for none
	again bool                         // it got a slot before, but the stream could not be opened

	quit atomic.Pointer[quitting] // why it is not to wait any longer; nil if it is
	in   atomic.Pointer[endpoint] // where it is joined or queued; changed only with that endpoint's mu held; nil if it is neither

	// Guarded by the mu of the endpoint where it is joined or queued:
	joined     bool
	settled    bool        // it was in a queue before
	timer      *time.Timer // ends the wait after bound; nil until it waits
	place      uint64      // when the call first came: queue.arrivals at that time
	prev, next *Waiting    // in the queue, or among those that are joined or answered
	slot       Slot        // the answer, if err is nil
	err        error
}

// quitting says why a call gives up waiting: for the err of Cancel, or because it has waited for as long as it may if err is
// nil.
type quitting struct{ err error }

// Take takes a slot of a connection to addr other than avoid, which may be nil, if there is one and no call waits. It does not
// block. If it returns false, Wait starts a dial if one is wanted, and says what is wrong.
func (g *Group) Take(addr string, avoid transport.Conn) (Slot, bool) {
	e, err := g.endpoint(addr)
	if err != nil || e.waiting.Load() > 0 {
		return Slot{}, false
	}
	c := e.take(avoid)
	return Slot{c}, c != nil
}

// Wait waits for a slot of a connection to addr, for a call for which Take found none. It does not block. The caller calls
// w.End when it does not want a slot any more.
//
// done is called once, with the slot or with an error as those of Open, by any goroutine and maybe before Wait returns. It
// must not block. No lock of the pool is held, so it may call the pool.
func (g *Group) Wait(w *Waiting, addr string, opts WaitOptions, done func(Slot, error)) {
	w.group, w.addr, w.done, w.avoid, w.ask = g, addr, done, opts.Avoid, opts.Wait
	if !opts.OwnDeadline {
		w.bound = g.cfg.ConnectTimeout
	}
	w.wait()
}

// Again waits again, in the place that the call had, because the stream could not be opened in the slot that done got; the
// caller has given back the slot. done is called once more. why is the reason, for the error if the call must not wait any
// longer.
func (w *Waiting) Again(why error) {
	// This does not go on for ever: each further connection takes a dial.
	if q := w.quit.Load(); q != nil && q.err == nil {
		w.done(Slot{}, &DialError{Address: w.addr, Err: why})
		return
	}
	w.again = true
	w.wait()
}

// Cancel ends the wait: done gets err, wrapped in a *DialError if the endpoint has no connection, unless it was called before.
// It may be called by any goroutine, and more than once.
func (w *Waiting) Cancel(err error) { w.giveUp(&quitting{err}) }

// End says that the call needs no slot any more, or has its stream. done was called for the last time.
func (w *Waiting) End() {
	if w.timer != nil {
		w.timer.Stop()
	}
	if w.end != nil {
		w.end()
	}
}

// wait finds the endpoint and waits there.
func (w *Waiting) wait() {
	for {
		e, err := w.group.endpoint(w.addr)
		if err == nil {
			err = e.wait(w)
		}
		if err == errEndpointGone {
			continue
		}
		if err != nil {
			w.done(Slot{}, err)
		}
		return
	}
}

// mayWait reports whether the call may wait. The first time, it calls OpenOptions.Wait.
func (w *Waiting) mayWait() bool {
	if w.ask == nil {
		return true
	}
	end, ok := w.ask()
	w.ask = nil
	if ok {
		w.end = end
	}
	return ok
}

// giveUp ends the wait for that reason, if there was none before.
func (w *Waiting) giveUp(why *quitting) {
	if !w.quit.CompareAndSwap(nil, why) {
		return
	}
	if e := w.in.Load(); e != nil { // else the next enqueue sees quit
		e.mu.Lock()
		defer e.unlock()
		if w.in.Load() == e {
			e.quitLocked(w)
		}
	}
}

// startTimer starts the timer of a call that has to wait. The caller holds the endpoint's mu.
func (w *Waiting) startTimer() {
	if w.timer == nil && w.bound > 0 {
		w.timer = time.AfterFunc(w.bound, func() { w.giveUp(&quitting{}) })
	}
}

// errEndpointGone says that the pool has just removed this endpoint. Group.endpoint returns another one for the address.
var errEndpointGone = errors.New("pool: endpoint gone")

// wait answers w at once, or puts it where it waits. An error is its answer, or errEndpointGone.
func (e *endpoint) wait(w *Waiting) error {
	if w.avoid != nil && !w.again {
		if further, err := e.furtherThan(w.avoid); err != nil {
			return err
		} else if further {
			if !w.mayWait() {
				return e.full(errMayNotWait)
			}
			return e.join(w)
		}
	}
	if w.ask != nil {
		waits, err := e.enqueue(w, (*endpoint).removeLocked)
		if err != nil || !waits {
			return err
		}
		if !w.mayWait() {
			return e.full(errMayNotWait)
		}
	}
	_, err := e.enqueue(w, (*endpoint).stayLocked)
	return err
}

// enqueue puts the call into the queue and settles the endpoint. waits reports whether the call was not answered by that;
// then it calls waiting.
func (e *endpoint) enqueue(w *Waiting, waiting func(*endpoint, *Waiting)) (waits bool, err error) {
	e.mu.Lock()
	defer e.unlock()
	if err := e.useLocked(); err != nil {
		return false, err
	}
	e.queueLocked(w)
	e.settleLocked()
	waits = w.in.Load() == e
	if waits {
		waiting(e, w)
	} else if !w.settled && !w.again {
		w.err = inBackoff(w.err) // of a dial before the call began
	}
	w.settled = true
	return waits, nil
}

// queueLocked puts the call into the queue. The caller calls settleLocked.
func (e *endpoint) queueLocked(w *Waiting) {
	e.waiting.Add(1) // before settleLocked looks for room, so that a release after that sees a waiting call
	w.in.Store(e)
	if w.again {
		e.queue.putBack(w)
	} else {
		e.queue.add(w)
	}
}

// stayLocked lets a call wait where it is.
func (e *endpoint) stayLocked(w *Waiting) {
	w.startTimer()
	if w.quit.Load() != nil {
		e.quitLocked(w)
	}
}

// join makes a call wait for the end of the dial that is under way; see leaveDialLocked.
func (e *endpoint) join(w *Waiting) error {
	e.mu.Lock()
	defer e.unlock()
	if err := e.useLocked(); err != nil {
		return err
	}
	w.joined = true
	w.in.Store(e)
	e.dial.joined.add(w)
	if e.dial.state() != dialUnderWay { // it has ended meanwhile
		e.leaveDialLocked(w)
		e.settleLocked()
	}
	if w.in.Load() == e {
		e.stayLocked(w)
	}
	return nil
}

// leaveDialLocked is called when the dial that a call has joined has ended, or takes too long. It gives the call a slot of a
// connection other than the one that it avoids, or else puts it into the queue, for any connection. The caller calls
// settleLocked.
func (e *endpoint) leaveDialLocked(w *Waiting) {
	if e.queue.first == nil {
		if c, busy := e.pick(*e.usable.Load(), w.avoid); c != nil {
			e.dial.spare = e.dial.spare || busy
			e.answerLocked(w, c, nil)
			return
		}
	}
	e.removeLocked(w)
	e.queueLocked(w)
}

// quitLocked answers a call that gives up.
func (e *endpoint) quitLocked(w *Waiting) {
	err := w.quit.Load().err
	if err == nil && w.joined {
		e.leaveDialLocked(w)
		if e.settleLocked(); w.in.Load() == nil {
			return
		}
	}
	switch {
	case err == nil:
		err = e.late()
	case !w.joined && len(*e.usable.Load()) == 0:
		err = &DialError{Address: e.addr, Err: err}
	}
	e.answerLocked(w, nil, err)
}

// answerLocked ends the wait of a call with a slot of c, or with err. unlock calls its done.
func (e *endpoint) answerLocked(w *Waiting, c *conn, err error) {
	e.removeLocked(w)
	w.slot, w.err = Slot{c}, err
	e.answered.insert(w, nil)
}

// removeLocked takes a call from where it waits.
func (e *endpoint) removeLocked(w *Waiting) {
	if w.joined {
		w.joined = false
		e.dial.joined.remove(w)
	} else {
		e.queue.remove(w)
		e.waiting.Add(-1)
	}
	w.in.Store(nil)
}

// inBackoff returns err, and if it is a *DialError a copy with InBackoff set. err may be nil.
func inBackoff(err error) error {
	dial, ok := err.(*DialError)
	if !ok {
		return err
	}
	again := *dial
	again.InBackoff = true
	return &again
}

// late returns the error of a call that has waited for as long as it may.
func (e *endpoint) late() error {
	for _, c := range *e.usable.Load() {
		if c.room() > 0 {
			return e.full(errNoStreamIn)
		}
	}
	return &DialError{Address: e.addr, Err: errNoConnection}
}

// full returns a FullError with that cause.
func (e *endpoint) full(why error) error {
	return &FullError{Address: e.addr, Connections: len(*e.usable.Load()), Err: why}
}
