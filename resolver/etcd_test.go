package resolver

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/framegate/framegate/test/loopback"
	"github.com/framegate/framegate/test/testlog"
)

// runSource runs an EtcdSource until the test ends and returns once it is ready.
func runSource(t *testing.T, endpoint string) (*Resolver, *testlog.Buffer) {
	t.Helper()
	r, log := New(), &testlog.Buffer{}
	s := NewEtcdSource(etcdConfig(endpoint), r, log.Logger())
	s.routes.probeEvery, s.instances.probeEvery = 100*time.Millisecond, 100*time.Millisecond
	runInTest(t, s)
	select {
	case <-s.Ready():
	case <-time.After(soon):
		t.Fatalf("source is not ready within %s", soon)
	}
	return r, log
}

func etcdConfig(endpoint string) EtcdConfig {
	return EtcdConfig{Client: EtcdClientConfig{Endpoints: []string{endpoint}}, Prefix: DefaultPrefix, ServicePrefix: DefaultServicePrefix}
}

// runInTest runs a source until the test ends.
func runInTest(t *testing.T, s *EtcdSource) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { s.Run(ctx) })
	t.Cleanup(wg.Wait)
	t.Cleanup(cancel)
}

func TestEtcd_PutAndDeleteAreLiveWithinASecond(t *testing.T) {
	t.Parallel()
	e := startEtcd(t)
	store := NewRouteStore(etcdClient(t, e.Endpoint()), DefaultPrefix, nil)
	_, err := store.Put(t.Context(), route("first", "/a.S/First", 0))
	require.NoError(t, err)
	r, log := runSource(t, e.Endpoint())
	require.True(t, resolves(r, "/a.S/First", "first")(), "what was there is in force when the source is ready")

	_, err = store.Put(t.Context(), route("echo", "/a.S/M", 0))
	require.NoError(t, err)
	t.Logf("put live after %s", eventually(t, soon, "put is live", resolves(r, "/a.S/M", "echo")))

	_, err = store.Put(t.Context(), route("echo", "/a.S/N", 0))
	require.NoError(t, err)
	t.Logf("change live after %s", eventually(t, soon, "change is live", resolves(r, "/a.S/N", "echo")))
	require.False(t, resolves(r, "/a.S/M", "echo")(), "the old version is gone")

	found, err := store.Delete(t.Context(), "echo")
	require.NoError(t, err)
	require.True(t, found)
	t.Logf("delete live after %s", eventually(t, soon, "delete is live", resolves(r, "/a.S/N", "")))
	require.True(t, resolves(r, "/a.S/First", "first")())
	require.Zero(t, log.Count("level=ERROR")+log.Count("level=WARN"))
}

func TestEtcd_RoutesGoOnWithoutEtcdAndChangesArriveWhenItIsBack(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	e := startEtcdAt(t, dir, loopback.Address(t))
	store := NewRouteStore(etcdClient(t, e.Endpoint()), DefaultPrefix, nil)
	_, err := store.Put(t.Context(), route("echo", "/a.S/M", 0))
	require.NoError(t, err)
	r, log := runSource(t, e.Endpoint())

	require.NoError(t, e.Close())
	eventually(t, soon, "the outage is logged", func() bool { return log.Count("etcd cannot be used") == 1 })
	require.True(t, resolves(r, "/a.S/M", "echo")(), "routes go on")

	back := startEtcdAt(t, dir, e.Endpoint())
	began := time.Now()
	_, err = store.Put(t.Context(), route("late", "/a.S/Late", 0))
	require.NoError(t, err)
	eventually(t, soon, "changes arrive", resolves(r, "/a.S/Late", "late"))
	t.Logf("live %s after etcd was back", time.Since(began))
	require.True(t, resolves(r, "/a.S/M", "echo")())
	eventually(t, soon, "the end of the outage is logged", func() bool { return log.Count("etcd can be used again") == 1 })
	require.Equal(t, 1, log.Count("etcd cannot be used"))

	require.NoError(t, back.Close())
	require.True(t, resolves(r, "/a.S/Late", "late")())
}

// An etcd whose directory was removed starts at revision 1: a watch alone would wait for the old revision to come.
func TestEtcd_FollowsAStoreThatWasReplaced(t *testing.T) {
	t.Parallel()
	e := startEtcd(t)
	store := NewRouteStore(etcdClient(t, e.Endpoint()), DefaultPrefix, nil)
	for i := range 20 {
		_, err := store.Put(t.Context(), route("echo", fmt.Sprintf("/a.S/M%d", i), 0))
		require.NoError(t, err)
	}
	r, log := runSource(t, e.Endpoint())
	require.NoError(t, e.Close())

	startEtcdAt(t, t.TempDir(), e.Endpoint())
	_, err := store.Put(t.Context(), route("new", "/a.S/New", 0))
	require.NoError(t, err)
	eventually(t, soon, "the new store's routes are in force", resolves(r, "/a.S/New", "new"))
	require.True(t, resolves(r, "/a.S/M19", "")(), "the old store's are not")
	require.Equal(t, 1, log.Count("etcd's data was replaced; its routes"))
}

