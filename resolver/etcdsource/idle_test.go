package etcdsource

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/framegate/framegate/resolver"
	"github.com/framegate/framegate/resolver/etcdstore"
	"github.com/framegate/framegate/test/etcdtest"
	"github.com/framegate/framegate/test/resolvertest"
	"github.com/framegate/framegate/test/routetest"
	"github.com/framegate/framegate/test/testlog"
)

// etcd does not tell how far a watch is that begins at a revision which is still to come: one that nobody writes to is in
// no trouble for that.
func TestFollower_AnEtcdThatNobodyWritesToIsInNoTrouble(t *testing.T) {
	t.Parallel()
	e := etcdtest.StartEtcd(t)
	cli := resolvertest.EtcdClient(t, e.Endpoint())
	_, err := etcdstore.NewRoutes(cli, etcdstore.DefaultPrefix, nil).Put(t.Context(), routetest.MustRoute(t, serviceRoute))
	require.NoError(t, err)
	r, log := resolver.New(), &testlog.Buffer{}
	s := New(etcdConfig(e.Endpoint()), r, log.Logger())
	const every = 5 * time.Millisecond
	s.schemas.probeEvery, s.routes.probeEvery, s.instances.probeEvery = every, every, every
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { s.Run(ctx) })
	defer wg.Wait()
	defer cancel()
	waitReady(t, s)
	time.Sleep(10 * silentProbes * every) // nothing is to happen in this time
	require.Zero(t, log.Count("were read again"), log.String())

	// Once somebody has, it does, and a change is noticed as ever.
	putInstance(t, cli, etcdstore.DefaultServicePrefix, "echo", "e:1")
	etcdtest.Eventually(t, etcdtest.Soon, "the instance is in force", func() bool { return len(r.Instances()["echo"]) == 1 })
	time.Sleep(10 * silentProbes * every)
	require.Zero(t, log.Count("were read again"), log.String())
}
