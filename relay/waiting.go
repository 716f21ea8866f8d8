package relay

import (
	"context"
	"errors"

	"github.com/framegate/framegate/handler"
	"github.com/framegate/framegate/handler/local"
	"github.com/framegate/framegate/pool"
	"github.com/framegate/framegate/relay/h2"
	"github.com/framegate/framegate/relay/h2/hpack"
)

// waiting is a relayed call that has an endpoint and waits for a connection to it, or for room on one. What comes of its request
// meanwhile is kept, at most the stream's window.
type waiting struct {
	pool pool.Waiting
	call *call // nil when the call does not wait any more
	head h2.Head
	req  request

	data        h2.Pending
	ended       bool // the end of the request is behind data
	late        bool // the call's deadline has passed
	overPending bool // limits.pending is reached
}

// startWaiting makes a call wait for a slot in a group.
func startWaiting(c *call, group *pool.Group, h *h2.Head, r *request) {
	w := &waiting{call: c, head: *h, req: *r}
	w.head.Fields, w.req.via = nil, nil // they were looked at
	if !h.Stays {
		w.req.forwarded = append([]*hpack.Field(nil), r.forwarded...)
	}
	c.waiting = w
	c.observed.start(c)
	if limit, field := c.limit(r); limit > 0 {
		c.setDeadline(limit, field == nil)
	}
	options := pool.WaitOptions{OwnDeadline: c.deadline.at != 0}
	if target := c.target; target.BoundsWaiting() {
		options.Wait = func() (func(), bool) {
			w.overPending = !target.Wait()
			return target.WaitEnd, !w.overPending
		}
	}
	s := c.shard
	group.Wait(&w.pool, c.attempt.Address, options, func(slot pool.Slot, err error) {
		s.wg.Go(func() { // Wait and Again call this with the shard's mu held, others without
			s.lock()
			defer s.unlock()
			w.answered(slot, err)
		})
	})
}

// errNoRoom says that the connection of a slot takes no stream after all.
var errNoRoom = errors.New("the connection takes no stream any more")

// answered is called with the slot, or with the error of pool.Group.Wait. The shard's mu is held.
func (w *waiting) answered(slot pool.Slot, err error) {
	c := w.call
	if err == nil {
		switch u := slot.Conn().(*upstreamConn); {
		case c == nil || w.late:
			slot.Release()
		case !u.hasRoom():
			u.release(slot)
			w.pool.Again(errNoRoom)
			return
		}
	}
	w.pool.End()
	if c == nil {
		return
	}
	c.waiting = nil
	switch {
	case err == nil && !w.late:
		c.open(slot, &w.head, &w.req)
		w.replay(c)
		return
	case w.overPending:
		c.fail(handler.PendingError(&c.target))
	case w.late:
		c.unreached = errors.As(err, new(*pool.DialError))
		c.fail(local.ErrTimeout)
	default:
		c.kept.data, c.sent = w.data, c.sent || w.ended
		c.handOver(&handler.FailedAttempt{Err: err})
		return
	}
	w.data.Clear(c.shard.memory)
}

// add takes DATA of the request.
func (w *waiting) add(p []byte, end bool) {
	w.data.Add(w.call.shard.memory, p)
	w.ended = w.ended || end
}

// replay sends what has come of the request.
func (w *waiting) replay(c *call) {
	s := c.shard
	buf := make([]byte, min(w.data.Len(), 16<<10))
	for w.data.Len() > 0 && c.upstream.IsOpen() {
		n := w.data.Read(s.memory, buf)
		c.toEndpoint(buf[:n], w.ended && w.data.Len() == 0)
	}
	if w.data.Clear(s.memory); w.ended && !c.sent && c.upstream.IsOpen() {
		c.toEndpoint(nil, true)
	}
}

// stop ends the wait of a call that has ended otherwise. w may be nil.
func (w *waiting) stop() {
	if w != nil {
		w.data.Clear(w.call.shard.memory)
		w.call = nil
		w.pool.Cancel(context.Canceled)
	}
}
