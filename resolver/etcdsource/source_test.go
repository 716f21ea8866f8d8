package etcdsource

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/framegate/framegate/resolver"
	"github.com/framegate/framegate/resolver/etcdclient"
	"github.com/framegate/framegate/resolver/etcdstore"
	"github.com/framegate/framegate/test/etcdtest"
	"github.com/framegate/framegate/test/loopback"
	"github.com/framegate/framegate/test/resolvertest"
	"github.com/framegate/framegate/test/routetest"
	"github.com/framegate/framegate/test/testlog"
)

// runSource runs a Source until the test ends and returns once it is ready.
func runSource(t *testing.T, cfg Config) (*resolver.Resolver, *testlog.Buffer) {
	t.Helper()
	r, log := resolver.New(), &testlog.Buffer{}
	s := New(cfg, r, log.Logger())
	s.routes.probeEvery, s.instances.probeEvery = 100*time.Millisecond, 100*time.Millisecond
	runInTest(t, s)
	select {
	case <-s.Ready():
	case <-time.After(etcdtest.Soon):
		t.Fatalf("source is not ready within %s", etcdtest.Soon)
	}
	return r, log
}

// etcdConfig is for a source of an etcd of the test's own.
func etcdConfig(endpoint string) Config {
	return configOf(etcdtest.Place{Endpoint: endpoint, Prefix: etcdstore.DefaultPrefix, ServicePrefix: etcdstore.DefaultServicePrefix})
}

// configOf is for a source of a place in the etcd that the tests share.
func configOf(at etcdtest.Place) Config {
	return Config{Client: etcdclient.Config{Endpoints: []string{at.Endpoint}}, Prefix: at.Prefix, ServicePrefix: at.ServicePrefix}
}

// runInTest runs a source until the test ends.
func runInTest(t *testing.T, s *Source) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { s.Run(ctx) })
	t.Cleanup(wg.Wait)
	t.Cleanup(cancel)
}

func TestEtcd_PutAndDeleteAreLiveWithinASecond(t *testing.T) {
	t.Parallel()
	at := etcdtest.Shared(t)
	store := etcdstore.NewRoutes(resolvertest.EtcdClient(t, at.Endpoint), at.Prefix, nil)
	_, err := store.Put(t.Context(), routetest.Route("first", "/a.S/First", 0))
	require.NoError(t, err)
	r, log := runSource(t, configOf(at))
	require.True(t, resolvertest.Resolves(r, "/a.S/First", "first")(), "what was there is in force when the source is ready")

	_, err = store.Put(t.Context(), routetest.Route("echo", "/a.S/M", 0))
	require.NoError(t, err)
	t.Logf("put live after %s", etcdtest.Eventually(t, etcdtest.Soon, "put is live", resolvertest.Resolves(r, "/a.S/M", "echo")))

	_, err = store.Put(t.Context(), routetest.Route("echo", "/a.S/N", 0))
	require.NoError(t, err)
	t.Logf("change live after %s", etcdtest.Eventually(t, etcdtest.Soon, "change is live", resolvertest.Resolves(r, "/a.S/N", "echo")))
	require.False(t, resolvertest.Resolves(r, "/a.S/M", "echo")(), "the old version is gone")

	found, err := store.Delete(t.Context(), "echo")
	require.NoError(t, err)
	require.True(t, found)
	t.Logf("delete live after %s", etcdtest.Eventually(t, etcdtest.Soon, "delete is live", resolvertest.Resolves(r, "/a.S/N", "")))
	require.True(t, resolvertest.Resolves(r, "/a.S/First", "first")())
	require.Zero(t, log.Count("level=ERROR")+log.Count("level=WARN"))
}

