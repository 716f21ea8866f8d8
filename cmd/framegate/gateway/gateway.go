// Package gateway puts a framegate together from its configuration and runs it, for "framegate serve" and for tests that
// start one in their process.
//
// Enter at Start; then listeners.go and server.go (the listeners), sources.go (where routes come from), upstream.go (the pool
// of connections to endpoints), health.go, observers.go (metrics, access log and tracing), admin.go (what the admin server
// shows), reload.go (a configuration that changes) and drain.go (the end).
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

	"github.com/framegate/framegate/admin"
	"github.com/framegate/framegate/conf"
	"github.com/framegate/framegate/handler"
	"github.com/framegate/framegate/handler/acceptor"
	"github.com/framegate/framegate/handler/budget"
	"github.com/framegate/framegate/handler/kitexstream"
	"github.com/framegate/framegate/handler/mirror"
	"github.com/framegate/framegate/handler/structmode"
	"github.com/framegate/framegate/handler/tap"
	"github.com/framegate/framegate/pool"
	"github.com/framegate/framegate/pool/kitexconn"
	"github.com/framegate/framegate/resolver"
	"github.com/framegate/framegate/resolver/cluster"
	"github.com/framegate/framegate/resolver/dns"
	"github.com/framegate/framegate/resolver/spec"
)

// Gateway is a running framegate. newGateway makes its parts, which do nothing until start.
type Gateway struct {
	cfg       atomic.Pointer[conf.Config] // read through conf
	log       *slog.Logger
	drain     *drainer
	resolver  *resolver.Resolver
	sources   *sources
	upstream  *upstream
	proxy     *handler.Proxy
	health    *health
	listeners *listeners
	observers observers

	// set by start
	admin    *admin.Server // nil when off
	register *registration // nil when off

	reloading sync.Mutex // held by Reload
	shutdown  sync.Once
}

// options are what Options change.
type options struct {
	filters []structmode.MethodFilter
	lookup  *net.Resolver // nil for net.DefaultResolver
}

// Option changes a gateway before it starts. Options are for binaries that embed framegate.
type Option func(*options)

// WithFilters adds typed filters for methods on routes in struct mode; see handler.Filter.
func WithFilters(filters ...structmode.MethodFilter) Option {
	return func(o *options) { o.filters = append(o.filters, filters...) }
}

// WithResolver makes the gateway look up the names of endpoints with r instead of net.DefaultResolver.
func WithResolver(r *net.Resolver) Option { return func(o *options) { o.lookup = r } }

// Start validates cfg, starts everything and returns when every listener takes calls. The routes of a routes file are in
// force by then; the routes in etcd come into force once etcd has answered. The caller ends the gateway with Shutdown.
func Start(ctx context.Context, cfg *conf.Config, log *slog.Logger, opts ...Option) (*Gateway, error) {
	if err := errors.Join(kitexstream.CheckLayout(), kitexconn.CheckLayout()); err != nil {
		return nil, fmt.Errorf("this build does not fit its Kitex: %w", err)
	}
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	kitexstream.RegisterEncodings(cfg.Compression)
	g := newGateway(cfg, log, opts)
	if err := g.start(ctx); err != nil {
		g.abandon(context.WithoutCancel(ctx))
		return nil, err
	}
	return g, nil
}

