package limit

import "sync/atomic"

// Concurrency counts what is under way, and bounds it. The zero value has no bound. It must not be copied.
type Concurrency struct {
	active atomic.Int64
	bound  atomic.Int64 // 0 for none
}

// SetMax sets how many may be under way at once; 0 or less means any number. It may be called at any time. What is
// under way goes on, also when it is more than n.
func (c *Concurrency) SetMax(n int) { c.bound.Store(int64(max(0, n))) }

// Bounded reports whether there is a bound.
func (c *Concurrency) Bounded() bool { return c.bound.Load() > 0 }

// Acquire counts one more, and reports true, if the bound leaves room for it. Each true needs one Release.
func (c *Concurrency) Acquire() bool {
	for {
		bound := c.bound.Load()
		if bound == 0 {
			c.active.Add(1)
			return true
		}
		// Adding first and taking it back would be cheaper, and would refuse others for the sake of one that is refused.
		n := c.active.Load()
		if n >= bound {
			return false
		}
		if c.active.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// Release counts one less.
func (c *Concurrency) Release() { c.active.Add(-1) }

// Active returns how many are under way.
func (c *Concurrency) Active() int { return int(c.active.Load()) }
