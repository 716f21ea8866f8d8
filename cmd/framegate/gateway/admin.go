package gateway

import (
	"cmp"
	"net"
	"sync"

	"github.com/framegate/framegate/admin"
	"github.com/framegate/framegate/conf"
	"github.com/framegate/framegate/handler/acceptor"
	"github.com/framegate/framegate/handler/structmode"
	"github.com/framegate/framegate/resolver"
	"github.com/framegate/framegate/resolver/cluster"
	"github.com/framegate/framegate/resolver/etcdsource"
	"github.com/framegate/framegate/resolver/etcdstore"
	"github.com/framegate/framegate/resolver/spec"
	"github.com/framegate/framegate/resolver/strict"
)

// listenAdmin listens for the admin server, unless it is off.
func listenAdmin(c conf.Admin, r *resolver.Resolver) (net.Listener, error) {
	if c.Address == conf.None {
		return nil, nil
	}
	ln, err := admin.Listen(c.Address, c.Token)
	if err != nil {
		return nil, listenError("admin", c.Address, err)
	}
	r.Own("admin", ln.Addr())
	return ln, nil
}

// startAdmin starts the admin server on ln, which listenAdmin returned.
func (g *Gateway) startAdmin(ln net.Listener) *admin.Server {
	c := g.conf().Admin
	return admin.Start(ln, admin.Config{
		Token: c.Token, Pprof: c.Pprof, MaxConnections: min(cmp.Or(c.MaxConnections, admin.DefaultMaxConnections), sideConnections()),
		Ready: g.Ready, Metrics: g.observers.metrics.Handler(), Control: g.control(), Log: g.log,
	})
}

// sideConnections returns how many connections the admin server and the embedded etcd may have each, whatever the
// configuration says: a sixteenth of the limit of open files, so that enough descriptors are left for calls.
func sideConnections() int { return max(acceptor.OpenFileLimit()/16, 8) }

// control returns the functions by which the admin server shows and changes the gateway.
func (g *Gateway) control() admin.Control {
	c := admin.Control{
		Routes:    g.sources.routes,
		Source:    g.sources.status,
		Instances: g.resolver.Instances,
		Refused:   g.resolver.Refused,
		Endpoints: g.upstream.endpoints,
		Clusters:  g.sources.clusters,
		Mirrors:   g.Mirrors,
		Config:    func() ([]byte, error) { return configJSON(g.conf()) },
		Drain:     g.drainStatus,
		Explain:   g.explain,
		Bypasses:  g.resolver.Bypasses,

		UnreachableHealth: g.resolver.UnreachableHealth,

		Tap: g.proxy.OpenTap,
	}
	if g.sources.etcd == nil {
		return c
	}
	c.Schemas = g.sources.etcd.Schemas
	c.Kept = func() []etcdsource.KeptInstance {
		now, _ := g.sources.etcd.Kept()
		return now
	}
	c.RouteStore = func() (*etcdstore.Routes, error) {
		cli, err := g.sources.etcd.Client()
		if err != nil {
			return nil, err
		}
		return etcdstore.NewRoutes(cli, g.conf().Etcd.Prefix, structmode.CompileRoute), nil
	}
	var once sync.Once
	var services *etcdstore.Services // one for all requests, because it remembers the shortest lease that etcd gives
	c.ServiceStore = func() (admin.ServiceStore, error) {
		cli, err := g.sources.etcd.Client()
		if err != nil {
			return nil, err
		}
		once.Do(func() { services = etcdstore.NewServices(cli, g.conf().Etcd.ServicePrefix) })
		return services, nil
	}
	return c
}

// metricsConfig returns the sources of the metrics that are not counted call by call, except those of the observers.
func (g *Gateway) metricsConfig() admin.MetricsConfig {
	return admin.MetricsConfig{
		Routes:        func() map[string]admin.RouteNames { return routeNames(g.resolver.Routes()) },
		Connections:   g.upstream.connections,
		SentAway:      g.listeners.shards.SentAway,
		Clusters:      g.sources.clusters,
		Lookups:       g.resolver.Lookups,
		Loads:         g.resolver.Loads,
		Config:        g.sources.stats,
		Draining:      g.drain.isOn,
		HealthWatches: g.health.watching,
		Listeners:     g.listeners.stats,
		Decoding:      g.proxy.Decoding,
		Mirrors:       g.proxy.Mirrors().Statuses,
	}
}

func routeNames(routes []*spec.Route) map[string]admin.RouteNames {
	all := map[string]admin.RouteNames{}
	for _, r := range routes {
		n := all[r.Name]
		for _, b := range r.Backends {
			n.Backends = append(n.Backends, b.Name)
		}
		for i := range r.Mirrors { // whose backends may answer calls
			n.Backends = append(n.Backends, spec.MirrorKey(r.Mirrors[i].Name))
		}
		for _, m := range r.Match {
			n.Patterns = append(n.Patterns, m.Method)
		}
		all[r.Name] = n
	}
	return all
}

// drainStatus starts the drain and returns its progress.
func (g *Gateway) drainStatus() admin.DrainStatus {
	g.drain.begin()
	c := g.conf().Drain
	st := admin.DrainStatus{Since: g.drain.began(), Delay: c.Delay, Timeout: c.Timeout}
	for _, l := range g.listeners.stats() {
		st.Connections += l.Connections
		st.Calls += l.Calls
	}
	return st
}

func (g *Gateway) explain(req spec.Request) (resolver.Explanation, cluster.Target, bool) {
	x := g.resolver.Explain(req)
	target, ok := g.Resolve(req)
	return x, target, ok && x.Builtin == ""
}

// configJSON returns a configuration without its secrets, with the keys of the file and its form of durations.
func configJSON(c *conf.Config) ([]byte, error) { return strict.JSON(c.Redacted()) }
