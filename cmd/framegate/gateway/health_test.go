package gateway

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	grpchealth "google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/framegate/framegate/conf"
	"github.com/framegate/framegate/test/loopback"
)

const (
	serving    = grpc_health_v1.HealthCheckResponse_SERVING
	notServing = grpc_health_v1.HealthCheckResponse_NOT_SERVING
	unknown    = grpc_health_v1.HealthCheckResponse_SERVICE_UNKNOWN
)

// startHealth starts a grpc-go server with the standard health service.
func startHealth(t *testing.T) (addr string, h *grpchealth.Server) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s, h := grpc.NewServer(), grpchealth.NewServer()
	grpc_health_v1.RegisterHealthServer(s, h)
	go func() { _ = s.Serve(ln) }()
	t.Cleanup(s.Stop)
	return ln.Addr().String(), h
}

func checkService(t *testing.T, cc *grpc.ClientConn, service string) (grpc_health_v1.HealthCheckResponse_ServingStatus, error) {
	t.Helper()
	resp, err := grpc_health_v1.NewHealthClient(cc).Check(testContext(t), &grpc_health_v1.HealthCheckRequest{Service: service})
	return resp.GetStatus(), err
}

// watchService returns what is told of a service from now on.
func watchService(t *testing.T, cc *grpc.ClientConn, service string) func() grpc_health_v1.HealthCheckResponse_ServingStatus {
	t.Helper()
	w, err := grpc_health_v1.NewHealthClient(cc).Watch(testContext(t), &grpc_health_v1.HealthCheckRequest{Service: service})
	require.NoError(t, err)
	return func() grpc_health_v1.HealthCheckResponse_ServingStatus {
		t.Helper()
		resp, err := w.Recv()
		require.NoError(t, err)
		return resp.Status
	}
}

func TestHealth_OfAServiceThatARouteServesIsThatOfItsEndpoints(t *testing.T) {
	t.Parallel()
	addr, h := startHealth(t)
	cfg := fileConfig(t, fmt.Sprintf(`routes: [{name: echo, match: [{method: /echo.Echo/*}], backends: [{endpoints: [{address: %q}], panic_percent: 50,
  health: {type: grpc, interval: 200ms, timeout: 200ms, rise: 1, fall: 5}}]}]`, addr))
	cfg.Routes.ReloadInterval = 10 * time.Millisecond
	g := start(t, cfg)
	cc := dial(t, g.Addr("main"))
	require.Eventually(t, func() bool { s, err := checkService(t, cc, "echo.Echo"); return err == nil && s == serving }, waitLimit, 10*time.Millisecond)
	told, strange := watchService(t, cc, "echo.Echo"), watchService(t, cc, "no.Service")
	require.Equal(t, serving, told())
	require.Equal(t, unknown, strange())
	_, err := checkService(t, cc, "no.Service")
	require.Equal(t, codes.NotFound, status.Code(err))

	h.SetServingStatus("", notServing)
	require.Equal(t, notServing, told())
	s, err := checkService(t, cc, "echo.Echo")
	require.NoError(t, err)
	require.Equal(t, notServing, s, "also while calls go to all, since too few are usable")
	s, err = checkService(t, cc, "")
	require.NoError(t, err)
	require.Equal(t, serving, s, "framegate itself")
	h.SetServingStatus("", serving)
	require.Equal(t, serving, told())

	require.NoError(t, os.WriteFile(cfg.Routes.File, []byte("routes: []"), 0o600))
	require.Equal(t, unknown, told())
	require.NoError(t, os.WriteFile(cfg.Routes.File, []byte(oneRoute(addr)), 0o600))
	require.Equal(t, serving, told())
	require.Equal(t, serving, strange(), "a route for all")

	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		g.Shutdown(context.Background())
	}()
	require.Equal(t, notServing, told())
	require.Equal(t, notServing, strange())
	<-stopped
}

