package transserver

import (
	"time"

	"github.com/framegate/framegate/handler/acceptor"
)

// stuck says for how long the current write of a connection has been under way.
type stuck struct {
	write uint32 // number of the write: conn.writes while it is under way, which is odd
	ticks int    // consecutive ticks at which it was under way
}

// stuckTicks is how many ticks there are in Config.WriteTimeout.
const stuckTicks = 4

// watch runs cutStuck for a server, once.
func (p *Plane) watch(s *acceptor.Server) {
	p.once.Do(func() { s.Go(func(over <-chan struct{}) { p.cutStuck(s, over) }) })
}

// cutStuck closes the connections of clients that do not read what they are sent, until the server is over: those with one
// write under way for longer than WriteTimeout. Kitex's keepalive does not close them, because its own writes wait behind
// the stuck one, and it takes a client that sends without reading for alive.
func (p *Plane) cutStuck(s *acceptor.Server, over <-chan struct{}) {
	tick := time.NewTicker(p.cfg.WriteTimeout / stuckTicks)
	defer tick.Stop()
	for {
		select {
		case <-over:
			return
		case <-tick.C:
		}
		s.Each(func(c acceptor.Conn) {
			// A data plane before this one has connections of its own.
			if c, ok := c.(*conn); ok && c.stuckFor() > stuckTicks {
				s.SentAway(c.RemoteAddr(), NotReading.Name)
				c.Cut()
			}
		})
	}
}

// stuckFor returns at how many consecutive ticks, this one included, the current write has been under way; 0 if there is
// none. It is called once a tick.
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
