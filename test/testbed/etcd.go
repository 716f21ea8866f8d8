package testbed

import (
	"context"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/framegate/framegate/resolver/etcdserver"
)

// Etcd is an etcd that belongs to no framegate. It can be stopped and started again with its data.
type Etcd struct {
	Endpoint string

	t      testing.TB
	dir    string
	server *etcdserver.Server // nil while stopped; owned by the test's goroutine
}

// NewEtcd starts an etcd that keeps its data in a directory of the test.
func NewEtcd(t testing.TB) *Etcd {
	t.Helper()
	e := &Etcd{t: t, dir: t.TempDir(), Endpoint: OwnHost() + ":0"}
	t.Cleanup(e.Stop)
	e.Start()
	return e
}

// Start starts a stopped etcd at its earlier endpoint.
func (e *Etcd) Start() {
	e.t.Helper()
	s, err := etcdserver.Start(context.Background(), etcdserver.Config{Dir: e.dir, Address: e.Endpoint})
	if err != nil {
		e.t.Fatalf("start etcd in %s on %s: %v", e.dir, e.Endpoint, err)
	}
	e.server, e.Endpoint = s, s.Endpoint()
}

// Stop stops the etcd. It may be called more than once.
func (e *Etcd) Stop() {
	if e.server == nil {
		return
	}
	if err := e.server.Close(); err != nil {
		e.t.Errorf("stop etcd: %v", err)
	}
	e.server = nil
}

// DialEtcd returns a client of the etcd at endpoint.
func DialEtcd(t testing.TB, endpoint string) *clientv3.Client {
	t.Helper()
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{endpoint}, DialTimeout: Patience})
	if err != nil {
		t.Fatalf("client of etcd at %s: %v", endpoint, err)
	}
	t.Cleanup(func() { _ = c.Close() }) // Close always returns the error of the context that it cancels
	return c
}
