package relay

import "github.com/framegate/framegate/handler/local"

// maxSpare bounds the calls that a shard keeps for use again, and maxSpareFields the fields that each has room for.
const (
	maxSpare       = 1024
	maxSpareFields = 64
)

// newCall returns a call with nothing in it, which is under way.
func (s *shard) newCall(at *clientConn) *call {
	c := s.free
	if c == nil {
		c = &call{shard: s}
		c.client.Owner, c.upstream.Owner = c, c
		c.deadline.fire = c.late
	} else {
		s.free = c.next
		s.spare--
	}
	c.at, c.began = at, s.now
	c.prev, c.next = nil, s.active
	if c.next != nil {
		c.next.prev = c
	}
	s.active = c
	return c
}

// recycle takes a call that is over out of the list of those under way.
func (s *shard) recycle(c *call) {
	if c.next != nil {
		c.next.prev = c.prev
	}
	if c.prev != nil {
		c.prev.next = c.next
	} else {
		s.active = c.next
	}
	if s.spare == maxSpare || cap(c.own) > maxSpareFields {
		c.at = nil
		return
	}
	s.spare++
	clear(c.own)
	c.own, c.callState = c.own[:0], callState{}
	c.prev, c.next, s.free = nil, s.free, c
}

// endCalls ends the relayed calls of which which says so with a local error.
func (s *shard) endCalls(e *local.Error, which func(*call) bool) {
	s.lock()
	defer s.unlock()
	for c := s.active; c != nil; {
		next := c.next
		if c.down == nil && which(c) {
			c.fail(e) // ends no other call
		}
		c = next
	}
}