func TestEtcd_RoutesGoOnWithoutEtcdAndChangesArriveWhenItIsBack(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	e := etcdtest.StartEtcdAt(t, dir, loopback.Address(t))
	store := etcdstore.NewRoutes(resolvertest.EtcdClient(t, e.Endpoint()), etcdstore.DefaultPrefix, nil)
	_, err := store.Put(t.Context(), routetest.Route("echo", "/a.S/M", 0))
	require.NoError(t, err)
	r, log := runSource(t, etcdConfig(e.Endpoint()))

	require.NoError(t, e.Close())
	etcdtest.Eventually(t, etcdtest.Soon, "the outage is logged", func() bool { return log.Count("etcd cannot be used") == 1 })
	require.True(t, resolvertest.Resolves(r, "/a.S/M", "echo")(), "routes go on")

	back := etcdtest.StartEtcdAt(t, dir, e.Endpoint())
	began := time.Now()
	_, err = store.Put(t.Context(), routetest.Route("late", "/a.S/Late", 0))
	require.NoError(t, err)
	etcdtest.Eventually(t, etcdtest.Soon, "changes arrive", resolvertest.Resolves(r, "/a.S/Late", "late"))
	t.Logf("live %s after etcd was back", time.Since(began))
	require.True(t, resolvertest.Resolves(r, "/a.S/M", "echo")())
	etcdtest.Eventually(t, etcdtest.Soon, "the end of the outage is logged", func() bool { return log.Count("etcd can be used again") == 1 })
	require.Equal(t, 1, log.Count("etcd cannot be used"))

	require.NoError(t, back.Close())
	require.True(t, resolvertest.Resolves(r, "/a.S/Late", "late")())
}

// An etcd whose directory was removed starts at revision 1: a watch alone would wait for the old revision to come.
func TestEtcd_FollowsAStoreThatWasReplaced(t *testing.T) {
	t.Parallel()
	e := etcdtest.StartEtcd(t)
	store := etcdstore.NewRoutes(resolvertest.EtcdClient(t, e.Endpoint()), etcdstore.DefaultPrefix, nil)
	for i := range 20 {
		_, err := store.Put(t.Context(), routetest.Route("echo", fmt.Sprintf("/a.S/M%d", i), 0))
		require.NoError(t, err)
	}
	r, log := runSource(t, etcdConfig(e.Endpoint()))
	require.NoError(t, e.Close())

	etcdtest.StartEtcdAt(t, t.TempDir(), e.Endpoint())
	_, err := store.Put(t.Context(), routetest.Route("new", "/a.S/New", 0))
	require.NoError(t, err)
	etcdtest.Eventually(t, etcdtest.Soon, "the new store's routes are in force", resolvertest.Resolves(r, "/a.S/New", "new"))
	require.True(t, resolvertest.Resolves(r, "/a.S/M19", "")(), "the old store's are not")
	require.Equal(t, 1, log.Count("etcd's data was replaced; its routes"))
}

func TestEtcd_ResyncsAfterACompactionItMissed(t *testing.T) {
	t.Parallel()
	e := etcdtest.StartEtcd(t)
	cli := resolvertest.EtcdClient(t, e.Endpoint())
	store := etcdstore.NewRoutes(cli, etcdstore.DefaultPrefix, nil)
	for _, name := range []string{"kept", "gone", "changed"} {
		_, err := store.Put(t.Context(), routetest.Route(name, "/a.S/"+name, 0))
		require.NoError(t, err)
	}
	link := etcdtest.NewLink(t, e.Endpoint())
	r, log := runSource(t, etcdConfig(link.Address()))
	require.Len(t, r.Routes(), 3)

	link.Cut()
	_, err := store.Delete(t.Context(), "gone")
	require.NoError(t, err)
	_, err = store.Put(t.Context(), routetest.Route("changed", "/a.S/other", 0))
	require.NoError(t, err)
	last, err := store.Put(t.Context(), routetest.Route("added", "/a.S/added", 0))
	require.NoError(t, err)
	_, err = cli.Compact(t.Context(), last.Revision)
	require.NoError(t, err)
	require.True(t, resolvertest.Resolves(r, "/a.S/gone", "gone")(), "cut off, the source knows nothing of it")

	link.Restore()
	etcdtest.Eventually(t, etcdtest.Soon, "the routes are as in etcd", func() bool {
		return resolvertest.Resolves(r, "/a.S/added", "added")() && resolvertest.Resolves(r, "/a.S/other", "changed")() &&
			resolvertest.Resolves(r, "/a.S/gone", "")() && resolvertest.Resolves(r, "/a.S/changed", "")()
	})
	require.True(t, resolvertest.Resolves(r, "/a.S/kept", "kept")())
	require.Len(t, r.Routes(), 3)
	require.Equal(t, 1, log.Count("all routes in etcd were read again"), "it was a compaction")

	_, err = store.Put(t.Context(), routetest.Route("after", "/a.S/after", 0))
	require.NoError(t, err)
	etcdtest.Eventually(t, etcdtest.Soon, "changes arrive again", resolvertest.Resolves(r, "/a.S/after", "after"))
}

