package limit

import (
	"math"
	"sync/atomic"
)

// Concurrency counts the calls under way, and bounds them. The zero value has no bound. It must not be copied.
type Concurrency struct {
	active atomic.Int64
	bound  atomic.Int64 // 0 for none
}

// SetMax sets how many calls may be under way at once; 0 or less means any number. It may be called at any time. If more
// than n calls are under way, they go on.
func (c *Concurrency) SetMax(n int) { c.bound.Store(int64(max(0, n))) }

// Bounded reports whether there is a bound.
func (c *Concurrency) Bounded() bool { return c.bound.Load() > 0 }

// Acquire counts one more call and reports true, if the bound allows it. Each true needs one Release.
func (c *Concurrency) Acquire() bool {
	for {
		bound := c.bound.Load()
		if bound == 0 {
			c.active.Add(1)
			return true
		}
		// Adding first, and subtracting if that is too many, would be cheaper. But a call that is refused could then make another
		// one be refused for which there is room.
		n := c.active.Load()
		if n >= bound {
			return false
		}
		if c.active.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// Room returns how many calls more the bound allows; math.MaxInt without one.
func (c *Concurrency) Room() int {
	bound := c.bound.Load()
	if bound == 0 {
		return math.MaxInt
	}
	return int(max(0, bound-c.active.Load()))
}

// Release ends a call that Acquire has counted.
func (c *Concurrency) Release() { c.active.Add(-1) }

// Active returns how many calls are under way.
func (c *Concurrency) Active() int { return int(c.active.Load()) }
