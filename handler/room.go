package handler

import (
	"context"
	"time"

	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/codes"

	"github.com/framegate/framegate/resolver"
)

// roomBackoff is how long a call waits before it asks for a stream again that an endpoint has refused.
var roomBackoff = resolver.Backoff{Base: 10 * time.Millisecond, Max: 250 * time.Millisecond}

var errNoStream = localErrorf(codes.DeadlineExceeded, ReasonTimeout, "deadline exceeded: no endpoint had room for the stream")

// room is what a call remembers of its waits for endpoints that refuse its stream: they may have a limit on streams that
// they have not announced yet. No endpoint has seen anything of the call by then.
type room struct {
	asked int       // how often it asked again
	until time.Time // a call without a deadline does not ask later; zero before the first wait
}

// mayAwaitRoom reports whether a call whose last attempt ended so is to wait for room, and ask again then. That goes on
// until its deadline, or for Opener.Patience without one.
func (c *call) mayAwaitRoom(o outcome) bool {
	if !o.refused {
		return false
	}
	patience := c.proxy.openerOf(&c.target).Patience()
	if patience == 0 {
		return false
	}
	if _, bounded := c.ctx.Deadline(); bounded {
		return true
	}
	now := time.Now()
	if c.room.until.IsZero() {
		c.room.until = now.Add(patience)
	}
	return now.Before(c.room.until)
}

// awaitRoom waits, longer each time, as one of the route's calls that wait for a stream. It reports false if ctx or the
// call ended meanwhile, and ends the call if no more may wait or its
// deadline has passed.
func (c *call) awaitRoom(ctx context.Context) bool {
	if !c.target.Wait() {
		c.fail(c.overPending())
		return false
	}
	defer c.target.WaitEnd()
	c.room.asked++
	wait := roomBackoff.Wait(c.room.asked)
	if !c.room.until.IsZero() {
		wait = min(wait, time.Until(c.room.until))
	}
	if c.sleep(ctx, wait) {
		return true
	}
	if expired(c.ctx) {
		c.fail(errNoStream)
	}
	return false
}
