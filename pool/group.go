package pool

import (
	"context"
	"sync"
	"time"

	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/grpc"

	"github.com/framegate/framegate/pool/policy"
)

// Group holds connections to endpoints that are made and kept by one policy. An address that is used in two Groups has
// connections of its own in each. It is safe for concurrent use.
type Group struct {
	pool *Pool
	cfg  Config

	endpoints sync.Map // address -> *endpoint

	known    int  // endpoints; guarded by the pool's mu
	sweeping bool // a sweeper runs; guarded by the pool's mu
}

// OpenOptions say more about a call. The zero value asks for nothing.
type OpenOptions struct {
	// Avoid is the stream of an earlier try of this call that the endpoint certainly did not process
	// (Stream.Unprocessed): the new one is on another connection unless there is none and can be none. The caller
	// still closes Avoid.
	Avoid *Stream

	// Wait, if not nil, is called at most once, just before the call has to wait for a slot or for a connection. With
	// ok false, Open fails at once with a *FullError; a connection that is wanted is made all the same, for later
	// calls. Otherwise end is called once, when the waiting is over. No lock is held during either. It is how a caller
	// bounds the calls that wait: the pool does not.
	Wait func() (end func(), ok bool)
}

// Open opens a stream to the endpoint at addr (host:port or unix:/path) on a connection with room. It makes a
// connection if there is none, and does what Config.WhenFull says if there is no room.
//
// ctx is the call's: it bounds the stream's life, and its deadline and outgoing metadata (Kitex
// metadata.NewOutgoingContext) are sent. Open returns when ctx ends, or within ConnectTimeout if ctx has no deadline.
//
// Errors: a *DialError, a *FullError, a *HeaderError, ErrClosed, or ctx's own, in a *DialError if it waited for a
// connection. For each of them the endpoint has certainly not seen the call. While an endpoint without connections rests
// after a failed dial (Config.Backoff), Open fails at once with the *DialError of that dial. The caller closes the Stream
// exactly once.
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

// Try has a connection to an endpoint made for later calls, as a call would, if there is none. It does not wait.
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

// Patience is how long a call without a deadline waits for a stream (Config.ConnectTimeout); 0 if a call does not wait for
// one (policy.WhenFullFail).
func (g *Group) Patience() time.Duration {
	if g.cfg.WhenFull == policy.WhenFullFail {
		return 0
	}
	return g.cfg.ConnectTimeout
}

// endpoint returns the endpoint of an address and makes it if need be.
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

// forget removes an endpoint that is gone. It may be called more than once.
func (g *Group) forget(e *endpoint) {
	g.pool.mu.Lock()
	defer g.pool.mu.Unlock()
	if g.endpoints.CompareAndDelete(e.addr, e) {
		g.known--
	}
}

// all visits every endpoint.
func (g *Group) all() func(yield func(*endpoint) bool) {
	return func(yield func(*endpoint) bool) {
		g.endpoints.Range(func(_, e any) bool { return yield(e.(*endpoint)) })
	}
}

// Leave says that no further calls to an endpoint are expected: connections without streams close now, the others with
// their last stream. Calls that wait are still served, and so is a later Open, on new connections.
func (g *Group) Leave(addr string) {
	if e, ok := g.endpoints.Load(addr); ok {
		e.(*endpoint).leave()
	}
}

// LeaveAll is Leave for every endpoint.
func (g *Group) LeaveAll() {
	for e := range g.all() {
		e.leave()
	}
}

// sweepIdle closes connections that have had no stream for IdleTimeout and forgets endpoints that have none left. It
// ends when there is no endpoint.
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