// newGateway makes a gateway and its parts, and starts nothing. The caller ends it with abandon or Shutdown.
func newGateway(cfg *conf.Config, log *slog.Logger, opts []Option) *Gateway {
	var o options
	for _, set := range opts {
		set(&o)
	}
	var taps *tap.Hub // nil when off
	if cfg.Admin.Tap {
		taps = &tap.Hub{}
	}
	g := &Gateway{log: log, resolver: resolver.New(cfg.ListenerNames()...)}
	g.cfg.Store(cfg)
	g.drain = &drainer{conf: g.conf, log: log, on: make(chan struct{})}
	g.sources = newSources(g.resolver, log)
	g.upstream = newUpstream(cfg.Upstream.Policy, g.resolver, log)
	shards, kitex := g.upstream.start(cfg)
	g.proxy = handler.New(handler.Config{
		Router: g.resolver, Ready: func() bool { return g.sources.notReady() == nil }, Pool: kitex(nil), PoolOf: kitex, OwnPoolOf: g.upstream.own().opener,
		Log: log, MaxMessageBytes: cfg.Limits.MaxMessageBytes, MaxCalls: maxCalls(cfg), MaxHops: cfg.Limits.MaxHops, MaxDecodedBytes: cmp.Or(cfg.Limits.MaxDecodedBytes, budget.DefaultBytes()), MaxMirrorCalls: cfg.Mirrors.MaxCalls, Taps: taps, Filters: o.filters,
	})
	g.resolver.Follow(g.proxy.Mirrors())
	g.health = &health{resolver: g.resolver, sources: g.sources, upstream: g.upstream, drain: g.drain}
	g.health.watches.SetMax(cfg.Limits.MaxHealthWatches)
	g.listeners = &listeners{
		conf: g.conf, log: log, resolver: g.resolver, proxy: g.proxy, health: g.health,
		descriptors: acceptor.NewDescriptors(acceptor.OpenFileLimit()), shards: shards, failed: make(chan error, 1),
	}
	g.resolver.SetLog(log)
	g.resolver.SetNames(dns.New(o.lookup, log))
	g.resolver.SetBuiltinHealth(cfg.BuiltinHealth()...)
	// Idle connections to an endpoint that leaves are closed at once, its calls are ended after the grace.
	g.resolver.SetEndpointHooks(cluster.EndpointHooks{
		Left: g.upstream.leave, Grace: cfg.Drain.EndpointTimeout, Over: g.endCallsAt, Unused: g.upstream.forget,
	})
	return g
}

// conf returns the configuration in force. The caller must not change it; Reload replaces it.
func (g *Gateway) conf() *conf.Config { return g.cfg.Load() }

func (g *Gateway) start(ctx context.Context) error {
	cfg := g.conf()
	if err := g.observers.start(ctx, cfg, g.metricsConfig(), g.log); err != nil {
		return err
	}
	g.proxy.SetObservers(g.observers.all(cfg))
	allow, err := cluster.ParseAllow(cfg.Services.Allow)
	if err != nil {
		return fmt.Errorf("services.allow%w", err)
	}
	g.resolver.SetAllow(allow)
	if err := g.sources.start(ctx, cfg); err != nil {
		return err
	}
	if slices.ContainsFunc(cfg.Listeners, func(l conf.Listener) bool { return l.ReusePort }) {
		if err := g.sources.await(ctx); err != nil {
			return err
		}
	}
	adminListener, err := listenAdmin(cfg.Admin, g.resolver) // before a listener takes calls, which would be lost if it failed
	if err != nil {
		return err
	}
	defer func() {
		if adminListener != nil && g.admin == nil {
			_ = adminListener.Close()
		}
	}()
	for _, l := range cfg.Listeners {
		if err := g.listeners.start(ctx, l); err != nil {
			return err
		}
	}
	if adminListener != nil {
		g.admin = g.startAdmin(adminListener)
		g.log.Info("admin listening", "address", g.admin.Addr().String())
	}
	if cfg.Register.Service != "" {
		g.register = startRegistration(cfg.Register, g.listeners.servers[0].addr, g.sources.etcdClient, cfg.Etcd.ServicePrefix, g.sources.ready(), g.log)
	}
	return nil
}

// Drain makes the gateway not ready and closes the channel Draining, on which the caller of Start calls Shutdown. It returns
// at once and may be called more than once.
func (g *Gateway) Drain() { g.drain.begin() }

// Draining returns a channel that is closed when the gateway is asked to drain, through the admin server or by Drain.
func (g *Gateway) Draining() <-chan struct{} { return g.drain.on }

