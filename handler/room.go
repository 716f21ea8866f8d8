package handler

import (
	"time"

	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/codes"

	"github.com/framegate/framegate/handler/local"
	"github.com/framegate/framegate/resolver/spec"
)

// roomBackoff is how long a call waits before it tries again to open a stream that an endpoint has refused.
var roomBackoff = spec.Backoff{Base: 10 * time.Millisecond, Max: 250 * time.Millisecond}

var errNoStream = local.Errorf(codes.DeadlineExceeded, local.ReasonTimeout, "deadline exceeded: no endpoint had room for the stream")

// room is the state of a call that waits for room at endpoints that refuse its stream with REFUSED_STREAM, because they have a
// limit on streams that framegate does not know yet. No endpoint has processed anything of the call by then.
type room struct {
	asked int       // how often the call has tried again
	until time.Time // when a call without a deadline gives up; zero before the first wait
}

// waitsForRoom reports whether calls wait for a stream when all are taken: the pool's when_full.
func (at *attempts) waitsForRoom() bool {
	return at.call.openerOf(&at.call.target).Patience() > 0
}

// mayAwaitRoom reports whether a call whose last attempt ended with outcome o waits for room and tries again. It does so
// until its deadline or, without a deadline, for stream.Opener.Patience.
func (at *attempts) mayAwaitRoom(o outcome) bool {
	if !o.full {
		return false
	}
	if _, bounded := at.call.ctx.Deadline(); bounded {
		return true
	}
	now := time.Now()
	if at.room.until.IsZero() {
		at.room.until = now.Add(at.call.openerOf(&at.call.target).Patience())
	}
	return now.Before(at.room.until)
}

// enterRoom returns how long to wait before the next try, longer each time, and counts the call as one that waits for a stream
// (limits.pending); leaveRoom ends the count. If no more calls may wait, it ends the call and returns false.
func (at *attempts) enterRoom() (wait time.Duration, ok bool) {
	if !at.call.target.Wait() {
		at.call.fail(PendingError(&at.call.target))
		return 0, false
	}
	wait = roomBackoff.Wait(at.room.asked + 1)
	if !at.room.until.IsZero() {
		wait = min(wait, time.Until(at.room.until))
	}
	return wait, true
}

// leaveRoom ends what enterRoom began. over says that the call does not try again.
func (at *attempts) leaveRoom(over bool) {
	at.call.target.WaitEnd()
	switch {
	case !over:
		at.room.asked++
	case expired(at.call.ctx):
		at.call.fail(errNoStream)
	}
}

// awaitRoom waits before the next try, and reports false if the call has ended.
func (at *attempts) awaitRoom() bool {
	wait, ok := at.enterRoom()
	if !ok {
		return false
	}
	ok = at.sleep(wait)
	at.leaveRoom(!ok)
	return ok
}
