package etcdtest

import (
	"context"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/framegate/framegate/resolver/etcdserver"
	"github.com/framegate/framegate/test/leak"
	"github.com/framegate/framegate/test/loopback"
)

// Place is an etcd and the prefixes below which one test keeps its documents there.
type Place struct {
	Endpoint      string // of the etcd: host:port
	Prefix        string // of routes and schemas
	ServicePrefix string // of instances
}

// shared is the etcd of Shared.
var shared struct {
	once   sync.Once
	dir    string
	server *etcdserver.Server
	err    error
	places atomic.Int64 // given so far
}

// Main is leak.Main for a package whose tests use Shared.
func Main(m *testing.M, parallel int) { leak.Main(m, parallel, closeShared) }

// Shared returns a place of the test's own in an etcd that the tests of a package share: it begins empty, and no other test
// writes there. What a test counts in all of etcd - revisions, leases - or does to all of it - to stop, to compact, to demand
// passwords - wants an etcd of its own, from StartEtcd. The package's TestMain calls Main.
func Shared(t *testing.T) Place {
	t.Helper()
	shared.once.Do(func() {
		if shared.dir, shared.err = os.MkdirTemp("", "etcd"); shared.err != nil {
			return
		}
		shared.server, shared.err = etcdserver.Start(context.Background(), etcdserver.Config{Dir: shared.dir, Address: loopback.Address(t)})
	})
	require.NoError(t, shared.err)
	n := shared.places.Add(1)
	return Place{Endpoint: shared.server.Endpoint(), Prefix: fmt.Sprintf("/framegate-%d", n), ServicePrefix: fmt.Sprintf("kitex-%d/registry-etcd", n)}
}

// closeShared closes the etcd of Shared, if a test used it.
func closeShared() error {
	if shared.server == nil {
		return nil
	}
	err := shared.server.Close()
	if gone := os.RemoveAll(shared.dir); err == nil {
		err = gone
	}
	return err
}
