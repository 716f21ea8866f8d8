package structmode

import (
	"sync"
	"sync/atomic"

	"github.com/framegate/framegate/handler/budget"
)

// work counts the directions of a call whose message is being worked on. Limits on calls count the call until there are
// none, even if its client has left: otherwise clients could have any number of messages decoded at once, by leaving each
// call at once.
type work struct {
	state atomic.Int32 // the number of such directions, and overBit
}

// overBit in work.state says that no further work may begin.
const overBit = 1 << 30

// begin counts a direction, or reports false if no further work may begin. For each true the caller calls end once.
func (w *work) begin() bool {
	if w.state.Add(1)&overBit == 0 {
		return true
	}
	w.state.Add(-1)
	return false
}

func (w *work) end() { w.state.Add(-1) }

// underWay reports whether a message is being worked on.
func (w *work) underWay() bool { return w.state.Load()&^overBit != 0 }

// over lets no further work begin, and reports whether no message is being worked on.
func (w *work) over() bool { return w.state.Or(overBit)&^overBit == 0 }

var _ budget.Owner = (*Transformer)(nil)

// Evict implements budget.Owner.
func (t *Transformer) Evict() { t.evict() }

// openRoom prepares the call's shares of the budget, and adds the call to the registry. Close undoes both.
func (t *Transformer) openRoom() {
	t.mode.registry.add(t)
	t.room.Open(t.ctx, t.mode.cfg.Budget, t)
	t.request.share.Of(&t.room)
	t.response.share.Of(&t.room)
}

// Close gives back what the call has taken of the budget. No goroutine may work for the call any more. t may be nil.
func (t *Transformer) Close() {
	if t != nil {
		t.request.share.Free()
		t.response.share.Free()
		t.mode.registry.remove(t)
	}
}

// Over lets no further message be worked on, and reports whether no message is being worked on.
func (t *Transformer) Over() bool { return t.work.over() }

// registry lists the calls in struct mode, by the connection that they came on.
type registry struct {
	mu    sync.Mutex // guards first, and the prev and next of every Transformer
	first map[any]*Transformer
}

func (l *registry) add(t *Transformer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.first == nil {
		l.first = map[any]*Transformer{}
	}
	t.next = l.first[t.conn]
	if t.next != nil {
		t.next.prev = t
	}
	l.first[t.conn] = t
}

func (l *registry) remove(t *Transformer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case t.prev != nil:
		t.prev.next = t.next
	case t.next != nil:
		l.first[t.conn] = t.next
	default:
		delete(l.first, t.conn)
	}
	if t.next != nil {
		t.next.prev = t.prev
	}
}

// linger implements Mode.Linger.
func (l *registry) linger(conn any) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for s := l.first[conn]; s != nil; s = s.next {
		if s.work.underWay() && s.ctx.Err() != nil {
			return true
		}
	}
	return false
}
