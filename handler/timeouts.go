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

// limitTime puts the times of the call's route in force: it changes c.ctx. The caller calls the returned function when the call
// has ended.
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
		timer := time.AfterFunc(jittered(t.MaxStreamAge), func() { c.abort(errMaxStreamAge) })
		stops = append(stops, func() { timer.Stop() })
	}
	if t.IdleTimeout > 0 {
		w := newIdleWatch(c, t.IdleTimeout)
		stops = append(stops, w.stop)
	}
	return func() {
		for _, stop := range stops {
			stop()
		}
	}
}

// routeTimedOut reports, of a call that has timed out, whether that was the route's time and not the client's.
func routeTimedOut(c *call) bool {
	if c.target.Timeout == 0 {
		return false
	}
	ours, _ := c.ctx.Deadline()
	clients, ok := c.down.Stream.Context().Deadline()
	return !ok || ours.Before(clients)
}

// jittered returns d, give or take a tenth.
func jittered(d time.Duration) time.Duration {
	return d - d/10 + time.Duration(rand.Int64N(int64(d)/5+1))
}

// idleSteps is how often the idle watch looks while the timeout passes: so much of it, at most, it may be late.
const idleSteps = 8

// idleWatch ends a call of which nothing was forwarded, either way, for a time.
type idleWatch struct {
	call  *call
	step  time.Duration
	timer *time.Timer

	progress frame.Progress // in both directions
	seen     uint32         // of progress at the last look; owned by look
	idle     int            // looks since something was forwarded; owned by look
	stopped  atomic.Bool
}

func newIdleWatch(c *call, timeout time.Duration) *idleWatch {
	w := &idleWatch{call: c, step: max(timeout/idleSteps, time.Millisecond)}
	c.idle = w
	w.timer = time.AfterFunc(math.MaxInt64, w.look) // never: look uses w.timer, so that it must be set when the time starts
	w.timer.Reset(w.step)
	return w
}

// of returns what notes progress; nil without a watch.
func (w *idleWatch) of() *frame.Progress {
	if w == nil {
		return nil
	}
	return &w.progress
}

func (w *idleWatch) look() {
	if n := w.progress.Count(); n != w.seen {
		w.seen, w.idle = n, 0
	} else if w.idle++; w.idle >= idleSteps {
		w.call.abort(errIdle)
		return
	}
	if !w.stopped.Load() {
		w.timer.Reset(w.step)
	}
}

func (w *idleWatch) stop() {
	w.stopped.Store(true)
	w.timer.Stop()
}
