package pool

import (
	"context"
	"sync"
	"time"

	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/grpc"

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

// OpenOptions are the options of Group.Open.
type OpenOptions struct {
	// Avoid is the stream of an earlier attempt of this call that the endpoint certainly did not process
	// (Stream.Unprocessed); nil for none. Open uses another connection than that of Avoid, if there is one or one can be
	// made. The caller still closes Avoid.
	Avoid *Stream

	// Wait, if not nil, is called at most once, just before the call has to wait for a stream or a connection. It is for
	// callers that bound the number of calls that wait, which the pool does not. If it returns false, Open fails at once with
	// a *FullError; a dial that was started goes on, for later calls. If it returns true, Open calls end once, when it no
	// longer waits. Both are called without a lock held.
	Wait func() (end func(), ok bool)
}

// Open opens a stream to the endpoint at addr (host:port or unix:/path), which the caller closes exactly once. It makes a
// connection if there is none. If all connections are full, it does what Config.WhenFull says.
//
// ctx is the call's context: the stream ends with it, and its deadline and outgoing metadata (Kitex's
// metadata.NewOutgoingContext) are sent. Open blocks until the stream is open or ctx ends, and for at most ConnectTimeout if
// ctx has no deadline.
//
// The error is a *DialError, a *FullError, a *HeaderError, ErrClosed or that of ctx, which is wrapped in a *DialError if the
// endpoint has no connection. In all cases the endpoint has certainly seen nothing of the call. While an endpoint without
// connections backs off after a failed dial (Config.Backoff), Open fails at once with the *DialError of that dial.
func (g *Group) Open(ctx context.Context, addr string, hdr *grpc.CallHdr, opts OpenOptions) (*Stream, error) {
	var o *opening // made when the call must wait
	for {
		e, err := g.endpoint(addr)
		if err != nil {
			return nil, err
		}
		if o == nil {
			s, err := e.openAtOnce(ctx, hdr, opts.Avoid)
			if s != nil || err != nil {
				return s, err
			}
			o = newOpening(ctx, opts, g.cfg.ConnectTimeout)
			defer o.end()
		}
		s, err := e.open(ctx, hdr, o)
		if err != errEndpointGone {
			return s, err
		}
	}
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
