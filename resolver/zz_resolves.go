package resolver

import (
	"testing"

	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/framegate/framegate/resolver/schema"
)

func resolves(r *Resolver, method, route string) func() bool {
	return func() bool {
		target, _ := r.Resolve(Request{Listener: "main", Method: method})
		return target.Route == route
	}
}

func addressOf(r *Resolver, method, address string) func() bool {
	return func() bool {
		target, ok := r.Preview(Request{Method: method})
		return ok && target.Address == address
	}
}

// buy resolves a call of /shop.Shop/Buy that only the route of that name takes.
func buy(r *Resolver, route string) Target {
	target, _ := r.Preview(Request{Method: "/shop.Shop/Buy", Header: map[string][]string{"x-route": {route}}})
	return target
}

// programOf returns the program that calls of a route get, nil if the route is not in force.
func programOf(r *Resolver, route string) *testProgram {
	p, _ := buy(r, route).Program.(*testProgram)
	return p
}

// madeOf reports whether the route of that name is in force with a program made of a schema with the same content.
func madeOf(r *Resolver, route string, s *schema.Schema) bool {
	p := programOf(r, route)
	return p != nil && p.route == route && string(p.schema.Encode()) == string(s.Encode())
}

func etcdClient(t *testing.T, endpoint string) *clientv3.Client {
	t.Helper()
	cli, err := NewEtcdClient(EtcdClientConfig{Endpoints: []string{endpoint}})
	require.NoError(t, err)
	t.Cleanup(func() { _ = cli.Close() })
	return cli
}
