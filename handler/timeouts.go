package handler

import (
	"context"
	"math"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/framegate/framegate/handler/frame"
	"github.com/framegate/framegate/handler/local"
)

// limitTime starts the timers of the call's route: timeout, max_stream_age and idle_timeout. It replaces c.ctx with one that
// has the timeout as its deadline. The caller calls stop when the call has ended.
func limitTime(c *call) (stop func()) {
	t := &c.target
	var stops []func()
	if t.Timeout > 0 {
		ctx, cancel := context.WithTimeout(c.ctx, t.Timeout)
		unhook := context.AfterFunc(ctx, func() {
			if expired(ctx) {
				c.abort(local.ErrTimeout)
			}
		})
		c.ctx = ctx
		stops = append(stops, cancel, func() { unhook() })
	}
	if t.MaxStreamAge > 0 {
		timer := time.AfterFunc(Jittered(t.MaxStreamAge), func() { c.abort(ErrMaxStreamAge) })
		stops = append(stops, func() { timer.Stop() })
	}
	if t.IdleTimeout > 0 {
		idle := newIdleTimer(c, t.IdleTimeout)
		stops = append(stops, idle.stop)
	}
	return func() {
		for _, stop := range stops {
			stop()
		}
	}
}

// routeTimedOut reports whether a call that has timed out did so by its route's timeout, not by the client's deadline.
func routeTimedOut(c *call) bool {
	if c.target.Timeout == 0 {
		return false
	}
	ours, _ := c.ctx.Deadline()
	clients, ok := c.down.Context().Deadline()
	return !ok || ours.Before(clients)
}

// Jittered returns d changed at random by up to a tenth, so that calls that began together do not end together.
func Jittered(d time.Duration) time.Duration {
	return d - d/10 + time.Duration(rand.Int64N(int64(d)/5+1))
}

// idleSteps is how often the idle timer checks a call within the timeout. The timer may be late by one step.
const idleSteps = 8

// idleTimer ends a call for which nothing was forwarded in either direction for the route's idle timeout. It compares a
// counter at intervals, so that forwarding costs an addition and resets no timer.
type idleTimer struct {
	call  *call
	step  time.Duration
	timer *time.Timer

	progress frame.Progress // of both directions
	seen     uint32         // progress at the last check; owned by check
	idle     int            // checks since something was forwarded; owned by check
	stopped  atomic.Bool
}

func newIdleTimer(c *call, timeout time.Duration) *idleTimer {
	t := &idleTimer{call: c, step: max(timeout/idleSteps, time.Millisecond)}
	c.progress = &t.progress
	t.timer = time.AfterFunc(math.MaxInt64, t.check) // fires only after Reset: check uses t.timer, which must be set by then
	t.timer.Reset(t.step)
	return t
}

func (t *idleTimer) check() {
	if n := t.progress.Count(); n != t.seen {
		t.seen, t.idle = n, 0
	} else if t.idle++; t.idle >= idleSteps {
		t.call.abort(ErrIdle)
		return
	}
	if !t.stopped.Load() {
		t.timer.Reset(t.step)
	}
}

func (t *idleTimer) stop() {
	t.stopped.Store(true)
	t.timer.Stop()
}
