package gateway

import (
	"sync"

	"github.com/framegate/framegate/handler"
	"github.com/framegate/framegate/pool"
	"github.com/framegate/framegate/pool/policy"
	"github.com/framegate/framegate/resolver/cluster"
)

// upstream maps the connection policies of backends to the pool's groups of connections.
type upstream struct {
	pool   *pool.Pool
	base   policy.Policy // for the keys that a backend's policy leaves out
	groups sync.Map      // *policy.Policy -> *pool.Group; equal policies have one address
}

// openerOf is groupOf for handler.Config.PoolOf.
func (u *upstream) openerOf(p *policy.Policy) handler.Opener { return u.groupOf(p) }

// groupOf returns the group of connections for backends with a policy; nil means the policy of the configuration.
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

// forget closes the connections of a policy that no route has any more, unless a policy that routes have uses the same group.
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

// departures returns the hooks for endpoints that leave: idle connections are closed at once, calls are ended after the grace
// (drain.endpoint_timeout).
func (g *Gateway) departures(u *upstream) cluster.EndpointHooks {
	return cluster.EndpointHooks{Left: g.pool.Leave, Grace: g.conf().Drain.EndpointTimeout, Over: g.proxy.EndCallsAt, Unused: u.forget}
}

// reach tells the resolver whether an endpoint can be connected to; the pool calls it when that changes.
func (g *Gateway) reach(address string, failure *pool.DialError) {
	if failure == nil {
		g.resolver.SetReachable(address, nil)
		return
	}
	g.resolver.SetReachable(address, failure.Err)
}
