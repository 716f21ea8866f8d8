package gateway

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cloudwego/kitex/client"
	"github.com/cloudwego/kitex/pkg/discovery"
	"github.com/cloudwego/kitex/pkg/klog"
	"github.com/cloudwego/kitex/transport"
	etcdregistry "github.com/kitex-contrib/registry-etcd"
	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/framegate/framegate/conf"
	v1 "github.com/framegate/framegate/kitex_gen/grpc/health/v1"
	healthsvc "github.com/framegate/framegate/kitex_gen/grpc/health/v1/health"
	"github.com/framegate/framegate/resolver/etcdstore"
	"github.com/framegate/framegate/test/loopback"
	"github.com/framegate/framegate/test/together"
)

func TestMain(m *testing.M) {
	klog.SetLevel(klog.LevelFatal)
	together.Wait(8)
	os.Exit(m.Run())
}

const waitLimit = 30 * time.Second

func testContext(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), waitLimit)
	t.Cleanup(cancel)
	return ctx
}

// fileConfig is a configuration without etcd and admin server, with one listener and the routes.
func fileConfig(t *testing.T, routes string) *conf.Config {
	t.Helper()
	cfg := conf.Default()
	cfg.Listeners[0].Address = "127.0.0.1:0"
	cfg.Admin.Address = conf.None
	cfg.Etcd.Endpoints = []string{conf.None}
	cfg.Routes.File = filepath.Join(t.TempDir(), "routes.yaml")
	require.NoError(t, os.WriteFile(cfg.Routes.File, []byte(routes), 0o600))
	return cfg
}

