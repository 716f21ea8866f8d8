package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	grpchealth "google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"

	"github.com/framegate/framegate/resolver/health"
	"github.com/framegate/framegate/resolver/spec"
	"github.com/framegate/framegate/test/etcdtest"
	"github.com/framegate/framegate/test/routetest"
	"github.com/framegate/framegate/test/testlog"
)

// healthServer is a grpc-go server with the health service.
type healthServer struct {
	*grpchealth.Server
	address string
	checks  atomic.Int64
}

func newHealthServer(t *testing.T) *healthServer {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	h := &healthServer{Server: grpchealth.NewServer(), address: ln.Addr().String()}
	s := grpc.NewServer(grpc.UnaryInterceptor(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
		h.checks.Add(1)
		return next(ctx, req)
	}))
	grpc_health_v1.RegisterHealthServer(s, h)
	served := make(chan error, 1)
	go func() { served <- s.Serve(ln) }()
	t.Cleanup(func() {
		s.Stop()
		if err := <-served; !errors.Is(err, grpc.ErrServerStopped) { // when it did not come to serve
			require.NoError(t, err)
		}
	})
	return h
}

func (h *healthServer) set(s grpc_health_v1.HealthCheckResponse_ServingStatus) {
	h.SetServingStatus("", s)
}

const (
	checkInterval = time.Second // in which a busy machine answers
	checks        = "health: {type: grpc, interval: 1s, rise: 2, fall: 2}"
	patience      = 30 * time.Second
)

func TestHealth_NotServingTakesAnEndpointOutAndServingBringsItBack(t *testing.T) {
	t.Parallel()
	sick, well := newHealthServer(t), newHealthServer(t)
	r, log := newRouter(), &testlog.Buffer{}
	t.Cleanup(r.Close)
	r.SetLog(log.Logger())
	r.Apply("file", []*spec.Route{routetest.MustRoute(t, routetest.Doc("r", "*", routetest.Backend(checks, sick.address, well.address)))})
	etcdtest.Eventually(t, patience, "both are checked", func() bool {
		return !endpoint(t, r, sick.address).Checked.IsZero() && !endpoint(t, r, well.address).Checked.IsZero()
	})
	require.Len(t, calls(t, r, anyCall, 200), 2)

	sick.set(grpc_health_v1.HealthCheckResponse_NOT_SERVING)
	before := sick.checks.Load()
	etcdtest.Eventually(t, patience, "out", func() bool { return !endpoint(t, r, sick.address).Usable })
	require.InDelta(t, 2, sick.checks.Load()-before, 1, "one may have been under way")
	require.Equal(t, map[string]int{well.address: 200}, calls(t, r, anyCall, 200))
	require.ErrorContains(t, endpoint(t, r, sick.address).HealthError, "NOT_SERVING")
	require.Contains(t, log.String(), "endpoint unhealthy")

	sick.set(grpc_health_v1.HealthCheckResponse_SERVING)
	etcdtest.Eventually(t, patience, "back", func() bool { return endpoint(t, r, sick.address).Usable })
	require.Len(t, calls(t, r, anyCall, 200), 2)
	require.NoError(t, endpoint(t, r, sick.address).HealthError)
}

func TestHealth_RoutesOfAServiceCheckEachInstanceOnce(t *testing.T) {
	t.Parallel()
	h := newHealthServer(t)
	const doc = `{name: %[1]s, match: [{method: "/%[1]s.S/*"}], backends: [{service: s, %[2]s}]}`
	r := routed(t,
		fmt.Sprintf(doc, "a", checks), fmt.Sprintf(doc, "b", checks), fmt.Sprintf(doc, "c", "panic_percent: 10, "+checks),
		fmt.Sprintf(`{name: d, match: [{method: "/d.S/*"}], backends: [{%s, endpoints: [{address: %q}]}]}`, checks, h.address),
	)
	r.SetInstances("s", instances(h.address))
	etcdtest.Eventually(t, patience, "checks", func() bool { return h.checks.Load() > 0 })
	from, began := h.checks.Load(), time.Now()
	etcdtest.Eventually(t, patience, "more checks", func() bool { return h.checks.Load() >= from+8 })
	require.Greater(t, time.Since(began), 5*checkInterval, "four users would take two intervals")
}

