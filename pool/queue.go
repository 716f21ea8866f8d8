package pool

// queue is a list of calls that wait for a slot, in the order in which they came. All operations but putBack take constant
// time. It is guarded by the endpoint's mu.
type queue struct {
	first, last *Waiting
	arrivals    uint64 // how many calls have come
}

// add puts a call that has come at the end of the queue.
func (q *queue) add(w *Waiting) {
	q.arrivals++
	w.place = q.arrivals
	q.insert(w, nil)
}

// insert puts w before next, or at the end if next is nil.
func (q *queue) insert(w, next *Waiting) {
	prev := q.last
	if next != nil {
		prev = next.prev
	}
	w.prev, w.next = prev, next
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
func (q *queue) putBack(w *Waiting) {
	next := q.first
	for next != nil && next.place < w.place {
		next = next.next
	}
	q.insert(w, next)
}

func (q *queue) remove(w *Waiting) {
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
	w.prev, w.next = nil, nil
}
