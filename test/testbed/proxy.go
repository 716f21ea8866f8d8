package testbed

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/framegate/framegate/cmd/framegate/gateway"
	"github.com/framegate/framegate/conf"
	"github.com/framegate/framegate/handler/mirror"
	"github.com/framegate/framegate/resolver"
	"github.com/framegate/framegate/resolver/cluster"
	"github.com/framegate/framegate/resolver/spec"
)

// DataPlane is the data plane that the tests' framegates have: that of the environment variable TEST_DATA_PLANE, or the default.
func DataPlane() string {
	return cmp.Or(os.Getenv("TEST_DATA_PLANE"), conf.DefaultListener().DataPlane)
}

// listener is the name of a Proxy's only listener.
const listener = "main"

// Proxy is a framegate in this process, made by NewProxy.
type Proxy struct {
	Addr string // of its listener "main"

	gateway *gateway.Gateway
}

// ProxyOption changes the configuration that a Proxy starts with.
type ProxyOption func(*conf.Config)

// On serves the listener by a data plane of its own choice.
func On(dataPlane string) ProxyOption {
	return func(c *conf.Config) { c.Listeners[0].DataPlane = dataPlane }
}

// ConnectTimeout bounds connecting to an upstream.
func ConnectTimeout(d time.Duration) ProxyOption {
	return func(c *conf.Config) { c.Upstream.ConnectTimeout = d }
}

// MaxMessageBytes bounds the payload of a message; 0 means no limit.
func MaxMessageBytes(n int64) ProxyOption {
	return func(c *conf.Config) { c.Limits.MaxMessageBytes = n }
}

// MaxDecodedBytes bounds the memory of all decoded messages together.
func MaxDecodedBytes(n int64) ProxyOption {
	return func(c *conf.Config) { c.Limits.MaxDecodedBytes = n }
}

// EtcdAt takes routes and instances from the etcd at that endpoint.
func EtcdAt(endpoint string) ProxyOption {
	return func(c *conf.Config) { c.Etcd.Endpoints = []string{endpoint} }
}

// Admin starts the admin server.
func Admin() ProxyOption {
	return func(c *conf.Config) { c.Admin.Address = "127.0.0.1:0" }
}

// AccessLog logs every call to a file.
func AccessLog(path string) ProxyOption {
	return func(c *conf.Config) { c.AccessLog.Path, c.AccessLog.Sample = path, 1 }
}

// Tracing sends a span of every call to the OTLP receiver at that address.
func Tracing(endpoint string) ProxyOption {
	return func(c *conf.Config) { c.Tracing.Endpoint, c.Tracing.Sample = endpoint, 1 }
}

// RegisterAs registers the framegate in etcd as a Kitex service.
func RegisterAs(service string) ProxyOption {
	return func(c *conf.Config) { c.Register.Service = service }
}

// Snapshot keeps the last good state of etcd in a file.
func Snapshot(path string) ProxyOption {
	return func(c *conf.Config) { c.Etcd.Snapshot = path }
}

// EmbeddedEtcd takes routes from an etcd inside the framegate.
func EmbeddedEtcd(t testing.TB) ProxyOption {
	return func(c *conf.Config) {
		c.Etcd.Endpoints = []string{conf.Embedded}
		c.Etcd.Embedded = conf.EmbeddedEtcd{Dir: t.TempDir(), Address: "127.0.0.1:0"}
	}
}

// NewProxy starts a framegate with default limits whose routes are those of the document, if it is not empty. It logs
// nothing unless TEST_FRAMEGATE_LOG is set.
func NewProxy(t testing.TB, routes string, options ...ProxyOption) *Proxy {
	t.Helper()
	return NewProxyWith(t, routes, nil, options...)
}

// NewProxyWith is NewProxy with options that a binary which embeds framegate would give, such as filters.
func NewProxyWith(t testing.TB, routes string, embedding []gateway.Option, options ...ProxyOption) *Proxy {
	t.Helper()
	return newProxy(t, logOutput(), routes, embedding, options)
}

// NewProxyLogging is NewProxy with a log that is written to w as well.
func NewProxyLogging(t testing.TB, w io.Writer, routes string, options ...ProxyOption) *Proxy {
	t.Helper()
	return newProxy(t, io.MultiWriter(w, logOutput()), routes, nil, options)
}

