package load

import (
	"context"
	"net"
	"sync"
	"time"
)

// dialer opens a side's connections and keeps them, so that hangUp can end stuck calls by closing the connections under them. There is
// no better way: a client that Kitex generates has no Close, and a unary call costs an extra goroutine if its context can be cancelled.
//
// It opens connections of package net, not of netpoll, which Kitex dials by default. Kitex starts to read from a netpoll connection when
// its first bytes arrive, so that calls on a connection whose peer sends nothing do not notice that it was closed. And netpoll's error
// for a refused connection is "closed by peer".
type dialer struct {
	mu    sync.Mutex
	conns []net.Conn         // guarded by mu: opened since the last hangUp
	dials int64              // guarded by mu: connections opened, ever
	life  context.Context    // guarded by mu: the context of dials; ended by hangUp
	end   context.CancelFunc // guarded by mu: ends life
}

func newDialer() *dialer {
	d := &dialer{}
	d.life, d.end = context.WithCancel(context.Background()) // until hangUp
	return d
}

// DialTimeout implements remote.Dialer.
func (d *dialer) DialTimeout(network, address string, timeout time.Duration) (net.Conn, error) {
	d.mu.Lock()
	life := d.life
	d.mu.Unlock()
	conn, err := (&net.Dialer{Timeout: timeout}).DialContext(life, network, address)
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if life.Err() != nil {
		_ = conn.Close()
		return nil, net.ErrClosed
	}
	d.dials++
	d.conns = append(d.conns, conn)
	return conn, nil
}

// hangUp closes every connection, which ends every call on them, and refuses new ones until resume.
func (d *dialer) hangUp() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.end()
	for _, c := range d.conns {
		_ = c.Close()
	}
	d.conns = nil
}

// resume lets the dialer open connections again.
func (d *dialer) resume() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.life.Err() != nil {
		d.life, d.end = context.WithCancel(context.Background())
	}
}

// hungUp reports whether hangUp was called since the last resume.
func (d *dialer) hungUp() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.life.Err() != nil
}

// dialed returns how many connections were opened so far.
func (d *dialer) dialed() int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.dials
}