func start(t *testing.T, cfg *conf.Config) *Gateway {
	t.Helper()
	g, err := Start(testContext(t), cfg, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	t.Cleanup(func() { g.Shutdown(context.Background()) })
	return g
}

func dial(t *testing.T, addr string) *grpc.ClientConn {
	t.Helper()
	cc, err := grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	t.Cleanup(func() { _ = cc.Close() })
	return cc
}

func oneRoute(addr string) string {
	return fmt.Sprintf("routes: [{name: all, match: [{method: '*'}], backends: [{endpoints: [{address: %q}]}]}]", addr)
}

// backend is a grpc-go server whose calls wait for release, or for their end.
type backend struct {
	addr    string
	started chan string // the method of each call
	release chan struct{}
}

func startBackend(t *testing.T) *backend {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	b := &backend{addr: ln.Addr().String(), started: make(chan string, 16), release: make(chan struct{})}
	s := grpc.NewServer(grpc.UnknownServiceHandler(func(_ any, s grpc.ServerStream) error {
		method, _ := grpc.MethodFromServerStream(s)
		b.started <- method
		select {
		case <-b.release:
			if err := s.RecvMsg(&emptypb.Empty{}); err != nil { // or its answer may be there before what is wrong with the request
				return err
			}
			return s.SendMsg(&emptypb.Empty{})
		case <-s.Context().Done():
			return s.Context().Err()
		}
	}))
	go func() { _ = s.Serve(ln) }()
	t.Cleanup(s.Stop)
	return b
}

type result struct {
	err     error
	trailer metadata.MD
}

// call makes a call in the background and returns when the backend has it.
func call(t *testing.T, cc *grpc.ClientConn, b *backend) <-chan result {
	t.Helper()
	done := make(chan result, 1)
	ctx := testContext(t)
	go func() {
		var r result
		r.err = cc.Invoke(ctx, "/s/m", &emptypb.Empty{}, &emptypb.Empty{}, grpc.Trailer(&r.trailer))
		done <- r
	}()
	select {
	case <-b.started:
	case <-ctx.Done():
		t.Fatal("the call did not reach the backend")
	}
	return done
}

func TestShutdown_LetsCallsEndAndTellsHealth(t *testing.T) {
	t.Parallel()
	b := startBackend(t)
	g := start(t, fileConfig(t, oneRoute(b.addr)))
	cc := dial(t, g.Addr("main"))
	watch, err := grpc_health_v1.NewHealthClient(cc).Watch(testContext(t), &grpc_health_v1.HealthCheckRequest{})
	require.NoError(t, err)
	first, err := watch.Recv()
	require.NoError(t, err)
	require.Equal(t, grpc_health_v1.HealthCheckResponse_SERVING, first.Status)
	require.NoError(t, g.Ready())

	running := call(t, cc, b)
	stopped := make(chan struct{})
	go func() {
		g.Shutdown(context.Background())
		close(stopped)
	}()
	second, err := watch.Recv()
	require.NoError(t, err)
	require.Equal(t, grpc_health_v1.HealthCheckResponse_NOT_SERVING, second.Status)
	require.EqualError(t, g.Ready(), "draining")
	select {
	case <-stopped:
		t.Fatal("stopped while a call was under way")
	default:
	}
	close(b.release)
	require.NoError(t, (<-running).err)
	<-stopped
	_, err = net.DialTimeout("tcp", g.Addr("main"), time.Second)
	require.Error(t, err, "the listener is still there")
}

func TestShutdown_EndsCallsWithDrainingAtTheTimeout(t *testing.T) {
	t.Parallel()
	b := startBackend(t)
	cfg := fileConfig(t, oneRoute(b.addr))
	cfg.Drain.Timeout = 200 * time.Millisecond
	g := start(t, cfg)
	running := call(t, dial(t, g.Addr("main")), b)
	begin := time.Now()
	g.Shutdown(context.Background())
	require.Less(t, time.Since(begin), conf.Default().Drain.Timeout, "the default")
	r := <-running
	require.Equal(t, codes.Unavailable, status.Code(r.err), r.err)
	require.Equal(t, []string{"draining"}, r.trailer.Get("framegate-error"))
}

func TestListeners_RoutesMayNameThem(t *testing.T) {
	t.Parallel()
	b := startBackend(t)
	close(b.release)
	cfg := fileConfig(t, fmt.Sprintf("routes: [{name: edge-only, listeners: [edge], match: [{method: '*'}], backends: [{endpoints: [{address: %q}]}]}]", b.addr))
	edge := conf.DefaultListener()
	edge.Name, edge.Address = "edge", "127.0.0.1:0"
	cfg.Listeners = append(cfg.Listeners, edge)
	g := start(t, cfg)
	err := dial(t, g.Addr("main")).Invoke(testContext(t), "/s/m", &emptypb.Empty{}, &emptypb.Empty{})
	require.Equal(t, codes.Unimplemented, status.Code(err), err)
	require.NoError(t, dial(t, g.Addr("edge")).Invoke(testContext(t), "/s/m", &emptypb.Empty{}, &emptypb.Empty{}))
	require.Empty(t, g.Addr("none"))
}

func TestHealth_AnswersForTheServerAlone(t *testing.T) {
	t.Parallel()
	g := start(t, fileConfig(t, "routes: []"))
	h := grpc_health_v1.NewHealthClient(dial(t, g.Addr("main")))
	r, err := h.Check(testContext(t), &grpc_health_v1.HealthCheckRequest{}, grpc.UseCompressor("gzip"))
	require.NoError(t, err)
	require.Equal(t, grpc_health_v1.HealthCheckResponse_SERVING, r.Status)
	_, err = h.Check(testContext(t), &grpc_health_v1.HealthCheckRequest{Service: "other"})
	require.Equal(t, codes.NotFound, status.Code(err), err)
	w, err := h.Watch(testContext(t), &grpc_health_v1.HealthCheckRequest{Service: "other"})
	require.NoError(t, err)
	r, err = w.Recv()
	require.NoError(t, err)
	require.Equal(t, grpc_health_v1.HealthCheckResponse_SERVICE_UNKNOWN, r.Status)
}

func TestStart_SaysWhyItCannot(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer taken.Close()
	notADir := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(notADir, nil, 0o600))
	for name, c := range map[string]struct {
		change func(*conf.Config)
		want   string
	}{
		"port in use":         {func(c *conf.Config) { c.Listeners[0].Address = taken.Addr().String() }, "listener main: address " + taken.Addr().String() + " is in use: stop what listens there or choose another address"},
		"admin port in use":   {func(c *conf.Config) { c.Admin.Address = taken.Addr().String() }, "admin: address " + taken.Addr().String() + " is in use"},
		"foreign address":     {func(c *conf.Config) { c.Listeners[0].Address = "192.0.2.1:80" }, "listener main: address 192.0.2.1:80 is not an address of this machine"},
		"no routes file":      {func(c *conf.Config) { c.Routes.File += ".none" }, "routes.yaml.none"},
		"bad routes file":     {func(c *conf.Config) { c.Routes.File = badRoutes(t) }, `match[0].method: "x", want /pkg.Service/Method`},
		"bad configuration":   {func(c *conf.Config) { c.Drain.Timeout = -1 }, "drain.timeout: -1ns, want 1ms to"},
		"data dir not a dir":  {func(c *conf.Config) { c.Etcd = embedded(filepath.Join(notADir, "data"), "127.0.0.1:0") }, notADir},
		"etcd port in use":    {func(c *conf.Config) { c.Etcd = embedded(t.TempDir(), taken.Addr().String()) }, taken.Addr().String()},
		"etcd file not there": {func(c *conf.Config) { c.Etcd = external("127.0.0.1:1"); c.Etcd.CAFile = "/none.pem" }, "/none.pem"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := fileConfig(t, "routes: []")
			c.change(cfg)
			g, err := Start(testContext(t), cfg, slog.New(slog.DiscardHandler))
			if err == nil {
				g.Shutdown(context.Background())
			}
			require.ErrorContains(t, err, c.want)
		})
	}
}

