package etcdsource

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/framegate/framegate/resolver"
	"github.com/framegate/framegate/resolver/etcdstore"
	"github.com/framegate/framegate/resolver/spec"
	"github.com/framegate/framegate/test/etcdtest"
	"github.com/framegate/framegate/test/loopback"
	"github.com/framegate/framegate/test/resolvertest"
	"github.com/framegate/framegate/test/routetest"
	"github.com/framegate/framegate/test/testlog"
)

// startSource runs a source with a snapshot. The function ends it and returns when it has ended.
func startSource(t *testing.T, cfg Config) (*Source, *resolver.Resolver, *testlog.Buffer, func()) {
	t.Helper()
	r, log := resolver.New(), &testlog.Buffer{}
	s := New(cfg, r, log.Logger())
	s.schemas.probeEvery, s.routes.probeEvery, s.instances.probeEvery = 50*time.Millisecond, 50*time.Millisecond, 50*time.Millisecond
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { s.Run(ctx) })
	var once sync.Once
	stop := func() { once.Do(func() { cancel(); wg.Wait() }) }
	t.Cleanup(stop)
	return s, r, log, stop
}

func waitReady(t *testing.T, s *Source) {
	t.Helper()
	select {
	case <-s.Ready():
	case <-time.After(20 * time.Second): // a user's password costs a busy machine seconds
		t.Fatal("source is not ready within 20s")
	}
}

func putInstance(t *testing.T, cli *clientv3.Client, prefix, service, address string) {
	t.Helper()
	_, err := cli.Put(t.Context(), prefix+"/"+service+"/"+address, fmt.Sprintf(`{"network":"tcp","address":%q,"weight":10,"tags":null}`, address))
	require.NoError(t, err)
}

const serviceRoute = `{name: found, match: [{method: /found.S/*}], backends: [{service: echo}]}`

func TestSnapshot_ServesAStartWithoutEtcdAndGivesWayToIt(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	e := etcdtest.StartEtcdAt(t, dir, loopback.Address(t))
	cfg := etcdConfig(e.Endpoint())
	cfg.Snapshot = filepath.Join(t.TempDir(), "deep", "last-good.json")
	cli := resolvertest.EtcdClient(t, e.Endpoint())
	store := etcdstore.NewRoutes(cli, etcdstore.DefaultPrefix, nil)
	_, err := store.PutAll(t.Context(), []*spec.Route{routetest.MustRoute(t, serviceRoute), routetest.Route("kept", "/a.S/Kept", 0), routetest.Route("gone", "/a.S/Gone", 0), routetest.Route("changed", "/a.S/Old", 0)})
	require.NoError(t, err)
	putInstance(t, cli, etcdstore.DefaultServicePrefix, "echo", "e:1")
	_, err = cli.Put(t.Context(), "/framegate/routes/kept", "colour: red") // the last good version must be what is kept
	require.NoError(t, err)
	_, err = store.Put(t.Context(), routetest.Route("kept", "/a.S/Kept", 0))
	require.NoError(t, err)

	first, r, _, stopFirst := startSource(t, cfg)
	waitReady(t, first)
	require.False(t, first.Status().Stale)
	_, err = cli.Put(t.Context(), "/framegate/routes/kept", "colour: red")
	require.NoError(t, err)
	etcdtest.Eventually(t, etcdtest.Soon, "the bad version is refused", func() bool { return first.Status().Rejected == 1 })
	require.True(t, resolvertest.Resolves(r, "/a.S/Kept", "kept")())
	stopFirst() // writes what it has
	info, err := os.Stat(cfg.Snapshot)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	require.NoError(t, e.Close())

	second, r, log, _ := startSource(t, cfg)
	waitReady(t, second)
	require.True(t, resolvertest.AddressOf(r, "/found.S/M", "e:1")(), "instances are in the snapshot too")
	for method, name := range map[string]string{"/a.S/Kept": "kept", "/a.S/Gone": "gone", "/a.S/Old": "changed"} {
		require.True(t, resolvertest.Resolves(r, method, name)(), method)
	}
	require.True(t, second.Status().Stale)
	require.NotEmpty(t, second.Status().Reason)
	require.Equal(t, first.Status().Confirmed.UTC().Truncate(0), second.Status().Confirmed.UTC(), "as old as the snapshot")
	require.Equal(t, 1, log.Count("the last good routes are in force"))
	before := r.Routes()

	etcdtest.StartEtcdAt(t, dir, e.Endpoint())
	_, err = store.Delete(t.Context(), "gone")
	require.NoError(t, err)
	_, err = store.Put(t.Context(), routetest.Route("changed", "/a.S/New", 0))
	require.NoError(t, err)
	etcdtest.Eventually(t, etcdtest.Soon, "etcd's state is in force", func() bool {
		return resolvertest.Resolves(r, "/a.S/New", "changed")() && resolvertest.Resolves(r, "/a.S/Gone", "")() && resolvertest.Resolves(r, "/a.S/Old", "")()
	})
	require.True(t, resolvertest.AddressOf(r, "/found.S/M", "e:1")())
	require.True(t, resolvertest.Resolves(r, "/a.S/Kept", "kept")())
	same := 0
	for _, route := range r.Routes() {
		if slices.Contains(before, route) {
			same++
		}
	}
	require.Equal(t, 2, same, "what did not change was not put in force again")
	etcdtest.Eventually(t, etcdtest.Soon, "not stale", func() bool { return !second.Status().Stale })
	require.Equal(t, 1, log.Count("etcd cannot be used"), "logged once a minute at most")
}

