// Package gateway puts a framegate together from its configuration and runs it, for "framegate serve" and for tests that
// start one in their process.
//
// Enter at Start; then server.go (a listener), sources.go (where routes come from), observers.go (metrics, access log and
// tracing), control.go (the admin server), reload.go (a configuration that changes), drain.go and shutdown.go (the end).
package gateway

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/framegate/framegate/admin"
	"github.com/framegate/framegate/conf"
	"github.com/framegate/framegate/handler"
	"github.com/framegate/framegate/handler/budget"
	"github.com/framegate/framegate/handler/downstream"
	"github.com/framegate/framegate/handler/structmode"
	"github.com/framegate/framegate/handler/tap"
	"github.com/framegate/framegate/handler/transserver"
	"github.com/framegate/framegate/pool"
	"github.com/framegate/framegate/resolver"
	"github.com/framegate/framegate/resolver/cluster"
	"github.com/framegate/framegate/resolver/dns"
	"github.com/framegate/framegate/resolver/spec"
)

// Gateway is a running framegate.
type Gateway struct {
	cfg       atomic.Pointer[conf.Config] // read through conf
	log       *slog.Logger
	resolver  *resolver.Resolver
	pool      *pool.Pool
	upstream  *upstream // set by start
	proxy     *handler.Proxy
	health    *health
	servers   []*kitexServer
	admin     *admin.Server // nil when off
	sources   *sources
	register  *registration // nil when off
	observers observers
	filters   []structmode.MethodFilter
	lookup    *net.Resolver // nil for net.DefaultResolver
	taps      *tap.Hub      // nil when off

	descriptors *transserver.Descriptors // of the listeners

	failed    chan error // the error of the first listener that ended by itself; capacity 1
	reloading sync.Mutex // held by Reload
	draining  drainSwitch
	shutdown  sync.Once
	wg        sync.WaitGroup
}

// Option changes a gateway before it starts. Options are for binaries that embed framegate.
type Option func(*Gateway)

// WithFilters adds typed filters for methods on routes in struct mode; see handler.Filter.
func WithFilters(filters ...structmode.MethodFilter) Option {
	return func(g *Gateway) { g.filters = append(g.filters, filters...) }
}

// WithResolver makes the gateway look up the names of endpoints with r instead of net.DefaultResolver.
func WithResolver(r *net.Resolver) Option { return func(g *Gateway) { g.lookup = r } }

// Start validates cfg, starts everything and returns when every listener takes calls. The routes of a routes file are in
// force by then; the routes in etcd come into force once etcd has answered. The caller ends the gateway with Shutdown.
func Start(ctx context.Context, cfg *conf.Config, log *slog.Logger, opts ...Option) (*Gateway, error) {
	if err := errors.Join(downstream.CheckLayout(), pool.CheckLayout()); err != nil {
		return nil, fmt.Errorf("this build does not fit its Kitex: %w", err)
	}
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	handler.RegisterEncodings(cfg.Compression)
	g := &Gateway{log: log, resolver: resolver.New(cfg.ListenerNames()...), health: newHealth(), failed: make(chan error, 1)}
	g.cfg.Store(cfg)
	g.draining.on = make(chan struct{})
	for _, set := range opts {
		set(g)
	}
	if cfg.Admin.Tap {
		g.taps = &tap.Hub{}
	}
	g.descriptors = transserver.NewDescriptors(transserver.OpenFileLimit())
	g.pool = pool.New(cfg.Upstream, log)
	if err := g.start(ctx); err != nil {
		g.abandon(context.WithoutCancel(ctx))
		return nil, err
	}
	return g, nil
}

// conf returns the configuration in force. The caller must not change it; Reload replaces it.
func (g *Gateway) conf() *conf.Config { return g.cfg.Load() }

// sourcesLimit bounds how long awaitSources waits.
const sourcesLimit = 30 * time.Second