func badRoutes(t *testing.T) string {
	path := filepath.Join(t.TempDir(), "bad.yaml")
	require.NoError(t, os.WriteFile(path, []byte("routes: [{name: a, match: [{method: x}], backends: [{endpoints: [{address: 'h:1'}]}]}]"), 0o600))
	return path
}

func embedded(dir, addr string) conf.Etcd {
	e := conf.Default().Etcd
	e.Embedded = conf.EmbeddedEtcd{Dir: dir, Address: addr}
	return e
}

func external(endpoint string) conf.Etcd {
	e := conf.Default().Etcd
	e.Endpoints = []string{endpoint}
	e.Snapshot = ""
	return e
}

func TestReady_NotBeforeEtcdHasAnswered(t *testing.T) {
	t.Parallel()
	cfg := fileConfig(t, "routes: []")
	cfg.Etcd = external(loopback.Address(t))
	g := start(t, cfg)
	require.ErrorContains(t, g.Ready(), "no routes from etcd yet")
	require.Eventually(t, func() bool { return strings.Contains(g.Ready().Error(), "connection refused") }, 10*time.Second, time.Millisecond, "it says why")
}

// awaitDeletion waits until a registration is deleted; that it leaves is written before.
func awaitDeletion(t *testing.T, changes clientv3.WatchChan) {
	t.Helper()
	for {
		select {
		case resp := <-changes:
			for _, e := range resp.Events {
				if e.Type == clientv3.EventTypeDelete {
					return
				}
			}
		case <-time.After(waitLimit):
			t.Fatal("the registration stays")
		}
	}
}

// ownResolver has a name of its own, because Kitex keeps the first resolver of a name for all later clients.
type ownResolver struct {
	discovery.Resolver
	name string
}

func (r ownResolver) Name() string { return r.name }

