package relay

import (
	"cmp"
	"slices"

	"golang.org/x/net/http2"

	"github.com/framegate/framegate/handler/local"
	"github.com/framegate/framegate/relay/h2"
)

// relieve ends calls whose DATA does not move, while the memory for DATA that waits is short: otherwise a few peers that do not read
// would make all others wait for credit. It is called at every tick. The longer memory is short, the less a call must hold to be
// ended, so that those that hold most go first, on whichever shard they are.
func (s *shard) relieve(budget *h2.Budget) {
	if !budget.IsShort() {
		s.short = 0
		return
	}
	s.short++
	least := 0
	if n := s.short - h2.StuckAsks - 1; n < len(reliefSteps) {
		least = reliefSteps[max(n, 0)]
	}
	var stuck []*call
	for c := s.active; c != nil; c = c.next {
		if c.kept.data.Len() > 0 {
			c.kept.drop(s.memory) // the call is not tried again
		}
		if isStuck(c) && waits(c) >= least {
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
		if e.memory.IsStuck() && e.memory.Queued() >= least && !budget.IsPlenty() {
			e.memory.Reset(http2.ErrCodeCancel)
			e.endLocked(local.ErrUnread.Status(), local.ErrUnread)
		}
	}
}

// reliefSteps are how many bytes a call must hold to be ended, in the ticks after the first calls are known to be stuck.
var reliefSteps = [...]int{64 << 10, 16 << 10}

// isStuck reports whether DATA of a call waits, and has not moved for some ticks.
func isStuck(c *call) bool {
	client, upstream := c.client.IsStuck(), c.upstream.IsStuck() // both are to be asked
	return client || upstream || c.waiting != nil && c.waiting.data.IsStuck() || c.down != nil && c.down.received.IsStuck()
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
		c.down.unread = true
		c.shard.wg.Go(func() { abort(local.ErrUnread) }) // which locks the shard
	}
}
