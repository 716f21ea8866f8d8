package gateway

import (
	"sync"

	"github.com/framegate/framegate/handler"
	"github.com/framegate/framegate/pool"
	"github.com/framegate/framegate/pool/policy"
	"github.com/framegate/framegate/resolver/cluster"
)

// upstream has the connections to endpoints: those of each policy that backends of routes have.
type upstream struct {
	pool   *pool.Pool
	base   policy.Policy // of what a backend leaves out
	groups sync.Map      // *policy.Policy -> *pool.Group; equal policies have one address
}

// openerOf returns what opens streams to endpoints of backends with that policy.
func (u *upstream) openerOf(p *policy.Policy) handler.Opener { return u.groupOf(p) }

// groupOf returns the connections of backends with that policy; nil is that of the gateway.
func (u *upstream) groupOf(p *policy.Policy) *pool.Group {
	if p == nil {
		return u.pool.Default()
	}
	if g, ok := u.groups.Load(p); ok {
		return g.(*pool.Group)
	}
	g := u.pool.Group(p.WithDefaultsFrom(u.base))
	u.groups.Store(p, g)
	return g
}

// forget closes the connections of a policy that no route has any more, if no other has the same.
func (u *upstream) forget(p *policy.Policy) {
	gone, ok := u.groups.LoadAndDelete(p)
	shared := !ok || gone == u.pool.Default()
	u.groups.Range(func(_, g any) bool {
		shared = shared || g == gone
		return !shared
	})
	if !shared {
		gone.(*pool.Group).LeaveAll()
	}
}

// departures says what becomes of endpoints that leave: idle connections are closed at once, calls after the grace.
func (g *Gateway) departures(u *upstream) cluster.EndpointHooks {
	return cluster.EndpointHooks{Left: g.pool.Leave, Grace: g.conf().Drain.EndpointTimeout, Over: g.proxy.EndCallsAt, Unused: u.forget}
}

// reach hears which endpoints can be connected to.
func (g *Gateway) reach(address string, failure *pool.DialError) {
	if failure == nil {
		g.resolver.SetReachable(address, nil)
		return
	}
	g.resolver.SetReachable(address, failure.Err)
}