// What refuses connections is not usable, though no health checks say so. It is tried again while somebody asks, who sends no
// calls by then.
func TestHealth_OfAServiceThatRefusesConnections(t *testing.T) {
	t.Parallel()
	addr := loopback.Address(t)
	g := start(t, fileConfig(t, oneRoute(addr)))
	cc := dial(t, g.Addr("main"))
	told := watchService(t, cc, "echo.Echo")
	require.Equal(t, serving, told(), "nobody has tried yet")
	require.Equal(t, codes.Unavailable, status.Code(cc.Invoke(testContext(t), "/echo.Echo/Say", &grpc_health_v1.HealthCheckRequest{}, &grpc_health_v1.HealthCheckResponse{})))
	require.Equal(t, notServing, told())
	again, err := net.Listen("tcp", addr)
	require.NoError(t, err)
	server := grpc.NewServer()
	go func() { _ = server.Serve(again) }()
	t.Cleanup(server.Stop)
	require.Equal(t, serving, told())
}

func TestHealth_OfAServiceIsThatOfTheCallersRoute(t *testing.T) {
	t.Parallel()
	addr, _ := startHealth(t)
	g := start(t, fileConfig(t, fmt.Sprintf(`routes:
- {name: gold, match: [{method: /echo.Echo/*, headers: [{name: x-tier, exact: gold}]}], backends: [{endpoints: [{address: %q}]}]}
- {name: rest, match: [{method: /echo.Echo/*}], backends: [{weight: 0, endpoints: [{address: %q}]}]}`, addr, addr)))
	cc := dial(t, g.Addr("main"))
	s, err := checkService(t, cc, "echo.Echo")
	require.NoError(t, err)
	require.Equal(t, notServing, s)
	resp, err := grpc_health_v1.NewHealthClient(cc).Check(metadata.AppendToOutgoingContext(testContext(t), "x-tier", "gold"), &grpc_health_v1.HealthCheckRequest{Service: "echo.Echo"})
	require.NoError(t, err)
	require.Equal(t, serving, resp.Status)
}

func TestHealth_RoutedListenerLeavesItToRoutes(t *testing.T) {
	t.Parallel()
	addr, h := startHealth(t)
	h.SetServingStatus("deep.Down", serving)
	h.SetServingStatus("", notServing)
	for _, maxCalls := range []int{0, 100} {
		cfg := fileConfig(t, fmt.Sprintf(`routes: [{name: hc, match: [{method: /grpc.health.v1.Health/*}], backends: [{endpoints: [{address: %q}]}]}]`, addr))
		cfg.Admin.Address, cfg.Admin.Token = "127.0.0.1:0", token
		routed := conf.DefaultListener()
		routed.Name, routed.Address, routed.Health, routed.MaxCalls = "routed", "127.0.0.1:0", conf.HealthRouted, maxCalls
		cfg.Listeners = append(cfg.Listeners, routed)
		g := start(t, cfg)
		through, own := dial(t, g.Addr("routed")), dial(t, g.Addr("main"))
		s, err := checkService(t, through, "deep.Down")
		require.NoError(t, err)
		require.Equal(t, serving, s)
		s, err = checkService(t, through, "")
		require.NoError(t, err)
		require.Equal(t, notServing, s, "of the endpoint")
		told := watchService(t, through, "deep.Down")
		require.Equal(t, serving, told())
		require.Equal(t, 1, g.proxy.Entrance("routed").Calls, "the watch")
		h.SetServingStatus("deep.Down", notServing)
		require.Equal(t, notServing, told())
		h.SetServingStatus("deep.Down", serving)

		s, err = checkService(t, own, "")
		require.NoError(t, err)
		require.Equal(t, serving, s, "of framegate")
		_, err = checkService(t, own, "deep.Down")
		require.Equal(t, codes.NotFound, status.Code(err))

		for listener, want := range map[string]string{"main": "listener main answers it itself (health: own)", "routed": ""} {
			var x struct {
				Own    string
				Chosen *struct{ Route string }
				Target *struct{ Address string }
			}
			require.NoError(t, json.Unmarshal([]byte(ask(t, g, "/v1/explain?method=/grpc.health.v1.Health/Check&listener="+listener)), &x))
			require.Equal(t, want, x.Own)
			require.Equal(t, want == "", x.Chosen != nil && x.Target != nil && x.Target.Address == addr, listener)
		}
		g.Shutdown(canceledContext())
	}
}