func TestHealth_NoChecksWithoutTheKeyAndNoneAfterTheRoute(t *testing.T) {
	t.Parallel()
	without, with := newHealthServer(t), newHealthServer(t)
	plain := routetest.MustRoute(t, fmt.Sprintf(`{name: p, match: [{method: "/p.S/*"}], backends: [{endpoints: [{address: %q}]}]}`, without.address))
	checked := routetest.MustRoute(t, fmt.Sprintf(`{name: c, match: [{method: "*"}], backends: [{%s, endpoints: [{address: %q}]}]}`, checks, with.address))
	r := newRouter()
	defer r.Close()
	r.Apply("file", []*spec.Route{plain, checked})
	etcdtest.Eventually(t, patience, "checks", func() bool { return with.checks.Load() >= 3 })
	require.Zero(t, without.checks.Load())

	isChecked := func() bool {
		_, is := r.Set.checker.Status(with.address, *checked.Backends[0].Health)
		return is
	}
	require.True(t, isChecked())
	r.Apply("file", []*spec.Route{plain})
	require.False(t, isChecked())

	r.Apply("file", []*spec.Route{routetest.MustRoute(t, fmt.Sprintf(`{name: f, match: [{method: "*"}], backends: [{%s, service: s}]}`, checks))})
	r.SetInstances("s", instances(with.address))
	require.True(t, isChecked())
	r.SetInstances("s", instances(without.address))
	require.False(t, isChecked())
}

// An endpoint that was out under checks that the route no longer has gets calls again.
func TestHealth_ChecksThatAreTakenAwayAreForgotten(t *testing.T) {
	t.Parallel()
	h := newHealthServer(t)
	h.set(grpc_health_v1.HealthCheckResponse_NOT_SERVING)
	const doc = `{name: r, match: [{method: "*"}], backends: [{%s panic_percent: 0, endpoints: [{address: %q}]}]}`
	with := routetest.MustRoute(t, fmt.Sprintf(doc, checks+",", h.address))
	r := newRouter()
	defer r.Close()
	r.Apply("file", []*spec.Route{with})
	out := func() bool { return !endpoint(t, r, h.address).Usable }
	etcdtest.Eventually(t, patience, "out", out)
	without := routetest.MustRoute(t, fmt.Sprintf(doc, "", h.address))
	r.Update("file", []*spec.Route{with}, []*spec.Route{without})
	require.Equal(t, h.address, call(t, r, anyCall, Succeeded))
	_, isChecked := r.Set.checker.Status(h.address, *with.Backends[0].Health)
	require.False(t, isChecked)

	other := routetest.MustRoute(t, fmt.Sprintf(doc, "health: {type: tcp, interval: 100ms},", h.address))
	r.Update("file", []*spec.Route{without}, []*spec.Route{with})
	etcdtest.Eventually(t, patience, "out again", out)
	r.Update("file", []*spec.Route{with}, []*spec.Route{other})
	etcdtest.Eventually(t, patience, "in, as other checks have it", func() bool { return endpoint(t, r, h.address).Usable })
}

// What an ended subscription says does not count: it may come late.
func TestHealth_LateWordOfAnEndedSubscriptionIsNotHeard(t *testing.T) {
	t.Parallel()
	h := newHealthServer(t)
	r := routed(t, fmt.Sprintf(`{name: r, match: [{method: "*"}], backends: [{health: {type: grpc, interval: 1h}, endpoints: [{address: %q}]}]}`, h.address))
	for _, c := range r.Set.byKey {
		m := c.members[0]
		before := m.subscription
		require.NotNil(t, before)
		c.configure(settings{panicAt: 0})
		c.checked(m, before, health.Status{})
		require.True(t, endpoint(t, r, h.address).Healthy)
	}
}
