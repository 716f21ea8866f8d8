package relay

import (
	"strconv"
	"time"

	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/codes"
	"golang.org/x/net/http2"

	"github.com/framegate/framegate/handler/local"
	"github.com/framegate/framegate/relay/h2/hpack"
	"github.com/framegate/framegate/resolver/plain"
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
	c.stopAll()
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
	if fields := c.shard.localFields(e); c.client.Answered() {
		c.client.WriteTrailers(fields[localHeaders:])
	} else {
		c.client.WriteHeaders(fields, true)
	}
	c.endIfSent()
}

// localHeaders is how many of the fields of a local error come before those of its trailers.
const localHeaders = 2

// The bounds of the local errors whose fields a shard keeps: the same few come again and again, most of all when there is no time to
// lose.
const (
	maxLocal        = 128
	maxLocalMessage = 512
)

// localFields returns the fields of a local error, as an answer of trailers only.
func (s *shard) localFields(e *local.Error) []*hpack.Field {
	if fields, ok := s.local[*e]; ok {
		return fields
	}
	fields := []*hpack.Field{fieldOK, fieldGRPC, statusField(e.Code), hpack.NewField("grpc-message", plain.Percent(e.Error()), false)}
	for name, values := range e.Trailer() {
		for _, v := range values {
			fields = append(fields, hpack.NewField(name, v, false))
		}
	}
	if len(e.Message) <= maxLocalMessage {
		if len(s.local) == maxLocal {
			clear(s.local)
		}
		s.local[*e] = fields
	}
	return fields
}

var (
	fieldOK   = hpack.NewField(":status", "200", false)
	fieldGRPC = hpack.NewField("content-type", "application/grpc", false)
)

func statusField(code codes.Code) *hpack.Field {
	return hpack.NewField("grpc-status", strconv.FormatUint(uint64(code), 10), false)
}
