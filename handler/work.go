package handler

import (
	"sync"
	"sync/atomic"

	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/grpc"

	"github.com/framegate/framegate/handler/budget"
	"github.com/framegate/framegate/handler/local"
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

// underWay reports whether there is any.
func (w *work) underWay() bool { return w.state.Load()&^overBit != 0 }

// over lets no further work begin, and reports whether none is under way.
func (w *work) over() bool { return w.state.Or(overBit)&^overBit == 0 }

var _ budget.Owner = (*structure)(nil)

// Evict implements budget.Owner.
func (s *structure) Evict() { s.of.abort(local.ErrNoRoom) }

// openRoom lets the call take from the proxy's budget, and makes it known to its connection; freeRoom ends both.
func (s *structure) openRoom() {
	s.of.proxy.structures.add(s)
	s.room.Open(s.ctx, s.of.proxy.budget, s)
	s.request.share.Of(&s.room)
	s.response.share.Of(&s.room)
}

// freeRoom, deferred, gives back what the call has taken of the budget. Nothing runs for the call any more.
func (c *call) freeRoom() {
	if c.struc != nil {
		c.struc.request.share.Free()
		c.struc.response.share.Free()
		c.proxy.structures.remove(c.struc)
	}
}

// structures are the calls in struct mode, by the connection that they came on.
type structures struct {
	mu    sync.Mutex // guards first, and the prev and next of every structure
	first map[grpc.ServerTransport]*structure
}

func (l *structures) add(s *structure) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.first == nil {
		l.first = map[grpc.ServerTransport]*structure{}
	}
	s.next = l.first[s.of.down.tr]
	if s.next != nil {
		s.next.prev = s
	}
	l.first[s.of.down.tr] = s
}

func (l *structures) remove(s *structure) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case s.prev != nil:
		s.prev.next = s.next
	case s.next != nil:
		l.first[s.of.down.tr] = s.next
	default:
		delete(l.first, s.of.down.tr)
	}
	if s.next != nil {
		s.next.prev = s.prev
	}
}

// linger reports whether a message of a call on a connection is still being worked on though its client has left: to HTTP/2
// the call has ended.
func (l *structures) linger(tr grpc.ServerTransport) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for s := l.first[tr]; s != nil; s = s.next {
		if s.work.underWay() && s.ctx.Err() != nil {
			return true
		}
	}
	return false
}