func newProxy(t testing.TB, log io.Writer, routes string, embedding []gateway.Option, options []ProxyOption) *Proxy {
	t.Helper()
	cfg := conf.Default()
	cfg.Listeners[0].Name, cfg.Listeners[0].Address, cfg.Listeners[0].DataPlane = listener, "127.0.0.1:0", DataPlane()
	cfg.Admin.Address = conf.None
	cfg.Etcd.Endpoints, cfg.Etcd.Snapshot = []string{conf.None}, ""
	if routes != "" {
		cfg.Routes.File = filepath.Join(t.TempDir(), "routes.yaml")
		if err := os.WriteFile(cfg.Routes.File, []byte(routes), 0o600); err != nil {
			t.Fatalf("routes file: %v", err)
		}
	}
	for _, o := range options {
		o(cfg)
	}
	g, err := gateway.Start(context.Background(), cfg, slog.New(slog.NewTextHandler(log, nil)), embedding...)
	if err != nil {
		t.Fatalf("start framegate: %v", err)
	}
	p := &Proxy{Addr: g.Addr(listener), gateway: g}
	t.Cleanup(p.Stop)
	return p
}

func logOutput() io.Writer {
	if os.Getenv("TEST_FRAMEGATE_LOG") != "" {
		return os.Stderr
	}
	return io.Discard
}

// Stop shuts the framegate down; calls that are still running are ended, not waited for. It may be called more than
// once.
func (p *Proxy) Stop() {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	p.gateway.Shutdown(ctx)
}

// Drain shuts the framegate down as a signal does: calls that are running go on. The channel is closed when it is down.
func (p *Proxy) Drain() <-chan struct{} {
	done := make(chan struct{})
	go func() {
		defer close(done)
		p.gateway.Shutdown(context.Background())
	}()
	return done
}

// Admin returns the URL of the admin server.
func (p *Proxy) Admin() string { return "http://" + p.gateway.AdminAddr() }

// EtcdEndpoint returns where the etcd that the framegate uses can be reached.
func (p *Proxy) EtcdEndpoint() string { return p.gateway.EtcdEndpoints()[0] }

// Source returns the status of the source of the routes in force.
func (p *Proxy) Source() resolver.SourceStatus { return p.gateway.SourceStatus() }

// Resolve returns where a call of a method would go now, and false if no route matches.
func (p *Proxy) Resolve(method string) (cluster.Target, bool) {
	return p.gateway.Resolve(spec.Request{Listener: listener, Method: method})
}

// UpstreamConnections returns how many connections to endpoints are open.
func (p *Proxy) UpstreamConnections() int { return p.gateway.PoolStats().Connections }

// UpstreamStreams returns how many calls to endpoints are open.
func (p *Proxy) UpstreamStreams() int { return p.gateway.PoolStats().Streams }

// Loads returns the calls and retries under way, by route.
func (p *Proxy) Loads() []cluster.RouteLoad { return p.gateway.Loads() }

// Mirror returns the state of the mirror of that name, the zero Status if there is none.
func (p *Proxy) Mirror(name string) mirror.Status {
	for _, m := range p.gateway.Mirrors() {
		if m.Name() == name {
			return m.Status()
		}
	}
	return mirror.Status{}
}

// Differences returns what comparing the answers of the mirror of that name has found.
func (p *Proxy) Differences(name string) []mirror.Difference {
	for _, m := range p.gateway.Mirrors() {
		if m.Name() == name {
			return m.Differences()
		}
	}
	return nil
}

// MaxMirrorCalls bounds the copies of calls for mirrors.
func MaxMirrorCalls(n int) ProxyOption {
	return func(c *conf.Config) { c.Mirrors.MaxCalls = n }
}

// RoutesError returns the error with which a framegate refuses a routes document.
func RoutesError(t testing.TB, routes string) error {
	t.Helper()
	cfg := conf.Default()
	cfg.Listeners[0].Address, cfg.Admin.Address = "127.0.0.1:0", conf.None
	cfg.Etcd.Endpoints, cfg.Etcd.Snapshot = []string{conf.None}, ""
	cfg.Routes.File = filepath.Join(t.TempDir(), "routes.yaml")
	if err := os.WriteFile(cfg.Routes.File, []byte(routes), 0o600); err != nil {
		t.Fatalf("routes file: %v", err)
	}
	g, err := gateway.Start(t.Context(), cfg, slog.New(slog.NewTextHandler(logOutput(), nil)))
	if err == nil {
		g.Shutdown(t.Context())
		t.Fatal("the routes were taken")
	}
	return err
}

// RouteTo returns a routes document that sends every call to addr.
func RouteTo(addr string) string { return RouteWith(addr, "") }

// RouteWith is RouteTo with one more key of the route.
func RouteWith(addr, key string) string {
	return fmt.Sprintf("routes:\n- name: all\n  match: [{method: \"*\"}]\n  backends: [{endpoints: [{address: %q}]}]\n  %s\n", addr, key)
}
