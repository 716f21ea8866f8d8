package budget

import "time"

// stallConfig says which calls are ended because they hold what others wait for: those whose peers have sent or taken less
// than bytes in time. Without it clients that read nothing could hold all of the budget.
type stallConfig struct {
	time, look time.Duration // look is how often it is looked for
	bytes      int64
}

var defaultStall = stallConfig{time: 10 * time.Second, look: time.Second, bytes: 256 << 10}

// sight is what was last seen of a call that holds something.
type sight struct {
	at    time.Time // since when; zero if it was not looked at, or was not held up by its peers
	moved int64
}

func (b *Budget) linkLocked(c *Call) {
	c.prev, c.next, c.seen = nil, b.holders, sight{}
	if b.holders != nil {
		b.holders.prev = c
	}
	b.holders = c
}

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

// watchLocked has the holders looked at for as long as somebody waits.
func (b *Budget) watchLocked() {
	if !b.watching && len(b.queue) > 0 {
		b.watching = true
		time.AfterFunc(b.stall.look, b.watch)
	}
}

func (b *Budget) watch() {
	for _, c := range b.stalled(time.Now()) {
		c.owner.Evict()
	}
	b.mu.Lock()
	b.watching = false
	b.watchLocked()
	b.mu.Unlock()
}

// stalled returns the calls to be ended.
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
