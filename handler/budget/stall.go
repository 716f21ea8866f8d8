package budget

import "time"

// stallConfig says when a call is stalled: its peers have sent and received less than bytes within time. While other calls
// wait, stalled calls that hold something are ended, because clients that read nothing could hold all of the budget
// otherwise.
type stallConfig struct {
	time, interval time.Duration // interval is the time between two checks
	bytes          int64
}

var defaultStall = stallConfig{time: 10 * time.Second, interval: time.Second, bytes: 256 << 10}

// sight is the state of a call when it was last seen to go on.
type sight struct {
	at    time.Time // zero if the call was not checked yet, or did not depend on its peers at the last check
	moved int64     // Call.moved at that time
}

// linkLocked adds c to the holders.
func (b *Budget) linkLocked(c *Call) {
	c.prev, c.next, c.seen = nil, b.holders, sight{}
	if b.holders != nil {
		b.holders.prev = c
	}
	b.holders = c
}

// unlinkLocked removes c from the holders.
func (b *Budget) unlinkLocked(c *Call) {
	if c.prev != nil {
		c.prev.next = c.next
	} else {
		b.holders = c.next
	}
	if c.next != nil {
		c.next.prev = c.prev
	}
	c.prev, c.next = nil, nil
}

// scheduleCheckLocked sets the timer for checkStalls, if a call waits and the timer is not set.
func (b *Budget) scheduleCheckLocked() {
	if !b.checkDue && len(b.queue) > 0 {
		b.checkDue = true
		time.AfterFunc(b.stall.interval, b.checkStalls)
	}
}

// checkStalls evicts the calls that are stalled, and sets the timer for the next check if a call still waits.
func (b *Budget) checkStalls() {
	for _, c := range b.stalled(time.Now()) {
		c.owner.Evict()
	}
	b.mu.Lock()
	b.checkDue = false
	b.scheduleCheckLocked()
	b.mu.Unlock()
}

// stalled returns the calls to evict, and marks them as evicted. It returns none if no call waits.
func (b *Budget) stalled(now time.Time) (all []*Call) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.queue) == 0 {
		return nil
	}
	for c := b.holders; c != nil; c = c.next {
		moved := c.moved.Load()
		switch {
		case c.waiting > 0 || c.busy.Load() > 0 || c.evicted:
			c.seen = sight{}
		case c.seen.at.IsZero() || moved-c.seen.moved >= b.stall.bytes:
			c.seen = sight{at: now, moved: moved}
		case now.Sub(c.seen.at) >= b.stall.time:
			c.evicted = true
			b.refused.Add(1)
			all = append(all, c)
		}
	}
	return all
}