func canceledContext() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

func TestHealth_OwnServiceIsForTwoMethodsAlone(t *testing.T) {
	t.Parallel()
	addr, _ := startHealth(t)
	cfg := fileConfig(t, oneRoute(addr))
	cfg.AccessLog = conf.AccessLog{Path: filepath.Join(t.TempDir(), "access.log"), Sample: 1}
	cc := dial(t, start(t, cfg).Addr("main"))
	resp, err := grpc_health_v1.NewHealthClient(cc).List(testContext(t), &grpc_health_v1.HealthListRequest{})
	require.NoError(t, err, "as explain says, it goes to the endpoint")
	require.NotEmpty(t, resp.Statuses)
}

// Watches are bounded for themselves, on all listeners together: calls and single checks do not suffer from them.
func TestHealth_WatchesHaveABoundOfTheirOwn(t *testing.T) {
	t.Parallel()
	addr, _ := startHealth(t)
	cfg := fileConfig(t, oneRoute(addr))
	cfg.Admin.Address, cfg.Admin.Token = "127.0.0.1:0", token
	cfg.Limits.MaxHealthWatches = 3
	cfg.Listeners[0].MaxCalls = 1
	second := conf.DefaultListener()
	second.Name, second.Address = "second", "127.0.0.1:0"
	cfg.Listeners = append(cfg.Listeners, second)
	g := start(t, cfg)
	one, two := dial(t, g.Addr("main")), dial(t, g.Addr("second"))
	first, leave := context.WithCancel(testContext(t))
	defer leave()
	w, err := grpc_health_v1.NewHealthClient(one).Watch(first, &grpc_health_v1.HealthCheckRequest{})
	require.NoError(t, err)
	_, err = w.Recv()
	require.NoError(t, err)
	require.Equal(t, serving, watchService(t, one, "echo.Echo")())
	require.Equal(t, serving, watchService(t, two, "")())

	for _, service := range []string{"", "echo.Echo", "no.Service"} {
		w, err := grpc_health_v1.NewHealthClient(two).Watch(testContext(t), &grpc_health_v1.HealthCheckRequest{Service: service})
		require.NoError(t, err)
		_, err = w.Recv()
		require.Equal(t, codes.ResourceExhausted, status.Code(err), err)
		require.Equal(t, []string{"overloaded"}, w.Trailer().Get("framegate-error"))
		require.NotEmpty(t, w.Trailer().Get("grpc-retry-pushback-ms"))
	}
	s, err := checkService(t, one, "")
	require.NoError(t, err)
	require.Equal(t, serving, s)
	_, err = grpc_health_v1.NewHealthClient(one).List(testContext(t), &grpc_health_v1.HealthListRequest{})
	require.NoError(t, err, "a call")
	require.Equal(t, []string{"framegate_health_watches 3"}, series(ask(t, g, "/metrics"), "framegate_health_watches "))
	require.Equal(t, []string{"framegate_health_watches_refused_total 3"}, series(ask(t, g, "/metrics"), "framegate_health_watches_refused_total "))

	leave()
	require.Eventually(t, func() bool { now, _ := g.health.watching(); return now == 2 }, waitLimit, 10*time.Millisecond)
	require.Equal(t, serving, watchService(t, two, "")(), "there is room again")
	next := *cfg
	next.Limits.MaxHealthWatches = 0
	require.NoError(t, g.Reload(testContext(t), &next))
	require.Equal(t, serving, watchService(t, two, "")(), "no bound any more")
}