func TestSnapshot_IsWrittenSoonAfterAChange(t *testing.T) {
	t.Parallel()
	at := etcdtest.Shared(t)
	cfg := configOf(at)
	cfg.Snapshot = filepath.Join(t.TempDir(), "last-good.json")
	s, _, _, _ := startSource(t, cfg)
	waitReady(t, s)
	_, err := etcdstore.NewRoutes(resolvertest.EtcdClient(t, at.Endpoint), at.Prefix, nil).Put(t.Context(), routetest.Route("echo", "/a.S/M", 0))
	require.NoError(t, err)
	etcdtest.Eventually(t, etcdtest.Soon, "the file has the route", func() bool {
		snap, err := readSnapshot(cfg.Snapshot, cfg)
		return err == nil && snap.Routes.Documents["echo"].Value != nil
	})
	left, err := filepath.Glob(filepath.Dir(cfg.Snapshot) + "/*")
	require.NoError(t, err)
	require.Len(t, left, 1, "no temporary files")
}

func TestSnapshot_ThatCannotBeUsedIsNamedAndNotUsed(t *testing.T) {
	t.Parallel()
	good := &snapshot{
		Format: snapshotFormat, Endpoints: []string{"127.0.0.1:1"}, Prefix: etcdstore.DefaultPrefix, ServicePrefix: etcdstore.DefaultServicePrefix,
		Routes: snapshotPart{Revision: 7, Documents: map[string]snapshotDocument{"echo": {Revision: 7, Value: []byte(serviceRoute)}}},
	}
	for name, c := range map[string]struct {
		Write func(*snapshot)
		cut   int64 // bytes that are left of the file; 0 for all
		want  string
	}{
		"cut":           {func(*snapshot) {}, 40, "is damaged"},
		"other etcd":    {func(s *snapshot) { s.Endpoints = []string{"other:2379"} }, 0, "of etcd at"},
		"other prefix":  {func(s *snapshot) { s.Prefix = "/other" }, 0, "of prefixes"},
		"later format":  {func(s *snapshot) { s.Format = 2 }, 0, "format 2, want 1"},
		"other key":     {func(*snapshot) {}, 0, "bad document among routes"}, // the document's name is not its key's
		"nothing there": {func(s *snapshot) { s.Routes = snapshotPart{} }, 0, "the last good routes are in force"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := etcdConfig("127.0.0.1:1")
			cfg.Snapshot = filepath.Join(t.TempDir(), "s.json")
			s := *good
			c.Write(&s)
			require.NoError(t, s.write(cfg.Snapshot))
			if c.cut > 0 {
				require.NoError(t, os.Truncate(cfg.Snapshot, c.cut))
			}
			source, r, log, stop := startSource(t, cfg)
			etcdtest.Eventually(t, etcdtest.Soon, c.want, func() bool { return log.Count(c.want) == 1 })
			stop()
			require.Empty(t, r.Routes())
			require.NotEmpty(t, source.Status().Reason)
		})
	}
}

func TestSnapshot_ColdStartWithNeitherIsNotReadyAndSaysWhy(t *testing.T) {
	t.Parallel()
	cfg := etcdConfig("127.0.0.1:1")
	cfg.Snapshot = filepath.Join(t.TempDir(), "none.json")
	s, _, _, _ := startSource(t, cfg)
	etcdtest.Eventually(t, etcdtest.Soon, "a reason", func() bool { return s.Status().Reason != "" })
	require.Contains(t, s.Status().Reason, "connection refused")
	require.True(t, s.Status().Stale)
	select {
	case <-s.Ready():
		t.Fatal("ready with nothing")
	default:
	}
}

// A snapshot of another cluster at the same address: revisions mean nothing.
func TestSnapshot_OfAReplacedEtcdGivesWay(t *testing.T) {
	t.Parallel()
	at := etcdtest.Shared(t)
	cfg := configOf(at)
	cfg.Snapshot = filepath.Join(t.TempDir(), "s.json")
	doc, err := routetest.Route("echo", "/a.S/Other", 0).Encode()
	require.NoError(t, err)
	s := &snapshot{
		Format: snapshotFormat, Endpoints: cfg.Client.Endpoints, Prefix: cfg.Prefix, ServicePrefix: cfg.ServicePrefix, Cluster: 1,
		Routes: snapshotPart{Revision: 1, Documents: map[string]snapshotDocument{"echo": {Revision: 1 << 40, Value: doc}}},
	}
	require.NoError(t, s.write(cfg.Snapshot))
	_, err = etcdstore.NewRoutes(resolvertest.EtcdClient(t, at.Endpoint), at.Prefix, nil).Put(t.Context(), routetest.Route("echo", "/a.S/M", 0))
	require.NoError(t, err)
	link := etcdtest.NewLink(t, at.Endpoint)
	link.Cut()
	cfg.Client.Endpoints = []string{link.Address()}
	s.Endpoints = cfg.Client.Endpoints
	require.NoError(t, s.write(cfg.Snapshot))
	source, r, _, _ := startSource(t, cfg)
	waitReady(t, source)
	require.True(t, resolvertest.Resolves(r, "/a.S/Other", "echo")())
	link.Restore()
	etcdtest.Eventually(t, etcdtest.Soon, "etcd's own", resolvertest.Resolves(r, "/a.S/M", "echo"))
	require.True(t, resolvertest.Resolves(r, "/a.S/Other", "")())
}

