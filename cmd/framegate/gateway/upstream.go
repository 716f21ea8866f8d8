package gateway

import (
	"cmp"
	"log/slog"
	"runtime"
	"slices"
	"sync"

	"github.com/framegate/framegate/admin"
	"github.com/framegate/framegate/conf"
	"github.com/framegate/framegate/handler/stream"
	"github.com/framegate/framegate/pool"
	"github.com/framegate/framegate/pool/kitexconn"
	"github.com/framegate/framegate/pool/policy"
	"github.com/framegate/framegate/pool/transport"
	"github.com/framegate/framegate/relay"
	"github.com/framegate/framegate/relay/h2"
	"github.com/framegate/framegate/resolver"
)

// upstream has the pools of connections to endpoints: one for Kitex's data plane, and one for each shard of the relay.
type upstream struct {
	base     policy.Policy // for the keys that a backend's policy leaves out
	log      *slog.Logger
	resolver *resolver.Resolver
	pools    []*groups // appended to by add, before anything starts
}

// newUpstream returns an upstream without a pool. The pools tell r whether an endpoint can be connected to, when that changes.
func newUpstream(base policy.Policy, r *resolver.Resolver, log *slog.Logger) *upstream {
	return &upstream{base: base, log: log, resolver: r}
}

// add adds a pool, whose connections d makes, and which has share of the connections that policies allow. Upstream.close closes
// it.
func (u *upstream) add(d transport.Dialer, share share) *groups {
	g := &groups{base: u.base, share: share}
	part, ok := share.take(u.base)
	if g.pool = pool.New(part, d, u.log); ok {
		g.standard = g.pool.Default()
	}
	g.pool.SetReach(func(address string, failure *pool.DialError) { // the last of all pools to connect, or to fail, is right
		if failure == nil {
			u.resolver.SetReachable(address, nil)
			return
		}
		u.resolver.SetReachable(address, failure.Err)
	})
	u.pools = append(u.pools, g)
	return g
}

// start adds the pools that the listeners need: one for each shard of the relay, of which there is one for each processor that may be
// used, and one of Kitex's connections. It returns the shards, which the caller closes when the pools are closed, and the pools of
// calls on listeners with Kitex's data plane. A data plane that no listener has gets no pool.
func (u *upstream) start(cfg *conf.Config) (shards *relay.Shards, kitex func(*policy.Policy) stream.Opener) {
	has := func(plane string) bool {
		return slices.ContainsFunc(cfg.Listeners, func(l conf.Listener) bool { return l.DataPlane == plane })
	}
	n := 0
	if has(conf.DataPlaneRelay) {
		n = runtime.GOMAXPROCS(0)
	}
	limits := cfg.Upstream.PeerLimits
	limits.UnreadBytes = cmp.Or(limits.UnreadBytes, max(1<<20, h2.LeastUnread(cfg.MaxHeaderBytes())))
	shards = relay.NewShards(relay.ShardsConfig{
		Shards: n, MaxBuffered: cfg.Limits.MaxBufferedBytes, Endpoints: limits, Log: u.log,
		Groups: func(i int, d transport.Dialer) relay.Groups { return u.add(d, share{i, n}) },
	})
	if has(conf.DataPlaneKitex) {
		return shards, u.add(kitexconn.Dialer{}, whole).opener
	}
	return shards, u.own().opener // not used
}

// own is the pool of framegate's own streams and probes, which has a connection of every policy.
func (u *upstream) own() *groups { return u.pools[0] }

// share is which part of the connections that a policy allows a pool has: part i of n.
type share struct{ i, n int }

// whole is all connections.
var whole = share{0, 1}

// take returns the policy of the share, and false if it has no connection.
func (s share) take(p policy.Policy) (policy.Policy, bool) {
	p.Connections.Min, p.Connections.Max = s.of(p.Connections.Min), s.of(p.Connections.Max)
	return p, p.Connections.Max > 0
}

func (s share) of(n int) int { return (n + s.n - 1 - s.i) / s.n }

// groups maps the connection policies of backends to the groups of one pool.
type groups struct {
	pool     *pool.Pool
	base     policy.Policy
	share    share
	standard *pool.Group // for base; nil without a share
	of       sync.Map    // *policy.Policy -> *pool.Group, nil for one without a share; equal policies have one address
}

// Of returns the group of connections for backends with a policy; nil means the policy of the configuration. It returns nil if
// the pool's share of them is none.
func (g *groups) Of(p *policy.Policy) *pool.Group {
	if p == nil {
		return g.standard
	}
	if group, ok := g.of.Load(p); ok {
		return group.(*pool.Group)
	}
	var group *pool.Group
	if part, ok := g.share.take(p.WithDefaultsFrom(g.base)); ok {
		group = g.pool.Group(part)
	}
	g.of.Store(p, group)
	return group
}

// opener is Of for handler.Config.PoolOf.
func (g *groups) opener(p *policy.Policy) stream.Opener { return stream.From(g.Of(p)) }

// forget closes the connections of a policy that no route has any more, unless a policy that routes have uses the same group.
func (g *groups) forget(p *policy.Policy) {
	gone, ok := g.of.LoadAndDelete(p)
	shared := !ok || gone == (*pool.Group)(nil) || gone == g.standard
	g.of.Range(func(_, group any) bool {
		shared = shared || group == gone
		return !shared
	})
	if !shared {
		gone.(*pool.Group).LeaveAll()
	}
}

// forget calls groups.forget in every pool.
func (u *upstream) forget(p *policy.Policy) {
	for _, g := range u.pools {
		g.forget(p)
	}
}

// leave says that no further calls to an endpoint are expected; see pool.Group.Leave.
func (u *upstream) leave(address string) {
	for _, g := range u.pools {
		g.pool.Leave(address)
	}
}

// try starts a dial to an endpoint without connections.
func (u *upstream) try(p *policy.Policy, address string) { u.own().Of(p).Try(address) }

// close closes all pools.
func (u *upstream) close() {
	for _, g := range u.pools {
		g.pool.Close()
	}
}

// stats returns the counts of all pools together.
func (u *upstream) stats() (s pool.Stats) {
	for _, e := range u.all() {
		s.Endpoints++
		s.Connections += e.Connections
		s.Streams += e.Streams
	}
	return s
}

// all returns the counts of each endpoint, in all pools together.
func (u *upstream) all() (list []pool.EndpointStats) {
	place := map[string]int{} // index in list, by address
	for _, g := range u.pools {
		for _, e := range g.pool.Endpoints() {
			i, ok := place[e.Address]
			if !ok {
				place[e.Address] = len(list)
				list = append(list, e)
				continue
			}
			list[i].Connections += e.Connections
			list[i].Streams += e.Streams
			if e.Failure != nil {
				list[i].Failure = e.Failure
			}
		}
	}
	return list
}

// connections returns the open connections by endpoint, for the metrics.
func (u *upstream) connections() map[string]int {
	open := map[string]int{}
	for _, e := range u.all() {
		open[e.Address] = e.Connections
	}
	return open
}

// endpoints returns the connections and streams of each endpoint, for the admin server.
func (u *upstream) endpoints() []admin.EndpointStatus {
	open := u.all()
	all := make([]admin.EndpointStatus, len(open))
	for i, e := range open {
		all[i] = admin.EndpointStatus{Address: e.Address, Connections: e.Connections, Streams: e.Streams}
		if e.Failure != nil {
			all[i].ConnectError = e.Failure.Err.Error()
		}
	}
	return all
}
