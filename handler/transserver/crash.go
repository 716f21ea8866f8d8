package transserver

import (
	"cmp"

	"github.com/cloudwego/kitex/pkg/gofunc"

	"github.com/framegate/framegate/pool/h2conn"
)

// watchCrashes makes a panic in a goroutine of the connection's transport end the connection: Kitex recovers from it and
// leaves the connection as it is, and without a writer nothing is ever sent on it. Clients of a Unix socket have no address:
// for Kitex they are one, and lose their connections together.
func (c *conn) watchCrashes() (stop func()) {
	const unknown = "unknown" // Kitex's name for none
	return h2conn.WatchCrashes(gofunc.Info{RemoteService: unknown, RemoteAddr: cmp.Or(c.RemoteAddr().String(), unknown)}, c.crash)
}

// crash ends the connection of a transport that has crashed. The transport waits for its writer before it has ended: in the
// place of one that has ended with a panic, crash says that it is done.
func (c *conn) crash() {
	c.mu.Lock()
	first := !c.crashed
	c.crashed = true
	if first && c.writerDone != nil {
		close(c.writerDone)
	}
	c.mu.Unlock()
	c.cut()
}
