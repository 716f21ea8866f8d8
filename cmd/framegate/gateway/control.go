package gateway

import (
	"cmp"
	"net"
	"sync"
	"time"

	"github.com/framegate/framegate/admin"
	"github.com/framegate/framegate/conf"
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
func (g *Gateway) listenAdmin() (net.Listener, error) {
	c := g.conf().Admin
	if c.Address == conf.None {
		return nil, nil
	}
	ln, err := admin.Listen(c.Address, c.Token)
	if err != nil {
		return nil, listenError("admin", c.Address, err)
	}
	g.resolver.Own("admin", ln.Addr())
	return ln, nil
}

// startAdmin starts the admin server on ln, which listenAdmin returned.
func (g *Gateway) startAdmin(ln net.Listener) *admin.Server {
	return admin.Start(ln, admin.Config{
		Token: g.conf().Admin.Token, Pprof: g.conf().Admin.Pprof, MaxConnections: min(cmp.Or(g.conf().Admin.MaxConnections, admin.DefaultMaxConnections), sideConnections()),
		Ready: g.Ready, Metrics: g.observers.metrics.Handler(), Control: g.control(), Log: g.log,
	})
}

// sideConnections returns how many connections the admin server and the embedded etcd may have each, whatever the
// configuration says: a sixteenth of the limit of open files, so that enough descriptors are left for calls.
func sideConnections() int { return max(transserver.OpenFileLimit()/16, 8) }

// control returns the functions by which the admin server shows and changes this gateway.
func (g *Gateway) control() admin.Control {
	c := admin.Control{
		Routes:    g.sources.routes,
		Source:    g.sources.status,
		Instances: g.resolver.Instances,
		Refused:   g.resolver.Refused,
		Endpoints: g.endpoints,
		Groups:    g.groups,
		Config:    g.configJSON,
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

func (g *Gateway) endpoints() []admin.EndpointStatus {
	open := g.pool.Endpoints()
	all := make([]admin.EndpointStatus, len(open))
	for i, e := range open {
		all[i] = admin.EndpointStatus{Address: e.Address, Connections: e.Connections, Streams: e.Streams}
		if e.Failure != nil {
			all[i].ConnectError = e.Failure.Err.Error()
		}
	}
	return all
}

// groups returns the state of the groups and endpoints of the routes in force. Until when an instance is kept is the etcd
// source's knowledge, so it is added here.
func (g *Gateway) groups() ([]cluster.State, []cluster.EndpointState) {
	endpoints := g.resolver.Endpoints()
	if g.sources == nil || g.sources.etcd == nil {
		return g.resolver.Groups(), endpoints
	}
	type place struct{ service, address string }
	kept, _ := g.sources.etcd.Kept()
	until := make(map[place]time.Time, len(kept))
	for _, in := range kept {
		until[place{in.Service, in.Address}] = in.Until
	}
	for i, e := range endpoints {
		if e.Service != "" {
			endpoints[i].KeptUntil = until[place{e.Service, cmp.Or(e.Name, e.Address)}] // it was registered under its name
		}
	}
	return g.resolver.Groups(), endpoints
}

func (g *Gateway) explain(req spec.Request) (resolver.Explanation, cluster.Target, bool) {
	x := g.resolver.Explain(req)
	target, ok := g.Resolve(req)
	return x, target, ok && x.Builtin == ""
}

// configJSON returns the configuration without secrets, with the keys of the file and its form of durations.
func (g *Gateway) configJSON() ([]byte, error) { return strict.JSON(g.conf().Redacted()) }
