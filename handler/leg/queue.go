package leg

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"github.com/framegate/framegate/handler/frame"
)

// Room is memory that many queues share.
type Room interface {
	Take(n int64) bool // reports false, and takes nothing, if there is no room for n bytes
	Give(n int64)
}

var (
	// ErrEnded means that a leg takes no more messages.
	ErrEnded = errors.New("leg: it has ended")

	// ErrFull means that there was no room for a message for as long as the caller could wait.
	ErrFull = errors.New("leg: it has no room")
)

// queue has the messages of a request that the endpoint has not taken yet.
type queue struct {
	maxMessages int             // set once
	maxBytes    int64           // set once
	room        Room            // set once; nil for no bound
	ctx         context.Context // set once; the queue is closed when it has ended

	mu      sync.Mutex   // guards the fields below
	changed sync.Cond    // signals changes of the fields below; its lock is mu
	waiting []queued     // those that were not read whole
	cursor  frame.Cursor // in the first one
	bytes   int64        // of waiting
	ended   bool         // no message follows
	closed  bool         // nobody reads any more
	unhook  func() bool  // keeps the end of ctx from closing the queue; nil before anybody has waited
	moved   time.Time    // when something was read last, or came into an empty queue
	lag     time.Duration
}

// queued is a message that waits.
type queued struct {
	frame.Message
	came time.Time
}

func (q *queue) hasRoomLocked(m frame.Message) bool {
	return len(q.waiting) < q.maxMessages && q.bytes+int64(m.Len()) <= q.maxBytes
}

func (q *queue) addLocked(m frame.Message) bool {
	if q.room != nil && !q.room.Take(int64(m.Len())) {
		return false
	}
	now := time.Now()
	if len(q.waiting) == 0 {
		q.moved = now
	}
	q.waiting = append(q.waiting, queued{m, now})
	q.bytes += int64(m.Len())
	q.changed.Broadcast()
	return true
}

// push adds a message, or reports false if there is no room for it or nobody reads.
func (q *queue) push(m frame.Message) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return !q.overLocked() && !q.ended && q.hasRoomLocked(m) && q.addLocked(m)
}

// pushWhenRoom adds a message when there is room for it: one that is longer than the queue when the queue is empty. It fails with
// ErrEnded when nobody reads, and with ErrFull if there is no room until the deadline passes, unless that is zero.
func (q *queue) pushWhenRoom(m frame.Message, deadline time.Time) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	var timer *time.Timer
	for !q.overLocked() {
		if (len(q.waiting) == 0 || q.hasRoomLocked(m)) && q.addLocked(m) {
			return nil
		}
		if !deadline.IsZero() {
			left := time.Until(deadline)
			if left <= 0 {
				return ErrFull
			}
			if timer == nil {
				timer = time.AfterFunc(left, func() {
					q.mu.Lock()
					defer q.mu.Unlock()
					q.changed.Broadcast()
				})
				defer timer.Stop()
			}
		}
		q.waitLocked()
	}
	return ErrEnded
}

// overLocked reports whether the queue takes and gives no more messages.
func (q *queue) overLocked() bool { return q.closed || q.ctx.Err() != nil }

// waitLocked waits for a change. Most queues have what is asked for, and need no hook.
func (q *queue) waitLocked() {
	if q.unhook == nil {
		q.unhook = context.AfterFunc(q.ctx, q.close)
	}
	q.changed.Wait()
}

// end says that no message follows.
func (q *queue) end() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.waiting) == 0 {
		q.moved = time.Now()
	}
	q.ended = true
	q.changed.Broadcast()
}

// close drops what waits, and ends reads and pushes that block.
func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return
	}
	q.closed = true
	if q.unhook != nil {
		q.unhook()
	}
	if q.room != nil {
		q.room.Give(q.bytes)
	}
	q.waiting, q.bytes = nil, 0
	q.changed.Broadcast()
}

// fill fills p with the bytes of the stream of frames. It fails with io.EOF at the end of the stream, with io.ErrUnexpectedEOF
// if that is within p, and with the cause of the end of ctx when the queue is closed.
func (q *queue) fill(p []byte) (int, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := 0
	for n < len(p) {
		switch {
		case q.overLocked():
			return n, context.Cause(q.ctx)
		case len(q.waiting) > 0:
			n += q.takeLocked(p[n:])
		case q.ended && n == 0:
			return 0, io.EOF
		case q.ended:
			return n, io.ErrUnexpectedEOF
		default:
			q.waitLocked()
		}
	}
	return n, nil
}

// takeLocked copies bytes of the first message into p, and drops the message when it was read whole.
func (q *queue) takeLocked(p []byte) int {
	first := &q.waiting[0]
	q.moved = time.Now()
	if q.cursor.AtStart() {
		q.lag = q.moved.Sub(first.came)
	}
	n, whole := q.cursor.Read(p, first.Message)
	if whole {
		q.bytes -= int64(first.Len())
		if q.room != nil {
			q.room.Give(int64(first.Len()))
		}
		*first = queued{}
		if q.waiting = q.waiting[1:]; len(q.waiting) == 0 {
			q.waiting = nil
		}
		q.changed.Broadcast()
	}
	return n
}
