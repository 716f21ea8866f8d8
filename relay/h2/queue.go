package h2

import (
	"iter"
	"sync/atomic"
)

// Budget bounds what waits in a process for all peers together: the DATA in queues, and what is ready for sockets that are full. It
// is safe for concurrent use.
type Budget struct {
	max  int64
	held atomic.Int64
}

// NewBudget returns a Budget of max bytes, at least MinBudget.
func NewBudget(maxBytes int64) *Budget { return &Budget{max: max(maxBytes, MinBudget)} }

// MinBudget is the least number of bytes that a Budget has.
const MinBudget = 1 << 20

// Held returns how many bytes wait now, by the size of the memory that they take.
func (b *Budget) Held() int64 { return b.held.Load() }

// Max returns the bound.
func (b *Budget) Max() int64 { return b.max }

// Full reports whether no further DATA is to be asked for. What the windows that peers have already been given allow is
// taken all the same.
func (b *Budget) Full() bool { return b.held.Load() >= b.max }

// IsShort reports whether so much waits that DATA which does not move is to be dropped, before it makes all others wait: three
// quarters of the budget.
func (b *Budget) IsShort() bool { return b.held.Load() >= b.max/4*3 }

// IsPlenty reports whether less than half of the budget is in use.
func (b *Budget) IsPlenty() bool { return b.held.Load() < b.max/2 }

// windowOf returns how large a flow-control window a peer is given in the place of full, a stream's window when memory is
// plenty: that while less than half of the budget is in use, and then less and less.
func (b *Budget) windowOf(full int32) int32 {
	if b.IsPlenty() {
		return full
	}
	left := b.max - b.held.Load()
	return int32(max(int64(full)*2*max(left, 0)/b.max, int64(min(full, minWindow))))
}

// minWindow is the window that a stream is given when memory is short: enough to go on, in small steps.
const minWindow = 4096

// chunk is a piece of a queue: b[read:] is waiting.
type chunk struct {
	b    []byte
	read int
	next *chunk
}

// The sizes of chunks. A short message must not take the memory of a long one.
var chunkSizes = [...]int{256, 1 << 10, 4 << 10, 16 << 10}

// maxFree bounds how many unused chunks of each size are kept.
var maxFree = [len(chunkSizes)]int{4096, 1024, 512, 256}

// Memory has the chunks of the queues of the connections that one goroutine works on at a time.
type Memory struct {
	budget *Budget
	free   [len(chunkSizes)]*chunk
	kept   [len(chunkSizes)]int // how many are free
	idle   [len(chunkSizes)]int // the least of kept since the last Trim
}

// NewMemory returns a Memory whose chunks count against budget while they are in use.
func NewMemory(budget *Budget) *Memory { return &Memory{budget: budget} }

// get returns a chunk for n bytes, or for a part of them.
func (m *Memory) get(n int) *chunk {
	class := 0
	for class < len(chunkSizes)-1 && n > chunkSizes[class] {
		class++
	}
	m.budget.held.Add(int64(chunkSizes[class]))
	c := m.free[class]
	if c == nil {
		return &chunk{b: make([]byte, 0, chunkSizes[class])}
	}
	m.free[class], c.next = c.next, nil
	m.kept[class]--
	m.idle[class] = min(m.idle[class], m.kept[class])
	return c
}

func (m *Memory) put(c *chunk) {
	m.budget.held.Add(-int64(cap(c.b)))
	for class, size := range chunkSizes {
		if cap(c.b) == size && m.kept[class] < maxFree[class] {
			c.b, c.read, c.next = c.b[:0], 0, m.free[class]
			m.free[class] = c
			m.kept[class]++
		}
	}
}

// Trim drops the chunks that were not in use since the last Trim. It is to be called every few seconds.
func (m *Memory) Trim() {
	for class, n := range m.idle {
		for range n {
			m.free[class] = m.free[class].next
		}
		m.kept[class] -= n
		m.idle[class] = m.kept[class]
	}
}

// queue is DATA of one stream that waits for a window or for the socket. Its length is bounded by the window of whoever sends
// the DATA, because credit is given back only for what has left the queue.
type queue struct {
	first, last *chunk
	n           int // bytes
	asked       int // how often isStuck was asked since something has left
}

// StuckAsks is after how many asks without a move between them a queue is stuck. Asked once a second, a reader of 32 KiB a second or
// more, which gives credit by half a window of 64 KiB, never is.
const StuckAsks = 3

// isStuck reports whether something waits, and nothing has left in the last StuckAsks times that isStuck was asked.
func (q *queue) isStuck() bool {
	if q.n == 0 {
		q.asked = 0
		return false
	}
	q.asked++
	return q.asked > StuckAsks
}

func (q *queue) add(m *Memory, p []byte) {
	q.n += len(p)
	for len(p) > 0 {
		if q.last == nil || len(q.last.b) == cap(q.last.b) {
			c := m.get(len(p))
			if q.last == nil {
				q.first = c
			} else {
				q.last.next = c
			}
			q.last = c
		}
		room := min(len(p), cap(q.last.b)-len(q.last.b))
		q.last.b = append(q.last.b, p[:room]...)
		p = p[room:]
	}
}

// take moves up to n bytes from the queue to the end of b.
func (q *queue) take(m *Memory, b []byte, n int) []byte {
	n = min(n, q.n)
	q.n -= n
	if n > 0 {
		q.asked = 0
	}
	for n > 0 {
		c := q.first
		k := min(n, len(c.b)-c.read)
		b = append(b, c.b[c.read:c.read+k]...)
		c.read += k
		n -= k
		if c.read == len(c.b) {
			q.first = c.next
			if q.first == nil {
				q.last = nil
			}
			m.put(c)
		}
	}
	return b
}

// all gives what waits, in pieces that are valid until the queue changes.
func (q *queue) all() iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for c := q.first; c != nil && yield(c.b[c.read:]); c = c.next {
		}
	}
}

// cut drops what waits but for the first n bytes.
func (q *queue) cut(m *Memory, n int) {
	if n <= 0 {
		q.clear(m)
		return
	}
	q.n = min(q.n, n)
	for c := q.first; c != nil; c = c.next {
		if have := len(c.b) - c.read; n > have {
			n -= have
			continue
		}
		c.b = c.b[:c.read+n]
		rest := queue{first: c.next}
		rest.clear(m)
		c.next, q.last = nil, c
	}
}

// clear drops what waits and returns its length.
func (q *queue) clear(m *Memory) int {
	n := q.n
	for c := q.first; c != nil; {
		next := c.next
		m.put(c)
		c = next
	}
	*q = queue{}
	return n
}
