package admin

import (
	"context"
	"net"
	"net/http"
	"sync"
	"time"
)

// DefaultMaxConnections is the bound if Config.MaxConnections is 0.
const DefaultMaxConnections = 256

// conns is the server's listener, with a bound on open connections. When a connection arrives over the bound, conns closes
// the one that has been idle longest, so that clients that open many connections and send nothing, or have no token, keep
// nobody else out. If none is idle, conns closes the new one. A connection is idle unless it is answering a request that has
// passed the guard and is no probe.
type conns struct {
	net.Listener
	maxOpen int

	mu   sync.Mutex // guards open
	open map[*conn]struct{}
}

// conn is one connection.
type conn struct {
	net.Conn
	conns *conns

	since time.Time // when it became idle; guarded by conns.mu
	busy  bool      // not idle, see conns; guarded by conns.mu
}

func newConns(ln net.Listener, maxOpen int) *conns {
	if maxOpen <= 0 {
		maxOpen = DefaultMaxConnections
	}
	return &conns{Listener: ln, maxOpen: maxOpen, open: map[*conn]struct{}{}}
}

// Accept implements net.Listener.
func (l *conns) Accept() (net.Conn, error) {
	for {
		nc, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if c := l.add(nc); c != nil {
			return c, nil
		}
		reset(nc)
	}
}

// reset closes a connection with a TCP RST, which leaves no state for it in the kernel.
func reset(nc net.Conn) {
	if tcp, ok := nc.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = nc.Close()
}

// add returns the connection, now counted as open, or nil if there is no room for it. The caller then closes nc.
func (l *conns) add(nc net.Conn) *conn {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.open) >= l.maxOpen {
		var longest *conn
		for c := range l.open {
			if !c.busy && (longest == nil || c.since.Before(longest.since)) {
				longest = c
			}
		}
		if longest == nil {
			return nil
		}
		reset(longest.Conn)
		delete(l.open, longest)
	}
	c := &conn{Conn: nc, conns: l, since: time.Now()}
	l.open[c] = struct{}{}
	return c
}

// Close implements net.Conn.
func (c *conn) Close() error {
	c.conns.mu.Lock()
	delete(c.conns.open, c)
	c.conns.mu.Unlock()
	return c.Conn.Close()
}

// letIn marks the connection as busy: it is not closed to make room for another.
func (c *conn) letIn() {
	c.conns.mu.Lock()
	c.busy = true
	c.conns.mu.Unlock()
}

// changed is the http.Server's ConnState. It marks a connection as idle after its answer.
func (l *conns) changed(nc net.Conn, state http.ConnState) {
	if c, ok := nc.(*conn); ok && state == http.StateIdle {
		l.mu.Lock()
		c.busy, c.since = false, time.Now()
		l.mu.Unlock()
	}
}

// connKey is the key of the *conn in the context of its requests.
type connKey struct{}

// withConn is the http.Server's ConnContext.
func withConn(ctx context.Context, nc net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, nc)
}

// letIn marks the connection of a request that has passed the guard as busy.
func letIn(r *http.Request) {
	if c, ok := r.Context().Value(connKey{}).(*conn); ok {
		c.letIn()
	}
}
