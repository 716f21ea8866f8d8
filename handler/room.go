package handler

import (
	"time"

	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/codes"

	"github.com/framegate/framegate/handler/local"
	"github.com/framegate/framegate/resolver/spec"
)

// roomBackoff is how long a call waits before it asks for a stream again that an endpoint has refused.
var roomBackoff = spec.Backoff{Base: 10 * time.Millisecond, Max: 250 * time.Millisecond}

var errNoStream = local.Errorf(codes.DeadlineExceeded, local.ReasonTimeout, "deadline exceeded: no endpoint had room for the stream")

// room is what a call remembers of its waits for endpoints that refuse its stream: they may have a limit on streams that
// they have not announced yet. No endpoint has seen anything of the call by then.
type room struct {
	asked int       // how often it asked again
	until time.Time // a call without a deadline does not ask later; zero before the first wait
}

// waitsForRoom reports whether the route's calls wait for streams.
func (at *attempts) waitsForRoom() bool {
	return at.call.proxy.openerOf(&at.call.target).Patience() > 0
}

// mayAwaitRoom reports whether a call whose last attempt ended so is to wait for room, and ask again then. That goes on
// until its deadline, or for Opener.Patience without one.
func (at *attempts) mayAwaitRoom(o outcome) bool {
	if !o.full {
		return false
	}
	if _, bounded := at.call.ctx.Deadline(); bounded {
		return true
	}
	now := time.Now()
	if at.room.until.IsZero() {
		at.room.until = now.Add(at.call.proxy.openerOf(&at.call.target).Patience())
	}
	return now.Before(at.room.until)
}

// enterRoom begins a wait, which is longer each time, and counts the call as one of the route's that wait for a stream;
// leaveRoom ends both. If no more calls may wait, it ends the call and returns false.
func (at *attempts) enterRoom() (wait time.Duration, ok bool) {
	if !at.call.target.Wait() {
		at.call.fail(at.overPending())
		return 0, false
	}
	wait = roomBackoff.Wait(at.room.asked + 1)
	if !at.room.until.IsZero() {
		wait = min(wait, time.Until(at.room.until))
	}
	return wait, true
}

// leaveRoom is for the end of a wait; over says that it was the call's end.
func (at *attempts) leaveRoom(over bool) {
	at.call.target.WaitEnd()
	switch {
	case !over:
		at.room.asked++
	case expired(at.call.ctx):
		at.call.fail(errNoStream)
	}
}

// awaitRoom waits, and reports false if the call has ended.
func (at *attempts) awaitRoom() bool {
	wait, ok := at.enterRoom()
	if !ok {
		return false
	}
	ok = at.sleep(wait)
	at.leaveRoom(!ok)
	return ok
}
