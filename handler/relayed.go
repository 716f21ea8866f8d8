package handler

import (
	"net"
	"time"

	"github.com/framegate/framegate/handler/local"
	"github.com/framegate/framegate/handler/stream"
	"github.com/framegate/framegate/pool/transport"
	"github.com/framegate/framegate/resolver/cluster"
	"github.com/framegate/framegate/resolver/spec"
)

// Relayed is what package relay asks of a Proxy about the calls of one listener.
type Relayed struct {
	proxy    *Proxy
	entrance *entrance
}

// Relayed returns the Relayed of a listener.
func (p *Proxy) Relayed(listener string) *Relayed { return &Relayed{p, p.entrance(listener)} }

// Begun is what a data plane has done for a call before it gives it to the Proxy. The call counts in the listener's entrance.
type Begun struct {
	Target                     cluster.Target
	Attempt                    cluster.Attempt
	Resolved, Admitted, Picked bool           // Target is set, the call was admitted, Attempt is set
	Failed                     *FailedAttempt // how Attempt ended; nil if it was not made
	Observation                *Observation   // nil for none
	Record                     *Record        // with Observation
}

// Abortable is a Downstream that may end its call from another goroutine.
type Abortable interface {
	// SetAbort gives it what ends the call with a local error, unless it has ended. It may be called until the call has been
	// served, and not with a lock held that a method of Downstream takes.
	SetAbort(abort func(*local.Error))
}

// FailedAttempt is an attempt that the endpoint certainly did not process (RFC 9113 §8.7).
type FailedAttempt struct {
	Err     error          // of pool.Group.Wait: there was no stream; nil if there was
	Refused bool           // the endpoint refused the stream; otherwise its GOAWAY left it out
	Conn    transport.Conn // where it was made; nil with Err
}

// Serve takes a call that was begun to its end.
func (r *Relayed) Serve(down stream.Downstream, b *Begun) { serve(r.proxy, r.entrance, down, b) }

// Enter counts a call, or reports false if the listener has as many as it may. For each true the caller calls Leave once. conn is
// stream.Downstream.Conn of the call; crowded says that its connection has more calls than it may have streams, because some
// that have left it are still worked on.
func (r *Relayed) Enter(conn any, crowded bool) bool {
	if crowded && r.proxy.structMode.Linger(conn) {
		r.entrance.refused.Add(1)
		return false
	}
	return r.entrance.enter()
}

// Room returns how many calls more the listener takes; math.MaxInt if it has no bound.
func (r *Relayed) Room() int { return r.entrance.calls.Room() }

// Refused counts a call that was refused because its connection has max_concurrent_streams.
func (r *Relayed) Refused() { r.entrance.refused.Add(1) }

// Leave takes a call out of the count.
func (r *Relayed) Leave() { r.entrance.leave() }

// Resolve is Router.Resolve.
func (r *Relayed) Resolve(t *cluster.Target, req spec.Request) bool {
	return r.proxy.router.Resolve(t, req)
}

// Plain reports whether a call needs nothing but to be relayed.
func (r *Relayed) Plain(t *cluster.Target, method string) bool {
	return t.Mode == spec.ModeFrame && t.Retry == nil && t.Hedge == nil && !t.Spreads() && r.proxy.taps.Match(method) == nil
}

// AddsVia reports whether forwarded calls get an entry in their via header.
func (r *Relayed) AddsVia() bool { return r.proxy.maxHops > 0 }

// CheckHops returns the local error of a call that has passed too many framegates, by the values of its via header, or nil.
func (r *Relayed) CheckHops(via []string) *local.Error { return r.proxy.checkHops(via) }

// MaxMessageBytes returns the bound of a message.
func (r *Relayed) MaxMessageBytes() int64 { return r.proxy.maxMessageBytes.Load() }

// Observe makes an Observation, which must be zero, tell the observers, and reports whether there are any.
func (r *Relayed) Observe(o *Observation) bool {
	o.hearing = *r.proxy.observers.Load()
	return len(o.hearing) > 0
}

// Facts are what a Record says of a relayed call from its start.
type Facts struct {
	Start             time.Time
	Listener          string
	Method, Authority string
	Fields            spec.Fields // must stay as they are while the Record is in use
	Client            net.Addr
	Target            *cluster.Target
}

// Describe makes r that of a call of which no more is known than at its start.
func (r *Record) Describe(f *Facts) {
	*r = Record{Start: f.Start, Listener: f.Listener, Method: f.Method, client: f.Client, fields: f.Fields, authority: f.Authority}
	r.resolved(f.Target)
}
