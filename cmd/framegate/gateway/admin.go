package gateway

import (
	"cmp"
	"log/slog"
	"net"
	"net/http"
	"sync"

	"github.com/framegate/framegate/admin"
	"github.com/framegate/framegate/conf"
	"github.com/framegate/framegate/handler"
	"github.com/framegate/framegate/handler/structmode"
	"github.com/framegate/framegate/handler/transserver"
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

// adminParts are the parts of a gateway that the admin server shows and changes.
type adminParts struct {
	conf      func() *conf.Config // the configuration in force
	resolver  *resolver.Resolver
	sources   *sources
	upstream  *upstream
	proxy     *handler.Proxy
	health    *health
	listeners *listeners
	drain     *drainer
}

// serve starts the admin server on ln, which listenAdmin returned.
func (p *adminParts) serve(ln net.Listener, metrics http.Handler, log *slog.Logger) *admin.Server {
	c := p.conf().Admin
	return admin.Start(ln, admin.Config{
		Token: c.Token, Pprof: c.Pprof, MaxConnections: min(cmp.Or(c.MaxConnections, admin.DefaultMaxConnections), sideConnections()),
		Ready: p.health.notReady, Metrics: metrics, Control: p.control(), Log: log,
	})
}

// sideConnections returns how many connections the admin server and the embedded etcd may have each, whatever the
// configuration says: a sixteenth of the limit of open files, so that enough descriptors are left for calls.
func sideConnections() int { return max(transserver.OpenFileLimit()/16, 8) }

// control returns the functions by which the admin server shows and changes the gateway.
func (p *adminParts) control() admin.Control {
	c := admin.Control{
		Routes:    p.sources.routes,
		Source:    p.sources.status,
		Instances: p.resolver.Instances,
		Refused:   p.resolver.Refused,
		Endpoints: p.upstream.endpoints,
		Clusters:  p.sources.clusters,
		Config:    func() ([]byte, error) { return configJSON(p.conf()) },
		Drain:     p.drainStatus,
		Explain:   p.explain,
		Bypasses:  p.resolver.Bypasses,

		UnreachableHealth: p.resolver.UnreachableHealth,

		Tap: p.proxy.OpenTap,
	}
	if p.sources.etcd == nil {
		return c
	}
	c.Schemas = p.sources.etcd.Schemas
	c.Kept = func() []etcdsource.KeptInstance {
		now, _ := p.sources.etcd.Kept()
		return now
	}
	c.RouteStore = func() (*etcdstore.Routes, error) {
		cli, err := p.sources.etcd.Client()
		if err != nil {
			return nil, err
		}
		return etcdstore.NewRoutes(cli, p.conf().Etcd.Prefix, structmode.CompileRoute), nil
	}
	var once sync.Once
	var services *etcdstore.Services // one for all requests, because it remembers the shortest lease that etcd gives
	c.ServiceStore = func() (admin.ServiceStore, error) {
		cli, err := p.sources.etcd.Client()
		if err != nil {
			return nil, err
		}
		once.Do(func() { services = etcdstore.NewServices(cli, p.conf().Etcd.ServicePrefix) })
		return services, nil
	}
	return c
}

// metrics returns the sources of the metrics that are not counted call by call, except those of the observers.
func (p *adminParts) metrics() admin.MetricsConfig {
	return admin.MetricsConfig{
		Routes:        func() map[string]admin.RouteNames { return routeNames(p.resolver.Routes()) },
		Connections:   p.upstream.connections,
		Clusters:      p.sources.clusters,
		Lookups:       p.resolver.Lookups,
		Loads:         p.resolver.Loads,
		Config:        p.sources.stats,
		Draining:      p.drain.isOn,
		HealthWatches: p.health.watching,
		Listeners:     p.listeners.stats,
		Decoding:      p.proxy.Decoding,
	}
}

func routeNames(routes []*spec.Route) map[string]admin.RouteNames {
	all := map[string]admin.RouteNames{}
	for _, r := range routes {
		n := all[r.Name]
		for _, b := range r.Backends {
			n.Backends = append(n.Backends, b.Name)
		}
		for _, m := range r.Match {
			n.Patterns = append(n.Patterns, m.Method)
		}
		all[r.Name] = n
	}
	return all
}

// drainStatus starts the drain and returns its progress.
func (p *adminParts) drainStatus() admin.DrainStatus {
	p.drain.begin()
	c := p.conf().Drain
	st := admin.DrainStatus{Since: p.drain.began(), Delay: c.Delay, Timeout: c.Timeout}
	for _, l := range p.listeners.stats() {
		st.Connections += l.Connections
		st.Calls += l.Calls
	}
	return st
}

func (p *adminParts) explain(req spec.Request) (resolver.Explanation, cluster.Target, bool) {
	x := p.resolver.Explain(req)
	target, ok := p.resolver.Preview(req)
	return x, target, ok && x.Builtin == ""
}

// configJSON returns a configuration without its secrets, with the keys of the file and its form of durations.
func configJSON(c *conf.Config) ([]byte, error) { return strict.JSON(c.Redacted()) }
