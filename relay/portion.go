package relay

import "time"

// maxPortion is how much is read from a socket at once.
const maxPortion = inputLen - inputStart

// A client of which a call was refused lately, because there were too many, is read in smaller portions while it goes on to make calls:
// of minCall bytes for each call that there is room for, but minPortion at least.
const (
	minCall    = 64
	minPortion = 4 << 10
	lately     = time.Second
)

// portion implements owner. What is read of a client at once are up to thousands of calls. If they are too many, the answers that have
// come are taken first, which makes room, and the rest stays in the socket: else calls would be refused for which there is room as soon
// as anybody looks, and the more time refusals take, the fewer calls are answered.
func (c *clientConn) portion(last int) int {
	if last > 0 && c.fresh == 0 || c.shard.now-c.excess > int64(lately) {
		c.excess = 0
	}
	c.fresh = 0
	if c.excess == 0 {
		return maxPortion
	}
	calls := c.plane.cfg.Calls
	if calls.Room() < maxPortion/minCall {
		c.shard.endpoints.take()
	}
	return max(min(calls.Room(), maxPortion/minCall)*minCall, minPortion)
}
