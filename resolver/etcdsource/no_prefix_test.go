package etcdsource

import (
	"testing"
	"time"

	"github.com/cloudwego/kitex/pkg/registry"
	"github.com/cloudwego/kitex/pkg/utils"
	etcdregistry "github.com/kitex-contrib/registry-etcd"
	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/framegate/framegate/resolver"
	"github.com/framegate/framegate/resolver/etcdstore"
	"github.com/framegate/framegate/resolver/spec"
	"github.com/framegate/framegate/test/etcdtest"
	"github.com/framegate/framegate/test/resolvertest"
	"github.com/framegate/framegate/test/routetest"
	"github.com/framegate/framegate/test/testlog"
)

// registry-etcd takes an empty prefix: its keys are /SERVICE/ADDRESS then, beside everything else that is in etcd.
func TestEtcd_FindsInstancesWithoutAPrefix(t *testing.T) {
	t.Parallel()
	e := etcdtest.StartEtcd(t)
	cli := resolvertest.EtcdClient(t, e.Endpoint())
	routes := etcdstore.NewRoutes(cli, etcdstore.DefaultPrefix, nil)
	_, err := routes.Put(t.Context(), routetest.MustRoute(t, serviceRoute))
	require.NoError(t, err)
	others := map[string]string{
		"/registry/pods/default/web": "k8s", "/registry/services/web:80": "{}", "/lock": "1", "/a b/h:1": "x", "/config/": "x",
		"/config/:80": "x", "other/echo/e:9": `{"network":"tcp","address":"e:9","weight":10}`,
	}
	for key, value := range others {
		_, err := cli.Put(t.Context(), key, value)
		require.NoError(t, err)
	}
	reg, err := etcdregistry.NewEtcdRegistry(cli.Endpoints(), etcdtest.QuietRegistry, etcdregistry.WithEtcdServicePrefix(""))
	require.NoError(t, err)
	defer etcdtest.CloseEtcdClient(reg)
	info := &registry.Info{ServiceName: "echo", Addr: utils.NewNetAddr("tcp", "127.0.0.1:9001"), Weight: 20}
	require.NoError(t, reg.Register(info))

	cfg := etcdConfig(e.Endpoint())
	cfg.ServicePrefix = ""
	r, log := resolver.New(), &testlog.Buffer{}
	s := New(cfg, r, log.Logger())
	runInTest(t, s)
	select {
	case <-s.Ready():
	case <-time.After(20 * time.Second):
		t.Fatal("source is not ready within 20s")
	}
	require.True(t, resolvertest.AddressOf(r, "/found.S/M", "127.0.0.1:9001")())
	store := etcdstore.NewServices(cli, "")
	unix := spec.Instance{Address: "unix:/run/echo.sock", Weight: 10}
	_, err = store.Heartbeat(t.Context(), "sock", unix, 10*time.Second)
	require.NoError(t, err)
	_, err = routes.Put(t.Context(), routetest.Route("more", "/a.S/M", 0)) // which is a key that is watched
	require.NoError(t, err)
	etcdtest.Eventually(t, etcdtest.Soon, "a change is in force", func() bool { return len(r.Instances()) == 2 })
	require.Zero(t, log.Count("level=ERROR")+log.Count("level=WARN"))

	etcdtest.Eventually(t, etcdtest.Soon, "keys of others count", func() bool { // or each comparison with etcd would read all again
		resp, err := cli.Get(t.Context(), "/", clientv3.WithPrefix(), clientv3.WithCountOnly())
		require.NoError(t, err)
		s.instances.mu.Lock()
		defer s.instances.mu.Unlock()
		return resp.Count == int64(len(s.instances.docs))
	})
	services, bad, err := store.List(t.Context())
	require.NoError(t, err)
	require.Empty(t, bad)
	require.Len(t, services, 2)
	_, err = store.Deregister(t.Context(), "framegate", "routes/found")
	require.ErrorContains(t, err, "deregister routes/found of service framegate: want an address as in the key of an instance")
	require.True(t, resolvertest.AddressOf(r, "/found.S/M", "127.0.0.1:9001")(), "the route is still there")

	_, err = cli.Put(t.Context(), "/echo/127.0.0.1:9002", "{")
	require.NoError(t, err)
	etcdtest.Eventually(t, etcdtest.Soon, "what looks like an instance and is none is named", func() bool {
		return log.Count("bad document among instances") == 1
	})
	_, bad, err = store.List(t.Context())
	require.NoError(t, err)
	require.Len(t, bad, 1)
	require.NoError(t, reg.Deregister(info))
	etcdtest.Eventually(t, etcdtest.Soon, "a deregistration is in force", func() bool { return len(r.Instances()) == 1 })
}