// awaitSources waits until the routes are in force, if a listener shares its address with another process (reuse_port). Calls
// would come to such a listener as soon as it listens, although the other process, which has its routes, could answer them.
func (g *Gateway) awaitSources(ctx context.Context) error {
	if !slices.ContainsFunc(g.conf().Listeners, func(l conf.Listener) bool { return l.ReusePort }) {
		return nil
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for began := time.Now(); ; {
		err := g.sources.notReady()
		if err == nil {
			return nil
		}
		if time.Since(began) > sourcesLimit {
			return fmt.Errorf("not listening beside others (reuse_port) without routes: %w", err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

func (g *Gateway) start(ctx context.Context) (err error) {
	if err = g.startObservers(ctx); err != nil {
		return err
	}
	g.upstream = &upstream{pool: g.pool, base: g.conf().Upstream}
	g.proxy = handler.New(handler.Config{
		Router: g.resolver, Ready: func() bool { return g.sources.notReady() == nil }, Pool: g.pool.Default(), PoolOf: g.upstream.openerOf, Log: g.log, MaxMessageBytes: g.conf().Limits.MaxMessageBytes, MaxCalls: maxCalls(g.conf()), Observers: g.observers.all(g.conf()),
		MaxHops: g.conf().Limits.MaxHops, MaxDecodedBytes: cmp.Or(g.conf().Limits.MaxDecodedBytes, budget.DefaultBytes()), Taps: g.taps, Filters: g.filters,
	})
	g.health.watches.SetMax(g.conf().Limits.MaxHealthWatches)
	g.resolver.SetLog(g.log)
	g.resolver.SetNames(dns.New(g.lookup, g.log))
	allow, err := cluster.ParseAllow(g.conf().Services.Allow)
	if err != nil {
		return fmt.Errorf("services.allow%w", err)
	}
	g.resolver.SetAllow(allow)
	g.resolver.SetBuiltinHealth(g.conf().BuiltinHealth()...)
	g.resolver.SetEndpointHooks(g.departures(g.upstream))
	g.pool.SetReach(g.reach)
	if g.sources, err = startSources(ctx, g.conf(), g.resolver, g.log); err != nil {
		return err
	}
	g.beginHealth()
	if err := g.awaitSources(ctx); err != nil {
		return err
	}
	adminListener, err := g.listenAdmin() // before a listener takes calls, which would be lost if it failed
	if err != nil {
		return err
	}
	defer func() {
		if adminListener != nil && g.admin == nil {
			_ = adminListener.Close()
		}
	}()
	for _, l := range g.conf().Listeners {
		s, err := g.startServer(ctx, l)
		if err != nil {
			return err
		}
		g.servers = append(g.servers, s)
		g.wg.Go(func() { g.awaitEnd(s) })
		g.log.Info("listening", "listener", s.name, "address", s.addr.String())
	}
	if adminListener != nil {
		g.admin = g.startAdmin(adminListener)
		g.log.Info("admin listening", "address", g.admin.Addr().String())
	}
	if c := g.conf(); c.Register.Service != "" {
		g.register = startRegistration(c.Register, g.servers[0].addr, g.sources.etcdClient, c.Etcd.ServicePrefix, g.sources.ready(), g.log)
	}
	return nil
}

// maxCalls returns max_calls by the name of the listener.
func maxCalls(c *conf.Config) map[string]int {
	limits := make(map[string]int, len(c.Listeners))
	for _, l := range c.Listeners {
		limits[l.Name] = l.MaxCalls
	}
	return limits
}

// awaitEnd waits until the server of a listener has ended and reports it to failed, which keeps the first.
func (g *Gateway) awaitEnd(s *kitexServer) {
	<-s.done
	err := s.err
	if err == nil {
		err = errors.New("it stopped")
	}
	select {
	case g.failed <- fmt.Errorf("listener %s: %w", s.name, err):
	default:
	}
}

// AdminAddr returns the address of the admin server, or "" if it is off.
func (g *Gateway) AdminAddr() string {
	if g.admin == nil {
		return ""
	}
	return g.admin.Addr().String()
}

// Addr returns the address on which the named listener takes calls, or "" if there is none of that name.
func (g *Gateway) Addr(listener string) string {
	for _, s := range g.servers {
		if s.name == listener {
			return s.addr.String()
		}
	}
	return ""
}

// EtcdEndpoints returns where the etcd that this gateway uses can be reached; none if it uses none.
func (g *Gateway) EtcdEndpoints() []string { return g.sources.etcdEndpoints }

// SourceStatus returns how far the routes and instances in force are those of etcd, or of the routes file without etcd.
func (g *Gateway) SourceStatus() resolver.SourceStatus { return g.sources.status() }

// PoolStats counts the connections and streams to endpoints.
func (g *Gateway) PoolStats() pool.Stats { return g.pool.Stats() }

// Ready returns why calls should not be sent here now, or nil if they should.
func (g *Gateway) Ready() error {
	if g.isDraining() {
		return errors.New("draining")
	}
	return g.sources.notReady()
}

// Resolve returns where a call would go now, and false if no route matches. The target's Address is one of those that the
// call may get, or empty if no endpoint may be used.
func (g *Gateway) Resolve(req spec.Request) (cluster.Target, bool) {
	return g.resolver.Preview(req)
}

// Loads returns the calls and retries under way, by route.
func (g *Gateway) Loads() []cluster.RouteLoad { return g.resolver.Loads() }

// Failed returns a channel that gets the error of the first listener that ends by itself.
func (g *Gateway) Failed() <-chan error { return g.failed }
