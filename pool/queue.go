package pool

// waiter is a call that waits for a slot. It is answered once each time it is put in the queue.
type waiter struct {
	answer chan struct{} // gets a value with the answer; capacity 1
	conn   *conn         // the answer: with a slot taken for the call,
	err    error         // or why there is none

	queued     bool // guarded, as are the links, by the endpoint's mu
	prev, next *waiter
}

// queue holds the calls that wait for a slot, in the order in which they came. Every operation takes the same short
// time however many wait. The endpoint's mu guards it.
type queue struct {
	first, last *waiter
}

func (q *queue) pushBack(w *waiter) {
	w.queued, w.prev, w.next = true, q.last, nil
	if q.last != nil {
		q.last.next = w
	} else {
		q.first = w
	}
	q.last = w
}

// pushFront is for a call that had its turn and lost what it got.
func (q *queue) pushFront(w *waiter) {
	w.queued, w.prev, w.next = true, nil, q.first
	if q.first != nil {
		q.first.prev = w
	} else {
		q.last = w
	}
	q.first = w
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