func TestRegister_KitexClientsFindTheProxy(t *testing.T) {
	t.Parallel()
	b := startBackend(t)
	cfg := fileConfig(t, oneRoute(b.addr))
	cfg.Etcd = embedded(t.TempDir(), "127.0.0.1:0")
	cfg.Register.Service = "framegate"
	cfg.Register.Tags = map[string]string{"zone": "a"}
	g := start(t, cfg)
	require.Eventually(t, func() bool { return g.Ready() == nil }, waitLimit, 10*time.Millisecond)

	registry, err := etcdregistry.NewEtcdResolver(g.EtcdEndpoints())
	require.NoError(t, err)
	cli, err := healthsvc.NewClient(cfg.Register.Service, client.WithResolver(ownResolver{registry, g.Addr("main")}), client.WithTransportProtocol(transport.GRPC))
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		r, err := cli.Check(testContext(t), &v1.HealthCheckRequest{})
		return err == nil && r.Status == v1.HealthCheckResponse_SERVING
	}, waitLimit, 50*time.Millisecond)

	found, err := registry.Resolve(testContext(t), cfg.Register.Service)
	require.NoError(t, err)
	require.Len(t, found.Instances, 1)
	require.Equal(t, g.Addr("main"), found.Instances[0].Address().String())
	require.Equal(t, 10, found.Instances[0].Weight())
	zone, _ := found.Instances[0].Tag("zone")
	require.Equal(t, "a", zone)

	etcd, err := clientv3.New(clientv3.Config{Endpoints: g.EtcdEndpoints(), Logger: zap.NewNop()})
	require.NoError(t, err)
	defer etcd.Close()
	gone := etcd.Watch(testContext(t), "kitex/registry-etcd/framegate/", clientv3.WithPrefix())
	go g.Shutdown(context.Background())
	awaitDeletion(t, gone)
}

// registry-etcd would write ::1:PORT, at which nobody can connect.
func TestRegister_IPv6AddressHasItsBrackets(t *testing.T) {
	t.Parallel()
	b := startBackend(t)
	close(b.release)
	ln, err := net.Listen("tcp", "[::1]:0")
	if err != nil {
		t.Skip("no IPv6 here: ", err)
	}
	require.NoError(t, ln.Close())
	cfg := fileConfig(t, oneRoute(b.addr))
	cfg.Listeners[0].Address = "[::1]:0"
	cfg.Etcd = embedded(t.TempDir(), "127.0.0.1:0")
	cfg.Register.Service = "framegate"
	g := start(t, cfg)
	addr := g.Addr("main")
	cli, err := clientv3.New(clientv3.Config{Endpoints: g.EtcdEndpoints(), Logger: zap.NewNop()})
	require.NoError(t, err)
	defer cli.Close()
	changed := cli.Watch(testContext(t), "kitex/registry-etcd/framegate/", clientv3.WithPrefix(), clientv3.WithRev(1))
	put := (<-changed).Events[0].Kv
	require.Equal(t, "kitex/registry-etcd/framegate/"+addr, string(put.Key))
	require.Contains(t, string(put.Value), `"address":"`+addr+`"`)
	found, err := etcdregistry.NewEtcdResolver(g.EtcdEndpoints())
	require.NoError(t, err)
	kc, err := healthsvc.NewClient(cfg.Register.Service, client.WithResolver(ownResolver{found, addr}), client.WithTransportProtocol(transport.GRPC))
	require.NoError(t, err)
	_, err = kc.Check(testContext(t), &v1.HealthCheckRequest{})
	require.NoError(t, err)
	require.Eventually(t, func() bool { return len(g.resolver.Instances()["framegate"]) == 1 }, waitLimit, 10*time.Millisecond, "it is no bad document")
	require.Zero(t, g.SourceStatus().Rejected)

	store := etcdstore.NewServices(cli, etcdstore.DefaultServicePrefix)
	_, err = store.SetWeight(testContext(t), "framegate", addr, 3) // somebody else writes the key, but not on a lease of his own
	require.NoError(t, err)
	require.Equal(t, clientv3.EventTypePut, (<-changed).Events[0].Type)
	go g.Shutdown(context.Background())
	awaitDeletion(t, changed)
}

