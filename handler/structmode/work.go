package structmode

import (
	"sync"
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

// underWay reports whether there is any.
func (w *work) underWay() bool { return w.state.Load()&^overBit != 0 }

// over lets no further work begin, and reports whether none is under way.
func (w *work) over() bool { return w.state.Or(overBit)&^overBit == 0 }

var _ budget.Owner = (*Structure)(nil)

// Evict implements budget.Owner.
func (s *Structure) Evict() { s.evict() }

// openRoom lets the call take from the budget, and makes it known to its connection; Close ends both.
func (s *Structure) openRoom() {
	s.mode.registry.add(s)
	s.room.Open(s.ctx, s.mode.cfg.Budget, s)
	s.request.share.Of(&s.room)
	s.response.share.Of(&s.room)
}

// Close gives back what the call has taken of the budget. Nothing runs for the call any more. s may be nil.
func (s *Structure) Close() {
	if s != nil {
		s.request.share.Free()
		s.response.share.Free()
		s.mode.registry.remove(s)
	}
}

// Over lets no further message be worked on, and reports whether none is.
func (s *Structure) Over() bool { return s.work.over() }

// registry are the calls in struct mode, by the connection that they came on.
type registry struct {
	mu    sync.Mutex // guards first, and the prev and next of every structure
	first map[grpc.ServerTransport]*Structure
}

func (l *registry) add(s *Structure) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.first == nil {
		l.first = map[grpc.ServerTransport]*Structure{}
	}
	s.next = l.first[s.transport]
	if s.next != nil {
		s.next.prev = s
	}
	l.first[s.transport] = s
}

func (l *registry) remove(s *Structure) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case s.prev != nil:
		s.prev.next = s.next
	case s.next != nil:
		l.first[s.transport] = s.next
	default:
		delete(l.first, s.transport)
	}
	if s.next != nil {
		s.next.prev = s.prev
	}
}

// linger reports whether a message of a call on a connection is still being worked on though its client has left: to HTTP/2
// the call has ended.
func (l *registry) linger(tr grpc.ServerTransport) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for s := l.first[tr]; s != nil; s = s.next {
		if s.work.underWay() && s.ctx.Err() != nil {
			return true
		}
	}
	return false
}
