package pool

import (
	"sync"
	"time"

	"github.com/framegate/framegate/pool/policy"
)

// Group has the connections to endpoints that are made and kept by one policy. An address that is used in two Groups has
// separate connections in each. A Group is safe for concurrent use.
type Group struct {
	pool *Pool
	cfg  Config

	endpoints sync.Map // address -> *endpoint

	known    int  // number of endpoints; guarded by the pool's mu
	sweeping bool // sweepIdle runs; guarded by the pool's mu
}

// Try starts a dial to an endpoint without connections, as a call would. It does not wait for the dial.
func (g *Group) Try(addr string) {
	e, err := g.endpoint(addr)
	if err != nil {
		return
	}
	e.mu.Lock()
	defer e.unlock()
	if len(*e.usable.Load()) > 0 || e.useLocked() != nil {
		return
	}
	e.dial.spare = true
	e.dialLocked()
}

// Patience returns how long a call without a deadline waits for a stream when all connections are full:
// Config.ConnectTimeout, or 0 with policy.WhenFullFail.
func (g *Group) Patience() time.Duration {
	if g.cfg.WhenFull == policy.WhenFullFail {
		return 0
	}
	return g.cfg.ConnectTimeout
}

// endpoint returns the endpoint of an address, which it adds if there is none.
func (g *Group) endpoint(addr string) (*endpoint, error) {
	if e, ok := g.endpoints.Load(addr); ok {
		return e.(*endpoint), nil
	}
	p := g.pool
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, ErrClosed
	}
	e, known := g.endpoints.LoadOrStore(addr, newEndpoint(g, addr))
	if !known {
		g.known++
		if g.cfg.IdleTimeout > 0 && !g.sweeping {
			g.sweeping = true
			p.wg.Go(g.sweepIdle)
		}
	}
	return e.(*endpoint), nil
}

// forget removes an endpoint that is gone from the group. It may be called more than once.
func (g *Group) forget(e *endpoint) {
	g.pool.mu.Lock()
	defer g.pool.mu.Unlock()
	if g.endpoints.CompareAndDelete(e.addr, e) {
		g.known--
	}
}

// all returns an iterator over the endpoints.
func (g *Group) all() func(yield func(*endpoint) bool) {
	return func(yield func(*endpoint) bool) {
		g.endpoints.Range(func(_, e any) bool { return yield(e.(*endpoint)) })
	}
}

// Leave says that no further calls to an endpoint are expected. Its connections are closed: at once or, if they have
// streams, with the last of them. Calls that wait, and later calls of Open, are served on new connections.
func (g *Group) Leave(addr string) {
	if e, ok := g.endpoints.Load(addr); ok {
		e.(*endpoint).leave()
	}
}

// LeaveAll calls Leave for every endpoint.
func (g *Group) LeaveAll() {
	for e := range g.all() {
		e.leave()
	}
}

// sweepIdle is a goroutine that closes connections without a stream for IdleTimeout, and removes endpoints that have no
// connections left. It ends when the group has no endpoints.
func (g *Group) sweepIdle() {
	tick := time.NewTicker(max(g.cfg.IdleTimeout/4, 10*time.Millisecond))
	defer tick.Stop()
	for {
		select {
		case <-g.pool.ctx.Done():
			return
		case now := <-tick.C:
			for e := range g.all() {
				e.sweep(now.Add(-g.cfg.IdleTimeout))
			}
		}
		g.pool.mu.Lock()
		g.sweeping = g.known > 0
		goOn := g.sweeping
		g.pool.mu.Unlock()
		if !goOn {
			return
		}
	}
}