func TestRegister_AddressIsOneThatOthersReach(t *testing.T) {
	machine := machineAddress()
	for _, c := range []struct{ listener, ip, port, want string }{
		{"127.0.0.1:1", "", "", "127.0.0.1:1"},
		{"gate.example:1", "", "", "gate.example:1"},
		{"[::]:1", "", "", net.JoinHostPort(cmp.Or(machine, "::"), "1")},
		{"0.0.0.0:1", "", "", net.JoinHostPort(cmp.Or(machine, "0.0.0.0"), "1")},
		{"[::1]:1", "", "", "[::1]:1"},
		{"[fe80::1%eth0]:1", "", "", "[fe80::1%eth0]:1"},
		{"127.0.0.1:1", "2001:db8::1", "", "[2001:db8::1]:1"},
		{"[::]:1", "2001:db8::1", "443", "[2001:db8::1]:443"},
		{"[::1]:1", "10.0.0.1", "", "10.0.0.1:1"},
		{"[::1]:1", "a.name", "", "a.name:1"},
	} {
		t.Setenv("KITEX_IP_TO_REGISTRY", c.ip)
		t.Setenv("KITEX_PORT_TO_REGISTRY", c.port)
		require.Equal(t, c.want, reachableAddress(c.listener), "%+v", c)
	}
}

// The old process deregisters when the new one is registered already, under the same key.
func TestRegister_SuccessorOnTheSameAddressStaysRegistered(t *testing.T) {
	t.Parallel()
	etcd := start(t, func() *conf.Config {
		cfg := fileConfig(t, "routes: []")
		cfg.Etcd = embedded(t.TempDir(), "127.0.0.1:0")
		return cfg
	}())
	require.Eventually(t, func() bool { return etcd.Ready() == nil }, waitLimit, 10*time.Millisecond)
	addr := loopback.Address(t)
	startShared := func() *Gateway {
		cfg := fileConfig(t, "routes: []")
		cfg.Listeners[0].Address, cfg.Listeners[0].ReusePort = addr, true
		cfg.Etcd = external(etcd.EtcdEndpoints()[0])
		cfg.Register.Service = "framegate"
		return start(t, cfg)
	}
	cli, err := clientv3.New(clientv3.Config{Endpoints: etcd.EtcdEndpoints(), Logger: zap.NewNop()})
	require.NoError(t, err)
	defer cli.Close()
	changed := cli.Watch(testContext(t), "kitex/registry-etcd/framegate/"+addr)
	next := func() *clientv3.Event {
		select {
		case resp := <-changed:
			return resp.Events[0]
		case <-time.After(waitLimit):
			t.Fatal("no change of the registration")
			panic("unreachable")
		}
	}
	older := startShared()
	require.Equal(t, clientv3.EventTypePut, next().Type)
	younger := startShared()
	second := next()
	require.Equal(t, clientv3.EventTypePut, second.Type)

	older.Shutdown(context.Background())
	got, err := cli.Get(testContext(t), "kitex/registry-etcd/framegate/"+addr)
	require.NoError(t, err)
	require.Len(t, got.Kvs, 1, "the younger one is registered")
	require.Equal(t, second.Kv.ModRevision, got.Kvs[0].ModRevision)
	younger.Shutdown(context.Background())
	awaitDeletion(t, changed)
}

func TestStart_EtcdWithUsersMayComeLater(t *testing.T) {
	t.Parallel()
	cfg := fileConfig(t, "routes: []")
	cfg.Etcd = external(loopback.Address(t))
	cfg.Etcd.Username, cfg.Etcd.Password, cfg.Etcd.DialTimeout = "u", "p", 100*time.Millisecond
	g := start(t, cfg)
	require.ErrorContains(t, g.Ready(), "no routes from etcd yet")
	require.Eventually(t, func() bool { return strings.Contains(g.Ready().Error(), "connection refused") }, 10*time.Second, time.Millisecond, "it says why")
}