// A user who may not read routes gets neither etcd's nor none: the last good ones stay, in force and on disk.
func TestSnapshot_StandsInWhereEtcdAnswersButRefuses(t *testing.T) {
	t.Parallel()
	endpoint := etcdtest.StartEtcdForUsers(t)
	cli := resolvertest.EtcdClient(t, endpoint)
	_, err := etcdstore.NewRoutes(cli, etcdstore.DefaultPrefix, nil).Put(t.Context(), routetest.MustRoute(t, serviceRoute))
	require.NoError(t, err)
	putInstance(t, cli, etcdstore.DefaultServicePrefix, "echo", "e:1")
	cfg := etcdConfig(endpoint)
	cfg.Snapshot = filepath.Join(t.TempDir(), "s.json")
	first, _, _, stop := startSource(t, cfg)
	waitReady(t, first)
	stop()
	before, err := readSnapshot(cfg.Snapshot, cfg)
	require.NoError(t, err)

	etcdtest.EnableAuth(t, cli)
	cfg.Client.Username, cfg.Client.Password = "reader", "p"
	second, r, _, _ := startSource(t, cfg)
	waitReady(t, second)
	etcdtest.Eventually(t, etcdtest.Soon, "the last good route is in force", resolvertest.AddressOf(r, "/found.S/M", "e:1"))
	require.True(t, second.Status().Stale)
	require.Contains(t, second.Status().Reason, "permission denied")
	time.Sleep(2 * saveDelay) // nothing is to happen in this time
	after, err := readSnapshot(cfg.Snapshot, cfg)
	require.NoError(t, err)
	require.Equal(t, before.Routes, after.Routes)
}

// An etcd that was replaced by one that is further: no revision tells.
func TestEtcd_FollowsAStoreThatWasReplacedByALongerOne(t *testing.T) {
	t.Parallel()
	e := etcdtest.StartEtcd(t)
	_, err := etcdstore.NewRoutes(resolvertest.EtcdClient(t, e.Endpoint()), etcdstore.DefaultPrefix, nil).Put(t.Context(), routetest.Route("old", "/a.S/Old", 0))
	require.NoError(t, err)
	link := etcdtest.NewLink(t, e.Endpoint())
	r, _ := runSource(t, etcdConfig(link.Address()))
	require.True(t, resolvertest.Resolves(r, "/a.S/Old", "old")())
	link.Cut()
	require.NoError(t, e.Close())
	etcdtest.StartEtcdAt(t, t.TempDir(), e.Endpoint())
	store := etcdstore.NewRoutes(resolvertest.EtcdClient(t, e.Endpoint()), etcdstore.DefaultPrefix, nil)
	for i := range 20 {
		_, err := store.Put(t.Context(), routetest.Route("new", fmt.Sprintf("/a.S/M%d", i), 0))
		require.NoError(t, err)
	}
	link.Restore()
	etcdtest.Eventually(t, etcdtest.Soon, "the old store's route is gone", resolvertest.Resolves(r, "/a.S/Old", ""))
	require.True(t, resolvertest.Resolves(r, "/a.S/M19", "new")())
}

func TestSnapshot_ThatCannotBeWrittenIsCountedAndToldOnce(t *testing.T) {
	t.Parallel()
	at := etcdtest.Shared(t)
	cfg := configOf(at)
	dir := filepath.Join(t.TempDir(), "dir")
	cfg.Snapshot = filepath.Join(dir, "s.json")
	require.NoError(t, os.WriteFile(dir, nil, 0o600)) // no directory
	s, _, log, _ := startSource(t, cfg)
	waitReady(t, s)
	const failed = "the snapshot of routes cannot be written"
	etcdtest.Eventually(t, etcdtest.Soon, "the failure counts", func() bool { return s.Status().SnapshotFailures > 0 })
	require.Zero(t, s.Status().SnapshotWritten)
	s.snapshotDue()
	etcdtest.Eventually(t, etcdtest.Soon, "and the next one", func() bool { return s.Status().SnapshotFailures > 1 })
	require.Equal(t, 1, log.Count(failed), log.String())
	require.NoError(t, os.Remove(dir))
	s.snapshotDue()
	etcdtest.Eventually(t, etcdtest.Soon, "it is written", func() bool { return !s.Status().SnapshotWritten.IsZero() })
	etcdtest.Eventually(t, etcdtest.Soon, "that is told", func() bool { return log.Count("the snapshot of routes is written again") == 1 })
}