func TestEtcd_BadDocumentNeverReplacesAGoodOne(t *testing.T) {
	t.Parallel()
	e := etcdtest.StartEtcd(t)
	cli := resolvertest.EtcdClient(t, e.Endpoint())
	store := etcdstore.NewRoutes(cli, etcdstore.DefaultPrefix, nil)
	_, err := store.Put(t.Context(), routetest.Route("echo", "/a.S/M", 0))
	require.NoError(t, err)
	_, err = cli.Put(t.Context(), "/framegate/routes/born-bad", "name: [")
	require.NoError(t, err)
	link := etcdtest.NewLink(t, e.Endpoint())
	r, log := runSource(t, etcdConfig(link.Address()))
	require.Equal(t, 1, log.Count("no version of it is in force"))

	other, err := routetest.Route("other", "/a.S/Other", 0).Encode()
	require.NoError(t, err)
	for i, bad := range []string{"colour: red", "", "\x00\xff", string(other)} {
		_, err = cli.Put(t.Context(), "/framegate/routes/echo", bad)
		require.NoError(t, err)
		etcdtest.Eventually(t, etcdtest.Soon, "the bad document is logged", func() bool { return log.Count("last good version stays") == i+1 })
		require.True(t, resolvertest.Resolves(r, "/a.S/M", "echo")())
	}
	require.Equal(t, 1, log.Count(`want \"echo\" as in its key`))
	require.True(t, resolvertest.Resolves(r, "/a.S/Other", "")())

	// A resync finds the same bad documents: neither the route goes nor are they logged again.
	link.Cut()
	_, err = cli.Put(t.Context(), "/framegate/unrelated", "1")
	require.NoError(t, err)
	last, err := store.Put(t.Context(), routetest.Route("mark", "/a.S/Mark", 0))
	require.NoError(t, err)
	_, err = cli.Compact(t.Context(), last.Revision)
	require.NoError(t, err)
	link.Restore()
	etcdtest.Eventually(t, etcdtest.Soon, "the source is in sync again", resolvertest.Resolves(r, "/a.S/Mark", "mark"))
	require.True(t, resolvertest.Resolves(r, "/a.S/M", "echo")())
	require.Equal(t, 4, log.Count("last good version stays"))
	require.Equal(t, 1, log.Count("no version of it is in force"))

	// A deleted key goes, however bad it was.
	_, err = store.Delete(t.Context(), "echo")
	require.NoError(t, err)
	etcdtest.Eventually(t, etcdtest.Soon, "the route is gone", resolvertest.Resolves(r, "/a.S/M", ""))
}

func TestEtcd_StartsBeforeEtcd(t *testing.T) {
	t.Parallel()
	address := loopback.Address(t)
	r, log := resolver.New(), &testlog.Buffer{}
	s := New(etcdConfig(address), r, log.Logger())
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { s.Run(ctx) })
	defer wg.Wait()
	defer cancel()
	select {
	case <-s.Ready():
		t.Fatal("ready without etcd")
	default:
	}
	e := etcdtest.StartEtcdAt(t, t.TempDir(), address)
	began := time.Now()
	<-s.Ready()
	t.Logf("ready %s after etcd", time.Since(began))
	_, err := etcdstore.NewRoutes(resolvertest.EtcdClient(t, e.Endpoint()), etcdstore.DefaultPrefix, nil).Put(t.Context(), routetest.Route("echo", "/a.S/M", 0))
	require.NoError(t, err)
	etcdtest.Eventually(t, etcdtest.Soon, "put is live", resolvertest.Resolves(r, "/a.S/M", "echo"))
	cancel()
	wg.Wait() // before etcd closes
}

func TestEtcd_RunEndsAtOnceWithoutEtcd(t *testing.T) {
	t.Parallel()
	link := etcdtest.NewLink(t, "127.0.0.1:1")
	link.Cut()
	s := New(etcdConfig(link.Address()), resolver.New(), slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(100*time.Millisecond, cancel)
	began := time.Now()
	s.Run(ctx)
	require.Less(t, time.Since(began), 3*time.Second)
}
