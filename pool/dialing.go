package pool

import (
	"errors"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"time"

	"github.com/framegate/framegate/pool/transport"
)

// dialing is the state of an endpoint's dials. There is one dial at a time, for all calls that wait for a connection:
//
//	idle -> under way -> idle     when the dial succeeds
//	  ^         |
//	  |         v
//	  +----- backing off          when it fails, for Config.Backoff
//
// A connection that takes no streams, or that ends young (conn.diedYoung), counts as a failed dial. The fields are guarded
// by the endpoint's mu.
type dialing struct {
	now      atomic.Int32 // a dialState; also read without mu
	joined   queue        // calls that wait for the end of the dial under way, and not in the endpoint's queue
	failures int          // consecutive failed dials
	failure  *DialError   // of the last dial; nil if it succeeded
	backoff  *time.Timer  // calls endBackoff; nil before the first backoff
	backoffs int          // number of backoffs so far, by which endBackoff knows its own
	spare    bool         // a connection is wanted for later calls, if there may be another
}

// dialState is a state of dialing.
type dialState int32

const (
	dialIdle dialState = iota
	dialUnderWay
	dialBackingOff
)

func (d *dialing) state() dialState     { return dialState(d.now.Load()) }
func (d *dialing) setState(s dialState) { d.now.Store(int32(s)) }
func (d *dialing) isIdle() bool         { return d.state() == dialIdle }

// stopBackoff stops the timer of a backoff, and makes endBackoff do nothing if the timer has fired already.
func (d *dialing) stopBackoff() {
	d.backoffs++
	if d.backoff != nil {
		d.backoff.Stop()
	}
}

// succeeded resets the failures and ends a backoff.
func (d *dialing) succeeded() {
	d.failures, d.failure = 0, nil
	if d.state() == dialBackingOff {
		d.stopBackoff()
		d.setState(dialIdle)
	}
}

// dialLocked starts a dial if another connection is wanted: for calls that wait, for Connections.Min, for later calls
// (spare), or to replace a connection that has reached its age. It does nothing while a dial is under way or the endpoint
// backs off.
func (e *endpoint) dialLocked() {
	spare := e.dial.spare
	e.dial.spare = false
	if e.dial.state() != dialIdle || e.overLocked() {
		return
	}
	cfg, fresh := &e.group.cfg, e.freshLocked()
	switch {
	case e.queue.first != nil && fresh < maxConnections(cfg):
	case e.use == serving && fresh < cfg.Connections.Min:
	case spare && fresh < cfg.Connections.Max:
	case fresh == len(*e.usable.Load()):
		return
	case fresh < cfg.Connections.Max: // to replace an aged connection
	default:
		e.retireAgedLocked() // there are enough connections without the aged ones
		return
	}
	e.dial.setState(dialUnderWay)
	e.group.pool.wg.Go(e.makeConn)
}

// furtherThan starts a dial for a call that must not use the connection avoid, unless there is one under way. It reports
// whether there is a dial now. It reports false if avoid is no longer usable, so that any connection will do, or if there must
// be no further connection.
func (e *endpoint) furtherThan(avoid transport.Conn) (dialing bool, err error) {
	e.mu.Lock()
	defer e.unlock()
	if err := e.useLocked(); err != nil {
		return false, err
	}
	if !slices.ContainsFunc(*e.usable.Load(), func(c *conn) bool { return c.tr == avoid }) {
		return false, nil
	}
	e.dial.spare = true
	e.dialLocked()
	return e.dial.state() == dialUnderWay, nil
}

// makeConn is the goroutine of a dial.
func (e *endpoint) makeConn() {
	c, err := dialConn(e.group.pool.ctx, e)
	if err != nil {
		e.group.pool.log.Debug("connect failed", "endpoint", e.addr, "error", err)
	}
	e.mu.Lock()
	e.dial.setState(dialIdle)
	if e.overLocked() {
		e.unlock()
		if err == nil {
			c.tr.CloseNow(ErrClosed)
		}
		return
	}
	var dialErr *DialError
	switch {
	case errors.As(err, &dialErr):
		e.dialFailedLocked(dialErr)
		e.retireAgedLocked()
	case c.dead.Load(): // a connection that ends later is retired by Retire
		e.dialFailedLocked(&DialError{Address: e.addr, Err: errGoneAtOnce})
	default:
		e.addLocked(c)
	}
	e.settleLocked()
	if e.dial.joined.first != nil {
		for e.dial.joined.first != nil {
			e.leaveDialLocked(e.dial.joined.first)
		}
		e.settleLocked()
	}
	if e.use == left { // the connection was only for calls that came before Leave
		for _, c := range *e.usable.Load() {
			e.retireLocked(c)
		}
		e.settleLocked()
	}
	e.unlock()
	e.forgetIfLeft()
}

// addLocked makes a new connection usable. It retires one that has reached its age, which the new one replaces.
func (e *endpoint) addLocked(c *conn) {
	old := *e.usable.Load()
	e.setUsableLocked(slices.Concat(old, []*conn{c}))
	if age := e.group.cfg.MaxAge; age > 0 {
		c.age = time.AfterFunc(spread(age, rand.Float64()), func() { e.replace(c) })
	}
	if !c.takesStreams() {
		e.dialFailedLocked(&DialError{Address: e.addr, Err: errNoStreams})
		return
	}
	c.failures = e.dial.failures
	e.dial.succeeded()
	if i := slices.IndexFunc(old, func(c *conn) bool { return c.aged }); i >= 0 {
		e.retireLocked(old[i]) // c replaces it
	}
}

// spread returns age changed by up to a tenth, so that connections that were made together are not replaced together. chance
// is from 0 to below 1.
func spread(age time.Duration, chance float64) time.Duration {
	return age + time.Duration((2*chance-1)*float64(age)/10)
}

// dialFailedLocked counts a failed dial, and makes the endpoint back off.
func (e *endpoint) dialFailedLocked(err *DialError) {
	d := &e.dial
	d.failures, d.failure = d.failures+1, err
	if d.state() == dialUnderWay {
		return // the dial under way decides whether the endpoint backs off
	}
	d.stopBackoff()
	d.setState(dialBackingOff)
	n := d.backoffs
	d.backoff = time.AfterFunc(e.group.cfg.Backoff.After(d.failures, rand.Float64()), func() { e.endBackoff(n) })
}

// dialFailure returns why the last dial failed, or nil if it succeeded.
func (e *endpoint) dialFailure() *DialError {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.dial.failure
}

// endBackoff ends the nth backoff.
func (e *endpoint) endBackoff(n int) {
	e.mu.Lock()
	defer e.unlock()
	if e.overLocked() || e.dial.backoffs != n {
		return
	}
	e.dial.setState(dialIdle)
	e.settleLocked()
}
