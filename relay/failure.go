package relay

import (
	"time"

	"golang.org/x/net/http2"

	"github.com/framegate/framegate/handler/local"
)

// expire ends a call whose time is over.
func (c *call) expire(e *local.Error) {
	switch {
	case c.lingers:
		c.client.EndNow()
		c.endIfSent()
	case c.client.Ended(): // the client does not read its answer
		c.client.Reset(http2.ErrCodeCancel)
		c.end()
	default:
		c.fail(e)
	}
}

// fail ends the call with a local error, unless the whole answer was sent. It takes the place of DATA that waits for the client.
func (c *call) fail(e *local.Error) {
	if c.at == nil || c.client.Ended() {
		return
	}
	c.dropAnswer(e == local.ErrUnread)
	c.failBehind(e)
	if c.at != nil && c.down == nil && c.client.Queued() > 0 {
		c.linger()
	}
}

// dropAnswer drops what waits for the client, but for the rest of a message of which it has a part: clients do not see the status that
// follows half a message (grpc-go says INTERNAL, "unexpected EOF"). all drops that as well.
func (c *call) dropAnswer(all bool) {
	if all {
		c.client.CutQueue(0)
		return
	}
	waits := func(yield func([]byte) bool) {
		for p := range c.client.Queue() {
			if !yield(p) {
				return
			}
		}
		if c.down != nil {
			yield(c.down.writing)
		}
	}
	n := c.unsent.rest(waits)
	if more := n - c.client.Queued(); more > 0 {
		c.client.WriteData(c.down.writing[:more], false)
	}
	c.client.CutQueue(n)
}

// lingerTime is how long the client of a call that has failed may take to read the message within which it did.
const lingerTime = 2 * time.Second

// linger ends the call in any case after lingerTime. For all but its client it has ended.
func (c *call) linger() {
	c.lingers = true
	c.settle()
	c.shard.timers.set(&c.deadline, c.shard.now+int64(lingerTime))
}

// failBehind is fail behind the DATA that waits.
func (c *call) failBehind(e *local.Error) {
	if c.at == nil || c.client.Ended() {
		return
	}
	c.ended.code, c.ended.reason, c.ended.limit = e.Code, e.Reason, e.Limit
	c.waiting.stop()
	c.waiting = nil
	c.upstream.Reset(http2.ErrCodeCancel)
	c.releaseSlot()
	if fields := c.shard.local.fields(e); c.client.Answered() {
		c.client.WriteTrailers(fields[localHeaders:])
	} else {
		c.client.WriteHeaders(fields, true)
	}
	c.endIfSent()
}
