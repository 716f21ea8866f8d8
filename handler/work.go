package handler

import (
	"sync/atomic"

	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/grpc"

	"github.com/framegate/framegate/handler/budget"
)

// work counts the directions of a call whose message is being worked on. What is counted of the call, in limits of calls,
// stays so until they are through, even if the client has left: otherwise clients could have any number of messages
// decoded by leaving at once.
type work struct {
	state atomic.Int32 // the directions, and overBit
}

// overBit says that no further work may begin.
const overBit = 1 << 30

// begin reports whether work may begin; each true wants one end.
func (w *work) begin() bool {
	if w.state.Add(1)&overBit == 0 {
		return true
	}
	w.state.Add(-1)
	return false
}

func (w *work) end() { w.state.Add(-1) }

// over lets no further work begin, and reports whether none is under way.
func (w *work) over() bool { return w.state.Or(overBit)&^overBit == 0 }

var _ budget.Owner = (*structure)(nil)

// Evict implements budget.Owner.
func (s *structure) Evict() { s.of.abort(errNoRoom) }

// openRoom lets the call take from the proxy's budget; freeRoom gives everything back.
func (s *structure) openRoom() {
	s.room.Open(s.ctx, s.of.proxy.budget, s)
	s.request.share.Of(&s.room)
	s.response.share.Of(&s.room)
}

// freeRoom, deferred, gives back what the call has taken of the budget. Nothing runs for the call any more.
func (c *call) freeRoom() {
	if c.struc != nil {
		c.struc.request.share.Free()
		c.struc.response.share.Free()
	}
}

// lingers reports whether a large message of a call on a connection is still being worked on though its client has left:
// to HTTP/2 the call has ended.
func (p *Proxy) lingers(tr grpc.ServerTransport) (found bool) {
	if p.budget == nil {
		return false
	}
	p.budget.Holders(func(o budget.Owner) bool {
		s, ok := o.(*structure)
		found = ok && s.of.down.tr == tr && s.ctx.Err() != nil
		return !found
	})
	return found
}