func TestEtcd_ResyncsAfterACompactionItMissed(t *testing.T) {
	t.Parallel()
	e := startEtcd(t)
	cli := etcdClient(t, e.Endpoint())
	store := NewRouteStore(cli, DefaultPrefix, nil)
	for _, name := range []string{"kept", "gone", "changed"} {
		_, err := store.Put(t.Context(), route(name, "/a.S/"+name, 0))
		require.NoError(t, err)
	}
	link := newLink(t, e.Endpoint())
	r, log := runSource(t, link.address())
	require.Len(t, r.Routes(), 3)

	link.cut()
	_, err := store.Delete(t.Context(), "gone")
	require.NoError(t, err)
	_, err = store.Put(t.Context(), route("changed", "/a.S/other", 0))
	require.NoError(t, err)
	last, err := store.Put(t.Context(), route("added", "/a.S/added", 0))
	require.NoError(t, err)
	_, err = cli.Compact(t.Context(), last.Revision)
	require.NoError(t, err)
	require.True(t, resolves(r, "/a.S/gone", "gone")(), "cut off, the source knows nothing of it")

	link.restore()
	eventually(t, soon, "the routes are as in etcd", func() bool {
		return resolves(r, "/a.S/added", "added")() && resolves(r, "/a.S/other", "changed")() &&
			resolves(r, "/a.S/gone", "")() && resolves(r, "/a.S/changed", "")()
	})
	require.True(t, resolves(r, "/a.S/kept", "kept")())
	require.Len(t, r.Routes(), 3)
	require.Equal(t, 1, log.Count("all routes in etcd were read again"), "it was a compaction")

	_, err = store.Put(t.Context(), route("after", "/a.S/after", 0))
	require.NoError(t, err)
	eventually(t, soon, "changes arrive again", resolves(r, "/a.S/after", "after"))
}

func TestEtcd_BadDocumentNeverReplacesAGoodOne(t *testing.T) {
	t.Parallel()
	e := startEtcd(t)
	cli := etcdClient(t, e.Endpoint())
	store := NewRouteStore(cli, DefaultPrefix, nil)
	_, err := store.Put(t.Context(), route("echo", "/a.S/M", 0))
	require.NoError(t, err)
	_, err = cli.Put(t.Context(), "/framegate/routes/born-bad", "name: [")
	require.NoError(t, err)
	link := newLink(t, e.Endpoint())
	r, log := runSource(t, link.address())
	require.Equal(t, 1, log.Count("no version of it is in force"))

	other, err := route("other", "/a.S/Other", 0).Encode()
	require.NoError(t, err)
	for i, bad := range []string{"colour: red", "", "\x00\xff", string(other)} {
		_, err = cli.Put(t.Context(), "/framegate/routes/echo", bad)
		require.NoError(t, err)
		eventually(t, soon, "the bad document is logged", func() bool { return log.Count("last good version stays") == i+1 })
		require.True(t, resolves(r, "/a.S/M", "echo")())
	}
	require.Equal(t, 1, log.Count(`want \"echo\" as in its key`))
	require.True(t, resolves(r, "/a.S/Other", "")())

	// A resync finds the same bad documents: neither the route goes nor are they logged again.
	link.cut()
	_, err = cli.Put(t.Context(), "/framegate/unrelated", "1")
	require.NoError(t, err)
	last, err := store.Put(t.Context(), route("mark", "/a.S/Mark", 0))
	require.NoError(t, err)
	_, err = cli.Compact(t.Context(), last.Revision)
	require.NoError(t, err)
	link.restore()
	eventually(t, soon, "the source is in sync again", resolves(r, "/a.S/Mark", "mark"))
	require.True(t, resolves(r, "/a.S/M", "echo")())
	require.Equal(t, 4, log.Count("last good version stays"))
	require.Equal(t, 1, log.Count("no version of it is in force"))

	// A deleted key goes, however bad it was.
	_, err = store.Delete(t.Context(), "echo")
	require.NoError(t, err)
	eventually(t, soon, "the route is gone", resolves(r, "/a.S/M", ""))
}

func TestEtcd_StartsBeforeEtcd(t *testing.T) {
	t.Parallel()
	address := loopback.Address(t)
	r, log := New(), &testlog.Buffer{}
	s := NewEtcdSource(etcdConfig(address), r, log.Logger())
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
	e := startEtcdAt(t, t.TempDir(), address)
	began := time.Now()
	<-s.Ready()
	t.Logf("ready %s after etcd", time.Since(began))
	_, err := NewRouteStore(etcdClient(t, e.Endpoint()), DefaultPrefix, nil).Put(t.Context(), route("echo", "/a.S/M", 0))
	require.NoError(t, err)
	eventually(t, soon, "put is live", resolves(r, "/a.S/M", "echo"))
	cancel()
	wg.Wait() // before etcd closes
}

func TestEtcd_RunEndsAtOnceWithoutEtcd(t *testing.T) {
	t.Parallel()
	link := newLink(t, "127.0.0.1:1")
	link.cut()
	s := NewEtcdSource(etcdConfig(link.address()), New(), slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(100*time.Millisecond, cancel)
	began := time.Now()
	s.Run(ctx)
	require.Less(t, time.Since(began), 3*time.Second)
}
