// Package resolvertest has conditions on the answers of a resolver.Resolver, for tests that wait for them.
package resolvertest

import (
	"testing"

	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/framegate/framegate/resolver"
	"github.com/framegate/framegate/resolver/cluster"
	"github.com/framegate/framegate/resolver/etcdclient"
	"github.com/framegate/framegate/resolver/schema"
	"github.com/framegate/framegate/resolver/spec"
	"github.com/framegate/framegate/test/routetest"
)

// Resolve returns the target of a call, and false if no route matches.
func Resolve(r *resolver.Resolver, req spec.Request) (t cluster.Target, ok bool) {
	ok = r.Resolve(&t, req)
	return t, ok
}

// Resolves returns a condition: calls of the method get the route of that name.
func Resolves(r *resolver.Resolver, method, route string) func() bool {
	return func() bool {
		target, _ := Resolve(r, spec.Request{Listener: "main", Method: method})
		return target.Route == route
	}
}

// AddressOf returns a condition: calls of the method go to the address.
func AddressOf(r *resolver.Resolver, method, address string) func() bool {
	return func() bool {
		target, ok := r.Preview(spec.Request{Method: method})
		return ok && target.Address == address
	}
}

// Buy resolves a call of /shop.Shop/Buy that only the route of that name takes; see routetest.StructRoute.
func Buy(r *resolver.Resolver, route string) cluster.Target {
	target, _ := r.Preview(spec.Request{Method: "/shop.Shop/Buy", Header: spec.Header{"x-route": {route}}})
	return target
}

// ProgramOf returns the program of calls of /shop.Shop/Buy that the route takes, nil if the route is not in force.
func ProgramOf(r *resolver.Resolver, route string) *routetest.TestProgram {
	p, _ := Buy(r, route).Program.(*routetest.TestProgram)
	return p
}

// MadeOf reports whether the route of that name is in force with a program compiled with a schema of the same content as s.
func MadeOf(r *resolver.Resolver, route string, s *schema.Schema) bool {
	p := ProgramOf(r, route)
	return p != nil && p.Route == route && string(p.Schema.Encode()) == string(s.Encode())
}

// EtcdClient returns a client of the etcd at endpoint. t.Cleanup closes it.
func EtcdClient(t *testing.T, endpoint string) *clientv3.Client {
	t.Helper()
	cli, err := etcdclient.New(etcdclient.Config{Endpoints: []string{endpoint}})
	require.NoError(t, err)
	t.Cleanup(func() { _ = cli.Close() })
	return cli
}
