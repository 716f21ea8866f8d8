package test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/framegate/framegate/handler/structmode"
	"github.com/framegate/framegate/resolver/etcdstore"
	"github.com/framegate/framegate/resolver/schema"
	"github.com/framegate/framegate/resolver/spec"
	"github.com/framegate/framegate/test/testbed"
)

// structured leads through a route in struct mode whose rules look at every message and never fire.
func structured(t testing.TB, backend string) string {
	t.Helper()
	return testbed.NewProxy(t, testbed.StructRouteTo(t, backend)).Addr
}

// reflected is structured with the schema that the backend itself tells.
func reflected(t testing.TB, backend string) string {
	t.Helper()
	return testbed.NewProxy(t, testbed.ReflectedRouteTo(backend)).Addr
}

// structuredByEtcd is structured with the schema of the interoperability tests, and the route, in etcd.
func structuredByEtcd(t testing.TB, backend string) string {
	t.Helper()
	proxy := testbed.NewProxy(t, "", testbed.EmbeddedEtcd(t))
	etcd := newStructEtcd(t, proxy)
	s, err := schema.Load(patient(t), []string{testbed.InteropSet(t)}, nil)
	require.NoError(t, err)
	etcd.putSchema("interop", s)
	etcd.putRoute(testbed.StructRoute(backend, "interop"))
	testbed.Poll(t, func() error { // schemas and routes come by two watches, in any order
		if _, ok := proxy.Resolve("/grpc.testing.TestService/EmptyCall"); !ok {
			return errors.New("the route is not in force")
		}
		return nil
	})
	return proxy.Addr
}

// structEtcd puts routes and schemas as the command line does.
type structEtcd struct {
	t       testing.TB
	cli     *clientv3.Client
	routes  *etcdstore.Routes
	schemas *etcdstore.Schemas
}

func newStructEtcd(t testing.TB, proxy *testbed.Proxy) structEtcd {
	t.Helper()
	cli := testbed.DialEtcd(t, proxy.EtcdEndpoint())
	return structEtcd{
		t:       t,
		cli:     cli,
		routes:  etcdstore.NewRoutes(cli, "/framegate", structmode.CompileRoute),
		schemas: etcdstore.NewSchemas(cli, "/framegate", structmode.CompileRoute),
	}
}

func (e structEtcd) putSchema(name string, s *schema.Schema) (revision int64) {
	e.t.Helper()
	result, err := e.schemas.Put(patient(e.t), name, s)
	require.NoError(e.t, err)
	return result.Revision
}

func (e structEtcd) putRoute(document string) (revision int64) {
	e.t.Helper()
	r, err := spec.ParseRoute([]byte(document))
	require.NoError(e.t, err)
	result, err := e.routes.Put(patient(e.t), r)
	require.NoError(e.t, err)
	return result.Revision
}

// awaitRevision waits until a framegate has in force what etcd had at a revision.
func awaitRevision(t testing.TB, proxy *testbed.Proxy, revision int64) {
	t.Helper()
	testbed.Poll(t, func() error {
		if got := proxy.Source().Revision; got < revision {
			return fmt.Errorf("revision %d is in force, want %d", got, revision)
		}
		return nil
	})
}
