package admin

import (
	"context"
	"net"
	"net/http"
	"sync"
	"time"
)

// DefaultMaxConnections is the bound of Config.MaxConnections that is 0.
const DefaultMaxConnections = 256

// conns is the listener of the server, which takes a bounded number of connections. For one more, the connection that
// has waited longest without a request that was let in is closed: whoever opens many and says nothing, or has no token,
// keeps nobody else out. If there is none, the new one is closed.
type conns struct {
	net.Listener
	most int

	mu   sync.Mutex // guards open
	open map[*conn]struct{}
}

// conn is one connection.
type conn struct {
	net.Conn
	conns *conns

	since time.Time // when it began to wait; guarded by conns.mu
	busy  bool      // with a request that was let in; guarded by conns.mu
}

func newConns(ln net.Listener, most int) *conns {
	if most <= 0 {
		most = DefaultMaxConnections
	}
	return &conns{Listener: ln, most: most, open: map[*conn]struct{}{}}
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

// reset closes a connection without anything left behind.
func reset(nc net.Conn) {
	if tcp, ok := nc.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = nc.Close()
}

// add returns the connection as one of the open ones, or nil if there is no room.
func (l *conns) add(nc net.Conn) *conn {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.open) >= l.most {
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

// letIn marks the connection as one that is not closed for another: its request may be answered.
func (c *conn) letIn() {
	c.conns.mu.Lock()
	c.busy = true
	c.conns.mu.Unlock()
}

// changed is the http.Server's ConnState.
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

// letIn marks the connection of a request that is let in.
func letIn(r *http.Request) {
	if c, ok := r.Context().Value(connKey{}).(*conn); ok {
		c.letIn()
	}
}
