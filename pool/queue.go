package pool

// waiter is a call that waits for a slot. It is answered once each time it is put in the queue.
type waiter struct {
	answer chan struct{} // gets a value with the answer; capacity 1
	conn   *conn         // the answer: with a slot taken for the call,
	err    error         // or why there is none

	// Guarded by the endpoint's mu:
	place      uint64 // in the order of arrival; 0 before it was in a queue
	queued     bool
	prev, next *waiter
}

// queue holds the calls that wait for a slot, in the order in which they came. Every operation takes the same short
// time however many wait, but putBack, which passes those that it stays behind. The endpoint's mu guards it.
type queue struct {
	first, last *waiter
	arrivals    uint64
}

// add is for a call that has come.
func (q *queue) add(w *waiter) {
	q.arrivals++
	w.place = q.arrivals
	q.insert(w, nil)
}

// insert puts w before next, or last if that is nil.
func (q *queue) insert(w, next *waiter) {
	prev := q.last
	if next != nil {
		prev = next.prev
	}
	w.queued, w.prev, w.next = true, prev, next
	if prev != nil {
		prev.next = w
	} else {
		q.first = w
	}
	if next != nil {
		next.prev = w
	} else {
		q.last = w
	}
}

// putBack is for a call that had its turn and lost what it got: only others of that kind that came before it stay
// before it.
func (q *queue) putBack(w *waiter) {
	next := q.first
	for next != nil && next.place < w.place {
		next = next.next
	}
	q.insert(w, next)
}

func (q *queue) remove(w *waiter) {
	if w.prev != nil {
		w.prev.next = w.next
	} else {
		q.first = w.next
	}
	if w.next != nil {
		w.next.prev = w.prev
	} else {
		q.last = w.prev
	}
	w.queued, w.prev, w.next = false, nil, nil
}
