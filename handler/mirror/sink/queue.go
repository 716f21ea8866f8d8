package sink

import (
	"context"
	"maps"
	"sync"
	"time"

	"github.com/framegate/framegate/resolver/spec"
)

// maxBatch bounds the items that are taken to be sent together.
const maxBatch = 10_000

// item is an event from when it is accepted until it is delivered or dropped.
//
//	         offer             take               deliver, drop
//	(caller) ─────> ready ───────────────> sent ───────────────> (gone)
//	                  ^──────────────────────┘
//	                    giveBack…
type item struct {
	number   uint64 // counts the items of a queue
	accepted time.Time
	payload  int // bytes

	// Owned by the sink's goroutine while it is sent, by nobody while it is ready:
	event *Event // nil once record is made, for sinks that keep the record
	key   []byte
	value []byte
	at    time.Time // of the event
	alone bool      // nothing else is sent beside it

	// Guarded by the queue's mu:
	tries        int   // see blame
	delivered    int64 // how many items were, when it was blamed last
	size         int64
	next         *item // of those that are ready
	older, newer *item // of all
}

// queue holds what is not delivered yet, and counts. It is bounded: see Stats.WaitingBytes. Several goroutines may offer and
// settle; one takes.
type queue struct {
	maxMessages int
	maxBytes    int64
	window      int64         // bytes that may be sent at once, or one item if that is larger
	some        chan struct{} // has a token if there may be more to take, or nothing left
	half        chan struct{} // has a token if half of the queue may be waiting
	closing     chan struct{} // closed by close

	mu     sync.Mutex // guards what follows
	closed bool
	number uint64
	again  fifo // ready, and before those in ready
	ready  fifo
	oldest *item // of all
	newest *item
	stats  Stats // without State, Error and Lag
}

// fifo is a list of items by their next.
type fifo struct {
	first, last *item
	n           int
	bytes       int64
}

// push makes it the last.
func (f *fifo) push(it *item) {
	if f.last == nil {
		f.first = it
	} else {
		f.last.next = it
	}
	f.last = it
	f.n++
	f.bytes += it.size
}

// pushFirst makes it the first.
func (f *fifo) pushFirst(it *item) {
	if it.next = f.first; f.first == nil {
		f.last = it
	}
	f.first = it
	f.n++
	f.bytes += it.size
}

// pop removes and returns the first. There must be one.
func (f *fifo) pop() *item {
	it := f.first
	if f.first = it.next; f.first == nil {
		f.last = nil
	}
	it.next = nil
	f.n--
	f.bytes -= it.size
	return it
}

func newQueue(q spec.Queue) *queue {
	return &queue{
		maxMessages: q.MaxMessages(), maxBytes: q.MaxBytes(), window: q.MaxBytes() / 2,
		some: make(chan struct{}, 1), half: make(chan struct{}, 1), closing: make(chan struct{}),
		stats: Stats{Dropped: map[string]int64{}},
	}
}

// offer implements Sink.Offer.
func (q *queue) offer(e *Event) bool {
	it := &item{event: e, size: e.size(), payload: len(e.Payload), accepted: time.Now()}
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case q.closed:
		q.stats.Dropped[ReasonClosed]++
		return false
	case it.size > q.maxBytes:
		q.stats.Dropped[ReasonTooLarge]++
		return false
	case q.stats.Waiting >= q.maxMessages || q.stats.WaitingBytes+it.size > q.maxBytes:
		q.stats.Dropped[ReasonQueueFull]++
		return false
	}
	q.number++
	it.number = q.number
	if it.older = q.newest; it.older != nil {
		it.older.newer = it
	} else {
		q.oldest = it
	}
	q.newest = it
	q.stats.Waiting++
	q.stats.WaitingBytes += it.size
	q.ready.push(it)
	signal(q.some)
	if q.plentyLocked() {
		signal(q.half)
	}
	return true
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// plentyLocked reports whether so much is ready that waiting for more would soon drop some.
func (q *queue) plentyLocked() bool {
	return 2*q.ready.n >= q.maxMessages || 2*q.ready.bytes >= q.maxBytes
}

