package transserver

import "time"

// stuck is a write of a connection that does not end.
type stuck struct {
	write uint32 // its number, odd
	ticks int    // that it has been seen in
}

// watchTicks is how often a write is looked at in WriteTimeout.
const watchTicks = 4

// watch cuts off clients that do not take what they are sent, until the server is over. Kitex's keepalive does not: its
// own writes wait behind the one that is stuck, and a client that sends without reading counts as alive.
func (s *Server) watch() {
	tick := time.NewTicker(s.cfg.WriteTimeout / watchTicks)
	defer tick.Stop()
	for {
		select {
		case <-s.over:
			return
		case <-tick.C:
		}
		s.each(func(c *conn) {
			if c.stuckFor() > watchTicks {
				s.offended(c, NotReading)
				c.cut()
			}
		})
	}
}

// stuckFor counts the ticks in which the write that is under way has been seen.
func (c *conn) stuckFor() int {
	w := c.writes.Load()
	switch {
	case w%2 == 0:
		c.stuck = stuck{}
	case w == c.stuck.write:
		c.stuck.ticks++
	default:
		c.stuck = stuck{w, 1}
	}
	return c.stuck.ticks
}
