package pool

// waiter is a call that waits for a slot. It gets one answer each time it is put into the queue, unless it is removed before.
type waiter struct {
	answer chan struct{} // gets a value when conn or err is set; capacity 1
	conn   *conn         // the connection on which a slot was taken for the call; nil if err is set
	err    error         // why the call gets no slot

	// Guarded by the endpoint's mu:
	place      uint64 // when the call first came: queue.arrivals at that time
	queued     bool
	prev, next *waiter
}

// queue is the list of the calls that wait for a slot, in the order in which they came. All operations but putBack take
// constant time. It is guarded by the endpoint's mu.
type queue struct {
	first, last *waiter
	arrivals    uint64 // how many calls have come
}

// add puts a call that has come at the end of the queue.
func (q *queue) add(w *waiter) {
	q.arrivals++
	w.place = q.arrivals
	q.insert(w, nil)
}

// insert puts w before next, or at the end if next is nil.
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

// putBack puts a call back that was answered with a slot and lost it. The call goes to the front of the queue, behind those
// calls there that came earlier, which were put back too.
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
