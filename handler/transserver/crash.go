package transserver

import (
	"cmp"

	"github.com/cloudwego/kitex/pkg/gofunc"

	"github.com/framegate/framegate/pool/h2conn"
)

// cutOnCrash makes a panic in a goroutine of the connection's transport end the connection, until unsubscribe is called.
// Kitex recovers from such a panic and keeps the connection, on which nothing is ever sent if the goroutine was the writer.
// Kitex tells connections apart by the client's address. Clients of a Unix socket have none, so a panic ends the connections
// of all of them.
func (c *conn) cutOnCrash() (unsubscribe func()) {
	const unknown = "unknown" // Kitex's text for no address and no service
	return h2conn.SubscribeCrashes(gofunc.Info{RemoteService: unknown, RemoteAddr: cmp.Or(c.RemoteAddr().String(), unknown)}, c.crash)
}

// crash ends a connection after a panic in a goroutine of its transport. It closes writerDone, which the transport waits for
// when it ends, and which a writer that panicked does not close.
func (c *conn) crash() {
	c.mu.Lock()
	first := !c.crashed
	c.crashed = true
	if first && c.writerDone != nil {
		close(c.writerDone)
	}
	c.mu.Unlock()
	c.Cut()
}
