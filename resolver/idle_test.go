package resolver

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/framegate/framegate/test/testlog"
)

// etcd does not tell how far a watch is that begins at a revision which is still to come: one that nobody writes to is in
// no trouble for that.
func TestFollower_AnEtcdThatNobodyWritesToIsInNoTrouble(t *testing.T) {
	t.Parallel()
	e := startEtcd(t)
	cli := etcdClient(t, e.Endpoint())
	_, err := NewRouteStore(cli, DefaultPrefix, nil).Put(t.Context(), mustRoute(t, serviceRoute))
	require.NoError(t, err)
	r, log := New(), &testlog.Buffer{}
	s := NewEtcdSource(etcdConfig(e.Endpoint()), r, log.Logger())
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
	putInstance(t, cli, "echo", "e:1")
	eventually(t, soon, "the instance is in force", func() bool { return len(r.Instances()["echo"]) == 1 })
	time.Sleep(10 * silentProbes * every)
	require.Zero(t, log.Count("were read again"), log.String())
}
