package test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cloudwego/kitex/client"
	"github.com/cloudwego/kitex/pkg/discovery"
	"github.com/cloudwego/kitex/pkg/registry"
	"github.com/cloudwego/kitex/pkg/rpcinfo"
	"github.com/cloudwego/kitex/pkg/transmeta"
	"github.com/cloudwego/kitex/server"
	"github.com/cloudwego/kitex/transport"
	etcdregistry "github.com/kitex-contrib/registry-etcd"
	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/framegate/framegate/kitex_gen/echo"
	echosvc "github.com/framegate/framegate/kitex_gen/echo/echo"
	"github.com/framegate/framegate/test/testbed"
)

// namedResolver has a name that no other has: Kitex keeps the first resolver of a name for all later clients of the process,
// those of an address too, whose name is the address; and asks it every few seconds as long as that lives. So it can be
// ended.
type namedResolver struct {
	discovery.Resolver
	name  string
	ended atomic.Bool
}

func (r *namedResolver) Name() string { return r.name }

func (r *namedResolver) Resolve(ctx context.Context, desc string) (discovery.Result, error) {
	if r.ended.Load() {
		return discovery.Result{}, errors.New("the test has ended")
	}
	return r.Resolver.Resolve(ctx, desc)
}

// registered starts a Kitex server that registers itself through registry-etcd.
func registered(t testing.TB, endpoint, name string, e *testbed.Echo, tags map[string]string) (stop func()) {
	t.Helper()
	reg, err := etcdregistry.NewEtcdRegistry([]string{endpoint})
	require.NoError(t, err)
	_, stop = testbed.StartEcho(t, e,
		server.WithRegistry(reg),
		server.WithServerBasicInfo(&rpcinfo.EndpointBasicInfo{ServiceName: name}),
		server.WithRegistryInfo(&registry.Info{ServiceName: name, Weight: 10, Tags: tags}),
	)
	return stop
}

// A Kitex client finds framegate in etcd, framegate finds the Kitex server there: registry-etcd at both ends.
func TestRegistry_KitexAtBothEnds(t *testing.T) {
	t.Parallel()
	etcd := testbed.NewEtcd(t)
	routes := etcdRoutes{t, testbed.DialEtcd(t, etcd.Endpoint)}
	routes.put("echo", `{name: echo, match: [{method: /echo.Echo/*}], backends: [{service: shop.echo, tags: {cluster: a}}]}`)
	proxy := testbed.NewProxy(t, "", testbed.EtcdAt(etcd.Endpoint), testbed.RegisterAs("gate"))
	found, err := etcdregistry.NewEtcdResolver([]string{etcd.Endpoint})
	require.NoError(t, err)
	testbed.Poll(t, func() error {
		_, err := found.Resolve(patient(t), "gate")
		return err
	})
	named := &namedResolver{Resolver: found, name: "registry of " + etcd.Endpoint + time.Now().String()}
	t.Cleanup(func() { named.ended.Store(true) })
	c, err := echosvc.NewClient("gate", client.WithResolver(named),
		client.WithMetaHandler(transmeta.ClientHTTP2Handler), client.WithTransportProtocol(transport.GRPC))
	require.NoError(t, err)
	say := func(ctx context.Context) (string, error) {
		reply, err := c.Say(ctx, &echo.Request{Message: "hello"})
		if err != nil {
			return "", err
		}
		return reply.Message, nil
	}
	_, err = say(patient(t)) // it is registered once its routes are in force
	require.ErrorContains(t, err, "no endpoint that may be used")

	registered(t, etcd.Endpoint, "shop.echo", &testbed.Echo{}, map[string]string{"cluster": "b"}) // not selected
	stop := registered(t, etcd.Endpoint, "shop.echo", &testbed.Echo{}, map[string]string{"cluster": "a", "zone": "z"})
	began := time.Now()
	testbed.Poll(t, func() error {
		got, err := say(patient(t))
		if err == nil && got != "hello" {
			return fmt.Errorf("got %q", got)
		}
		return err
	})
	require.LessOrEqual(t, time.Since(began), 2*liveWithin, "registry-etcd itself registers a second after the server's start")
	require.Equal(t, 1, proxy.UpstreamConnections(), "the other cluster gets no calls")

	// A call in flight ends in peace while its endpoint leaves.
	stream, err := c.Chat(patientFor(t, 5))
	require.NoError(t, err)
	require.NoError(t, stream.Send(&echo.Request{Message: "one"}))
	_, err = stream.Recv()
	require.NoError(t, err)
	resp, err := routes.cli.Get(patient(t), "kitex/registry-etcd/shop.echo/", clientv3.WithPrefix())
	require.NoError(t, err)
	for _, kv := range resp.Kvs {
		_, err := routes.cli.Delete(patient(t), string(kv.Key))
		require.NoError(t, err)
	}
	began = time.Now()
	cc := testbed.DialGRPC(t, proxy.Addr)
	awaitAnswer(t, cc, "/echo.Echo/Say", "no_endpoint")
	require.LessOrEqual(t, time.Since(began), liveWithin, "an instance that left gets no new calls")
	require.NoError(t, stream.Send(&echo.Request{Message: "two"}))
	reply, err := stream.Recv()
	require.NoError(t, err)
	require.Equal(t, "two", reply.Message)
	require.NoError(t, stream.Close())
	stop()
}

