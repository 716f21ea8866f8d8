package pool

import (
	"errors"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"time"
)

// dialing is how an endpoint comes by connections: by one dial at a time, which everybody shares who wants one.
//
//	idle -> under way -> idle     when it succeeds
//	  ^         |
//	  |         v
//	  +----- resting              when it fails, for Config.Backoff
//
// A connection that ends young, or takes no streams, counts as a failure too. The endpoint's mu guards everything.
type dialing struct {
	now      atomic.Int32  // a dialState; also read without mu
	ended    chan struct{} // closed at the end of the dial under way
	failures int           // in a row
	failure  *DialError    // the last of them; nil after a success
	resting  *time.Timer   // ends the rest
	rests    int           // so far; tells one rest from another
	spare    bool          // a connection is wanted for later calls
}

type dialState int32

const (
	dialIdle dialState = iota
	dialUnderWay
	dialResting
)

func (d *dialing) state() dialState     { return dialState(d.now.Load()) }
func (d *dialing) setState(s dialState) { d.now.Store(int32(s)) }
func (d *dialing) isIdle() bool         { return d.state() == dialIdle }

// stopRest makes sure that no rest ends any more.
func (d *dialing) stopRest() {
	d.rests++
	if d.resting != nil {
		d.resting.Stop()
	}
}

// succeeded ends a rest and forgets failures.
func (d *dialing) succeeded() {
	d.failures, d.failure = 0, nil
	if d.state() == dialResting {
		d.stopRest()
		d.setState(dialIdle)
	}
}

// dialLocked starts a dial if a connection is wanted and none is under way.
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
	case fresh < cfg.Connections.Max: // one has reached its age
	default:
		e.retireAgedLocked() // there are enough without
		return
	}
	e.dial.setState(dialUnderWay)
	e.dial.ended = make(chan struct{})
	e.group.pool.wg.Go(e.makeConn)
}

// furtherThan has another connection made than avoid, for a call that found no room elsewhere, and returns what is
// closed when the dial has ended. It returns nil if avoid is not in use or there can be no other.
func (e *endpoint) furtherThan(avoid *conn) (dialed <-chan struct{}, err error) {
	e.mu.Lock()
	defer e.unlock()
	if err := e.useLocked(); err != nil {
		return nil, err
	}
	if !slices.Contains(*e.usable.Load(), avoid) {
		return nil, nil
	}
	e.dial.spare = true
	if e.dialLocked(); e.dial.state() != dialUnderWay {
		return nil, nil
	}
	return e.dial.ended, nil
}

// makeConn is the goroutine of a dial.
func (e *endpoint) makeConn() {
	c, err := dialConn(e.group.pool.ctx, e)
	if err != nil {
		e.group.pool.log.Debug("connect failed", "endpoint", e.addr, "error", err)
	}
	e.mu.Lock()
	e.dial.setState(dialIdle)
	close(e.dial.ended)
	if e.overLocked() {
		e.unlock()
		if err == nil {
			c.closeNow(ErrClosed)
		}
		return
	}
	var dialErr *DialError
	switch {
	case errors.As(err, &dialErr):
		e.dialFailedLocked(dialErr)
		e.retireAgedLocked()
	case c.isDead(): // if it ends from here on, retire finds it
		e.dialFailedLocked(&DialError{Address: e.addr, Err: errGoneAtOnce})
	default:
		e.addLocked(c)
	}
	e.settleLocked()
	if e.use == left { // it was for calls that came before
		for _, c := range *e.usable.Load() {
			e.retireLocked(c)
		}
		e.settleLocked()
	}
	e.unlock()
	e.forgetIfLeft()
}

// addLocked puts a connection to use.
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
		e.retireLocked(old[i]) // this one takes its place
	}
}

// spread returns up to a tenth more or less than age, so that connections made together do not go together. chance is
// from 0 to below 1.
func spread(age time.Duration, chance float64) time.Duration {
	return age + time.Duration((2*chance-1)*float64(age)/10)
}

// dialFailedLocked counts a failure, and lets the endpoint rest.
func (e *endpoint) dialFailedLocked(err *DialError) {
	d := &e.dial
	d.failures, d.failure = d.failures+1, err
	if d.state() == dialUnderWay {
		return // its end decides
	}
	d.stopRest()
	d.setState(dialResting)
	rest := d.rests
	d.resting = time.AfterFunc(e.group.cfg.Backoff.After(d.failures, rand.Float64()), func() { e.rested(rest) })
}

// dialFailure returns why the last dial failed, nil if it did not.
func (e *endpoint) dialFailure() *DialError {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.dial.failure
}

// rested ends a rest.
func (e *endpoint) rested(rest int) {
	e.mu.Lock()
	defer e.unlock()
	if e.overLocked() || e.dial.rests != rest {
		return
	}
	e.dial.setState(dialIdle)
	e.settleLocked()
}
