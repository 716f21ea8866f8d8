package relay

import "github.com/framegate/framegate/handler"

// times end a call that lasts as long as its route's max_stream_age, or in which nothing has been forwarded for its idle_timeout.
type times struct {
	call      *call
	age, idle timer
	forwarded int64 // call.forwarded when the call was last looked at
	since     int64 // when it was last seen to change
}

// idleSteps is how often a call is looked at within its idle_timeout, which may be late by one step.
const idleSteps = 8

// startTimes starts the times of a call whose route has any, and returns nil for others.
func startTimes(c *call) *times {
	if c.target.IdleTimeout|c.target.MaxStreamAge == 0 {
		return nil
	}
	t := &times{call: c, since: c.shard.now}
	t.age.fire = func() { c.expire(handler.ErrMaxStreamAge) }
	t.idle.fire = t.look
	if d := c.target.MaxStreamAge; d > 0 {
		c.shard.timers.set(&t.age, c.shard.now+int64(handler.Jittered(min(d, maxWait))))
	}
	if c.target.IdleTimeout > 0 {
		t.lookLater()
	}
	return t
}

// lookLater sets the timer of the next look.
func (t *times) lookLater() {
	s := t.call.shard
	s.timers.set(&t.idle, s.now+max(int64(min(t.call.target.IdleTimeout, maxWait))/idleSteps, slotTime))
}

// look ends the call if nothing has been forwarded for too long.
func (t *times) look() {
	c := t.call
	now := c.shard.now
	if c.forwarded != t.forwarded {
		t.forwarded, t.since = c.forwarded, now
	} else if now-t.since >= int64(c.target.IdleTimeout) {
		c.expire(handler.ErrIdle)
		return
	}
	t.lookLater()
}

// stop stops them. t may be nil.
func (t *times) stop() {
	if t != nil {
		t.call.shard.timers.stop(&t.age)
		t.call.shard.timers.stop(&t.idle)
	}
}
