package h2

// readyList has the streams of a connection whose DATA waits for nothing but the connection's window and the socket, in the order
// in which they are to be sent: queue.n > 0 and sendWindow > 0. While it is not empty, either the connection's window is used up,
// or there is output, so that WINDOW_UPDATE or Wrote will come.
type readyList struct{ first, last *Stream }

// push adds a stream at the end, unless it is in the list or its own window is used up.
func (l *readyList) push(s *Stream) {
	if s.isReady || s.sendWindow <= 0 {
		return
	}
	s.isReady = true
	s.prev, s.next = l.last, nil
	if l.last != nil {
		l.last.next = s
	} else {
		l.first = s
	}
	l.last = s
}

// remove takes a stream out of the list, if it is in it.
func (l *readyList) remove(s *Stream) {
	if !s.isReady {
		return
	}
	s.isReady = false
	if s.prev != nil {
		s.prev.next = s.next
	} else {
		l.first = s.next
	}
	if s.next != nil {
		s.next.prev = s.prev
	} else {
		l.last = s.prev
	}
	s.prev, s.next = nil, nil
}
