package relay

import (
	"cmp"
	"slices"

	"golang.org/x/net/http2"

	"github.com/framegate/framegate/handler/local"
	"github.com/framegate/framegate/relay/h2"
)

// relieve ends calls whose DATA does not move, those with the most of it first, while the memory for DATA that waits is short:
// otherwise a few peers that do not read would make all others wait for credit. It is called at every tick, and ends only what has
// not moved since the tick before.
func (s *shard) relieve(budget *h2.Budget) {
	if !budget.IsShort() {
		return
	}
	var stuck []*call
	for c := s.active; c != nil; c = c.next {
		if c.kept.data.Len() > 0 {
			c.kept.drop(s.memory) // the call is not tried again
		}
		if isStuck(c) {
			stuck = append(stuck, c)
		}
	}
	slices.SortFunc(stuck, func(a, b *call) int { return cmp.Compare(waits(b), waits(a)) })
	for _, c := range stuck {
		if budget.IsPlenty() {
			return
		}
		drop(c) // ends no other call
	}
	for e := range s.handled { // their calls end with them
		if e.memory.IsStuck() && !budget.IsPlenty() {
			e.memory.Reset(http2.ErrCodeCancel)
			e.endLocked(local.ErrUnread.Status(), local.ErrUnread)
		}
	}
}

// isStuck reports whether DATA of a call waits, and has not moved since isStuck was last asked.
func isStuck(c *call) bool {
	client, upstream := c.client.IsStuck(), c.upstream.IsStuck()
	if c.down != nil {
		return c.down.isStuck() || client
	}
	return client || upstream || c.waiting.isStuck()
}

// waits returns how many bytes of DATA wait.
func waits(c *call) int {
	n := c.client.Queued() + c.upstream.Queued()
	if c.waiting != nil {
		n += c.waiting.data.Len()
	}
	if c.down != nil {
		n += c.down.received.Len()
	}
	return n
}

// drop ends a call because its DATA does not move.
func drop(c *call) {
	if c.down == nil {
		c.expire(local.ErrUnread)
		return
	}
	if abort := c.down.abort; abort != nil {
		c.shard.wg.Go(func() { abort(local.ErrUnread) }) // which locks the shard
	}
}