// Shutdown drains and stops everything. Health turns to NOT_SERVING, the gateway deregisters, drain.delay passes, and clients
// get GOAWAY. Calls go on until they end, ctx ends or drain.timeout passes; those that are left then end with UNAVAILABLE
// "draining". It may be called more than once; later calls wait for the first.
func (g *Gateway) Shutdown(ctx context.Context) {
	g.shutdown.Do(func() {
		g.drain.begin()
		g.awaitReload()
		var deregistered sync.WaitGroup
		if g.register != nil {
			deregistered.Go(g.register.stop) // beside the drain: etcd may be slow or gone
		}
		g.drain.awaitDelay(ctx)
		g.listeners.stop(ctx)
		deregistered.Wait()
		g.stop(ctx)
	})
}

// abandon stops what a failed Start has started, without a delay and without waiting for calls, because no client was sent
// here yet.
func (g *Gateway) abandon(ctx context.Context) {
	g.shutdown.Do(func() {
		g.drain.turnOn()
		now, cancel := context.WithCancel(ctx)
		cancel()
		g.listeners.stop(now)
		g.stop(ctx)
	})
}

// stop stops everything but the listeners, whose stop has returned.
func (g *Gateway) stop(ctx context.Context) {
	if g.admin != nil {
		g.admin.Close()
	}
	g.sources.stop()
	g.proxy.Close()
	g.resolver.Close()
	g.upstream.close()
	g.listeners.close()
	if err := g.observers.stop(ctx); err != nil {
		g.log.Warn("the access log or the tracer did not end cleanly", "error", err)
	}
}

// ReopenLogs opens the file of the access log again, after it was renamed. If that fails, lines still go to the old file.
func (g *Gateway) ReopenLogs() error {
	if err := g.observers.logOutput.Reopen(); err != nil {
		return fmt.Errorf("access_log.path: %w", err)
	}
	g.log.Info("log files opened again")
	return nil
}

// AdminAddr returns the address of the admin server, or "" if it is off.
func (g *Gateway) AdminAddr() string {
	if g.admin == nil {
		return ""
	}
	return g.admin.Addr().String()
}

// Addr returns the address on which the named listener takes calls, or "" if there is none of that name.
func (g *Gateway) Addr(listener string) string { return g.listeners.addr(listener) }

// endCallsAt ends every call under way at an endpoint.
func (g *Gateway) endCallsAt(address string) {
	g.proxy.EndCallsAt(address)
	g.listeners.shards.EndCallsAt(address)
}

// EtcdEndpoints returns where the etcd that this gateway uses can be reached; none if it uses none.
func (g *Gateway) EtcdEndpoints() []string { return g.sources.etcdEndpoints }

// SourceStatus returns how far the routes and instances in force are those of etcd, or of the routes file without etcd.
func (g *Gateway) SourceStatus() resolver.SourceStatus { return g.sources.status() }

// PoolStats counts the connections and streams to endpoints.
func (g *Gateway) PoolStats() pool.Stats { return g.upstream.stats() }

// Ready returns why calls should not be sent here now, or nil if they should.
func (g *Gateway) Ready() error { return g.health.notReady() }

// Resolve returns where a call would go now, and false if no route matches. The target's Address is one of those that the
// call may get, or empty if no endpoint may be used.
func (g *Gateway) Resolve(req spec.Request) (cluster.Target, bool) {
	return g.resolver.Preview(req)
}

// Loads returns the calls and retries under way, by route.
func (g *Gateway) Loads() []cluster.RouteLoad { return g.resolver.Loads() }

// Mirrors returns the mirrors of the routes in force.
func (g *Gateway) Mirrors() []*mirror.Mirror { return g.proxy.Mirrors().All() }

// Failed returns a channel that gets the error of the first listener that ends by itself.
func (g *Gateway) Failed() <-chan error { return g.listeners.failed }