// gather blocks until there is something to take, and then a little longer, up to linger, for more that is sent with it. It
// returns false when ctx ends, and when the queue is closed and nothing waits any more.
func (q *queue) gather(ctx context.Context, linger time.Duration) bool {
	for ctx.Err() == nil {
		q.mu.Lock()
		takes, plenty, ended := q.takesLocked(), q.plentyLocked() || q.closed, q.closed && q.stats.Waiting == 0
		q.mu.Unlock()
		switch {
		case ended:
			return false
		case takes && plenty:
			return true
		case takes:
			t := time.NewTimer(linger)
			defer t.Stop()
			select {
			case <-t.C:
			case <-q.half:
			case <-q.closing:
			case <-ctx.Done():
			}
			return ctx.Err() == nil
		}
		select {
		case <-q.some:
		case <-ctx.Done():
		}
	}
	return false
}

// takesLocked reports whether take returns an item.
func (q *queue) takesLocked() bool {
	line := q.nextLocked()
	if line.n == 0 {
		return false
	}
	sent := q.stats.WaitingBytes - q.again.bytes - q.ready.bytes
	return q.sentLocked() == 0 || sent+line.first.size <= q.window
}

// take returns the next item that is to be sent, nil if there is none or too much is sent already. The caller settles it:
// with deliver, drop or giveBack.
func (q *queue) take() *item {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.takesLocked() {
		return nil
	}
	return q.nextLocked().pop()
}

// nextLocked returns the list that the next item is taken from.
func (q *queue) nextLocked() *fifo {
	if q.again.n > 0 {
		return &q.again
	}
	return &q.ready
}

// sent returns how many items are taken and not settled.
func (q *queue) sent() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.sentLocked()
}

func (q *queue) sentLocked() int { return q.stats.Waiting - q.again.n - q.ready.n }

// resize says how much memory an item takes now that was taken.
func (q *queue) resize(it *item, size int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.stats.WaitingBytes += size - it.size
	it.size = size
}

// giveBack makes an item ready again, as the last: it is no longer sent.
func (q *queue) giveBack(it *item) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.ready.push(it)
	signal(q.some)
}

// giveBackNext makes an item ready again, behind those that were given back and before those that never were taken. So the
// items that have a record, which is larger than what it is made of, are never more than may be sent at once.
func (q *queue) giveBackNext(it *item) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.again.push(it)
	signal(q.some)
}

// giveBackFirst makes items ready again, before all others, in their order.
func (q *queue) giveBackFirst(items []*item) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for i := len(items) - 1; i >= 0; i-- {
		q.again.pushFirst(items[i])
	}
	signal(q.some)
}

// deliver says that the server has an item.
func (q *queue) deliver(it *item) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.stats.Delivered++
	q.stats.DeliveredBytes += int64(it.payload)
	q.removeLocked(it)
}

// blame says that the server failed at an item, for a reason that it does not tell. It returns true if that has happened
// maxTries times, and others were delivered each time in between: then the item is to be dropped, because it is not the server.
func (q *queue) blame(it *item) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if it.tries == 0 || q.stats.Delivered > it.delivered {
		it.tries++
		it.delivered = q.stats.Delivered
	}
	return it.tries >= maxTries
}

// drop says that an item that was taken will not be delivered.
func (q *queue) drop(it *item, reason string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.stats.Dropped[reason]++
	q.removeLocked(it)
}

// removeLocked forgets an item that is not ready.
func (q *queue) removeLocked(it *item) {
	if it.older != nil {
		it.older.newer = it.newer
	} else {
		q.oldest = it.newer
	}
	if it.newer != nil {
		it.newer.older = it.older
	} else {
		q.newest = it.older
	}
	it.older, it.newer = nil, nil
	q.stats.Waiting--
	q.stats.WaitingBytes -= it.size
	signal(q.some)
}

// close refuses what is offered from now on. It may be called more than once.
func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.closed {
		q.closed = true
		close(q.closing)
		signal(q.some)
	}
}

// dropReady drops what is ready, because the sink is closed.
func (q *queue) dropReady() {
	q.mu.Lock()
	defer q.mu.Unlock()
	for line := q.nextLocked(); line.n > 0; line = q.nextLocked() {
		q.stats.Dropped[ReasonClosed]++
		q.removeLocked(line.pop())
	}
}

// snapshot returns the counts, and the time since the oldest item was accepted.
func (q *queue) snapshot() Stats {
	q.mu.Lock()
	defer q.mu.Unlock()
	s := q.stats
	s.Dropped = maps.Clone(s.Dropped)
	if q.oldest != nil {
		s.Lag = time.Since(q.oldest.accepted)
	}
	return s
}
