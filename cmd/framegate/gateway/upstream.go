package gateway

import (
	"log/slog"
	"sync"

	"github.com/framegate/framegate/admin"
	"github.com/framegate/framegate/handler/stream"
	"github.com/framegate/framegate/pool"
	"github.com/framegate/framegate/pool/kitexconn"
	"github.com/framegate/framegate/pool/policy"
	"github.com/framegate/framegate/resolver"
)

// upstream has the pool of connections to endpoints, and maps the connection policies of backends to the pool's groups.
type upstream struct {
	pool   *pool.Pool
	base   policy.Policy // for the keys that a backend's policy leaves out
	groups sync.Map      // *policy.Policy -> *pool.Group; equal policies have one address
}

// newUpstream returns an upstream with a pool of its own, which the caller closes. The pool tells r whether an endpoint can be
// connected to, when that changes.
func newUpstream(base policy.Policy, r *resolver.Resolver, log *slog.Logger) *upstream {
	u := &upstream{pool: pool.New(base, kitexconn.Dialer{}, log), base: base}
	u.pool.SetReach(func(address string, failure *pool.DialError) {
		if failure == nil {
			r.SetReachable(address, nil)
			return
		}
		r.SetReachable(address, failure.Err)
	})
	return u
}

// openerOf is groupOf for handler.Config.PoolOf.
func (u *upstream) openerOf(p *policy.Policy) stream.Opener { return stream.From(u.groupOf(p)) }

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

// connections returns the open connections by endpoint, for the metrics.
func (u *upstream) connections() map[string]int {
	open := map[string]int{}
	for _, e := range u.pool.Endpoints() {
		open[e.Address] = e.Connections
	}
	return open
}

// endpoints returns the connections and streams of each endpoint, for the admin server.
func (u *upstream) endpoints() []admin.EndpointStatus {
	open := u.pool.Endpoints()
	all := make([]admin.EndpointStatus, len(open))
	for i, e := range open {
		all[i] = admin.EndpointStatus{Address: e.Address, Connections: e.Connections, Streams: e.Streams}
		if e.Failure != nil {
			all[i].ConnectError = e.Failure.Err.Error()
		}
	}
	return all
}