// Nine of ten calls go to one service and one to another.
func TestRegistry_SplitsBetweenServices(t *testing.T) {
	t.Parallel()
	const calls = 1000
	etcd := testbed.NewEtcd(t)
	routes := etcdRoutes{t, testbed.DialEtcd(t, etcd.Endpoint)}
	for _, name := range []string{"stable", "canary"} {
		addr := answering(t, name)
		_, err := routes.cli.Put(patient(t), "kitex/registry-etcd/"+name+"/"+addr, fmt.Sprintf(`{"network":"tcp","address":%q,"weight":10,"tags":null}`, addr))
		require.NoError(t, err)
	}
	routes.put("split", `{name: split, match: [{method: "*"}], backends: [{weight: 90, service: stable}, {weight: 10, service: canary}, {weight: 0, service: stable, tags: {never: used}}]}`)
	cc := testbed.DialGRPC(t, testbed.NewProxy(t, "", testbed.EtcdAt(etcd.Endpoint)).Addr)
	testbed.Poll(t, func() error {
		if got := answerOf(t, cc, "/a.B/C"); got != "stable" && got != "canary" {
			return fmt.Errorf("answered by %q", got)
		}
		return nil
	})
	got := map[string]int{}
	for range calls {
		got[answerOf(t, cc, "/a.B/C")]++
	}
	require.Len(t, got, 2)
	require.InDelta(t, 0.1, float64(got["canary"])/calls, 0.05, "five standard deviations of so many calls")
}

// What of a call decides its route is matched as it comes from real clients.
func TestRegistry_MatchesAuthorityAndHeaders(t *testing.T) {
	t.Parallel()
	gold, tenant, plain := answering(t, "gold"), answering(t, "tenant"), answering(t, "plain")
	proxy := testbed.NewProxy(t, fmt.Sprintf(`
routes:
- name: gold
  match: [{method: /a.B/C, headers: [{name: x-tier, exact: gold}, {name: x-trial, present: false}]}]
  backends: [{endpoints: [{address: %q}]}]
- name: tenant
  match: [{method: "/a.B/*", authority: "*.tenant.example.com"}]
  priority: 1
  backends: [{endpoints: [{address: %q}]}]
- name: plain
  match: [{method: "*"}]
  backends: [{endpoints: [{address: %q}]}]
`, gold, tenant, plain))
	answer := func(authority string, header ...string) string {
		cc := testbed.DialGRPC(t, proxy.Addr, grpc.WithAuthority(authority))
		var reply []byte
		err := cc.Invoke(metadata.AppendToOutgoingContext(patient(t), header...), "/a.B/C", &reply, &reply)
		require.NoError(t, err)
		return string(reply)
	}
	require.Equal(t, "plain", answer("x.example.com"))
	require.Equal(t, "gold", answer("x.example.com", "x-tier", "gold"))
	require.Equal(t, "plain", answer("x.example.com", "x-tier", "golden"))
	require.Equal(t, "gold", answer("x.example.com", "x-tier", "lead", "x-tier", "gold"))
	require.Equal(t, "plain", answer("x.example.com", "x-tier", "gold", "x-trial", ""))
	require.Equal(t, "tenant", answer("A.Tenant.example.com:8443", "x-tier", "gold"), "a higher priority wins")
	require.Equal(t, "plain", answer("tenant.example.com"))
}
