package resolver

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

	"github.com/framegate/framegate/test/loopback"
	"github.com/framegate/framegate/test/testlog"
)

// startSource runs a source with a snapshot. The function ends it and returns when it has ended.
func startSource(t *testing.T, cfg EtcdConfig) (*EtcdSource, *Resolver, *testlog.Buffer, func()) {
	t.Helper()
	r, log := New(), &testlog.Buffer{}
	s := NewEtcdSource(cfg, r, log.Logger())
	s.schemas.probeEvery, s.routes.probeEvery, s.instances.probeEvery = 50*time.Millisecond, 50*time.Millisecond, 50*time.Millisecond
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { s.Run(ctx) })
	var once sync.Once
	stop := func() { once.Do(func() { cancel(); wg.Wait() }) }
	t.Cleanup(stop)
	return s, r, log, stop
}

func waitReady(t *testing.T, s *EtcdSource) {
	t.Helper()
	select {
	case <-s.Ready():
	case <-time.After(20 * time.Second): // a user's password costs a busy machine seconds
		t.Fatal("source is not ready within 20s")
	}
}

func putInstance(t *testing.T, cli *clientv3.Client, service, address string) {
	t.Helper()
	_, err := cli.Put(t.Context(), DefaultServicePrefix+"/"+service+"/"+address, fmt.Sprintf(`{"network":"tcp","address":%q,"weight":10,"tags":null}`, address))
	require.NoError(t, err)
}

const serviceRoute = `{name: found, match: [{method: /found.S/*}], backends: [{service: echo}]}`

func TestSnapshot_ServesAStartWithoutEtcdAndGivesWayToIt(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	e := startEtcdAt(t, dir, loopback.Address(t))
	cfg := etcdConfig(e.Endpoint())
	cfg.Snapshot = filepath.Join(t.TempDir(), "deep", "last-good.json")
	cli := etcdClient(t, e.Endpoint())
	store := NewRouteStore(cli, DefaultPrefix, nil)
	_, err := store.PutAll(t.Context(), []*Route{mustRoute(t, serviceRoute), route("kept", "/a.S/Kept", 0), route("gone", "/a.S/Gone", 0), route("changed", "/a.S/Old", 0)})
	require.NoError(t, err)
	putInstance(t, cli, "echo", "e:1")
	_, err = cli.Put(t.Context(), "/framegate/routes/kept", "colour: red") // the last good version must be what is kept
	require.NoError(t, err)
	_, err = store.Put(t.Context(), route("kept", "/a.S/Kept", 0))
	require.NoError(t, err)

	first, r, _, stopFirst := startSource(t, cfg)
	waitReady(t, first)
	require.False(t, first.Status().Stale)
	_, err = cli.Put(t.Context(), "/framegate/routes/kept", "colour: red")
	require.NoError(t, err)
	eventually(t, soon, "the bad version is refused", func() bool { return first.Status().Rejected == 1 })
	require.True(t, resolves(r, "/a.S/Kept", "kept")())
	stopFirst() // writes what it has
	info, err := os.Stat(cfg.Snapshot)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	require.NoError(t, e.Close())

	second, r, log, _ := startSource(t, cfg)
	waitReady(t, second)
	require.True(t, addressOf(r, "/found.S/M", "e:1")(), "instances are in the snapshot too")
	for method, name := range map[string]string{"/a.S/Kept": "kept", "/a.S/Gone": "gone", "/a.S/Old": "changed"} {
		require.True(t, resolves(r, method, name)(), method)
	}
	require.True(t, second.Status().Stale)
	require.NotEmpty(t, second.Status().Reason)
	require.Equal(t, first.Status().Confirmed.UTC().Truncate(0), second.Status().Confirmed.UTC(), "as old as the snapshot")
	require.Equal(t, 1, log.Count("the last good routes are in force"))
	before := r.Routes()

	startEtcdAt(t, dir, e.Endpoint())
	_, err = store.Delete(t.Context(), "gone")
	require.NoError(t, err)
	_, err = store.Put(t.Context(), route("changed", "/a.S/New", 0))
	require.NoError(t, err)
	eventually(t, soon, "etcd's state is in force", func() bool {
		return resolves(r, "/a.S/New", "changed")() && resolves(r, "/a.S/Gone", "")() && resolves(r, "/a.S/Old", "")()
	})
	require.True(t, addressOf(r, "/found.S/M", "e:1")())
	require.True(t, resolves(r, "/a.S/Kept", "kept")())
	same := 0
	for _, route := range r.Routes() {
		if slices.Contains(before, route) {
			same++
		}
	}
	require.Equal(t, 2, same, "what did not change was not put in force again")
	eventually(t, soon, "not stale", func() bool { return !second.Status().Stale })
	require.Equal(t, 1, log.Count("etcd cannot be used"), "logged once a minute at most")
}

func TestSnapshot_IsWrittenSoonAfterAChange(t *testing.T) {
	t.Parallel()
	e := startEtcd(t)
	cfg := etcdConfig(e.Endpoint())
	cfg.Snapshot = filepath.Join(t.TempDir(), "last-good.json")
	s, _, _, _ := startSource(t, cfg)
	waitReady(t, s)
	_, err := NewRouteStore(etcdClient(t, e.Endpoint()), DefaultPrefix, nil).Put(t.Context(), route("echo", "/a.S/M", 0))
	require.NoError(t, err)
	eventually(t, soon, "the file has the route", func() bool {
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
		Format: snapshotFormat, Endpoints: []string{"127.0.0.1:1"}, Prefix: DefaultPrefix, ServicePrefix: DefaultServicePrefix,
		Routes: snapshotPart{Revision: 7, Documents: map[string]snapshotDocument{"echo": {Revision: 7, Value: []byte(serviceRoute)}}},
	}
	for name, c := range map[string]struct {
		change func(*snapshot)
		cut    int64 // bytes that are left of the file; 0 for all
		want   string
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
			c.change(&s)
			require.NoError(t, s.write(cfg.Snapshot))
			if c.cut > 0 {
				require.NoError(t, os.Truncate(cfg.Snapshot, c.cut))
			}
			source, r, log, stop := startSource(t, cfg)
			eventually(t, soon, c.want, func() bool { return log.Count(c.want) == 1 })
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
	eventually(t, soon, "a reason", func() bool { return s.Status().Reason != "" })
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
	e := startEtcd(t)
	cfg := etcdConfig(e.Endpoint())
	cfg.Snapshot = filepath.Join(t.TempDir(), "s.json")
	doc, err := route("echo", "/a.S/Other", 0).Encode()
	require.NoError(t, err)
	s := &snapshot{
		Format: snapshotFormat, Endpoints: cfg.Client.Endpoints, Prefix: cfg.Prefix, ServicePrefix: cfg.ServicePrefix, Cluster: 1,
		Routes: snapshotPart{Revision: 1, Documents: map[string]snapshotDocument{"echo": {Revision: 1 << 40, Value: doc}}},
	}
	require.NoError(t, s.write(cfg.Snapshot))
	_, err = NewRouteStore(etcdClient(t, e.Endpoint()), DefaultPrefix, nil).Put(t.Context(), route("echo", "/a.S/M", 0))
	require.NoError(t, err)
	link := newLink(t, e.Endpoint())
	link.cut()
	cfg.Client.Endpoints = []string{link.address()}
	s.Endpoints = cfg.Client.Endpoints
	require.NoError(t, s.write(cfg.Snapshot))
	source, r, _, _ := startSource(t, cfg)
	waitReady(t, source)
	require.True(t, resolves(r, "/a.S/Other", "echo")())
	link.restore()
	eventually(t, soon, "etcd's own", resolves(r, "/a.S/M", "echo"))
	require.True(t, resolves(r, "/a.S/Other", "")())
}

// A user who may not read routes gets neither etcd's nor none: the last good ones stay, in force and on disk.
func TestSnapshot_StandsInWhereEtcdAnswersButRefuses(t *testing.T) {
	t.Parallel()
	endpoint := startEtcdForUsers(t)
	cli := etcdClient(t, endpoint)
	_, err := NewRouteStore(cli, DefaultPrefix, nil).Put(t.Context(), mustRoute(t, serviceRoute))
	require.NoError(t, err)
	putInstance(t, cli, "echo", "e:1")
	cfg := etcdConfig(endpoint)
	cfg.Snapshot = filepath.Join(t.TempDir(), "s.json")
	first, _, _, stop := startSource(t, cfg)
	waitReady(t, first)
	stop()
	before, err := readSnapshot(cfg.Snapshot, cfg)
	require.NoError(t, err)

	enableAuth(t, cli)
	cfg.Client.Username, cfg.Client.Password = "reader", "p"
	second, r, _, _ := startSource(t, cfg)
	waitReady(t, second)
	eventually(t, soon, "the last good route is in force", addressOf(r, "/found.S/M", "e:1"))
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
	e := startEtcd(t)
	_, err := NewRouteStore(etcdClient(t, e.Endpoint()), DefaultPrefix, nil).Put(t.Context(), route("old", "/a.S/Old", 0))
	require.NoError(t, err)
	link := newLink(t, e.Endpoint())
	r, _ := runSource(t, link.address())
	require.True(t, resolves(r, "/a.S/Old", "old")())
	link.cut()
	require.NoError(t, e.Close())
	startEtcdAt(t, t.TempDir(), e.Endpoint())
	store := NewRouteStore(etcdClient(t, e.Endpoint()), DefaultPrefix, nil)
	for i := range 20 {
		_, err := store.Put(t.Context(), route("new", fmt.Sprintf("/a.S/M%d", i), 0))
		require.NoError(t, err)
	}
	link.restore()
	eventually(t, soon, "the old store's route is gone", resolves(r, "/a.S/Old", ""))
	require.True(t, resolves(r, "/a.S/M19", "new")())
}

func TestSnapshot_ThatCannotBeWrittenIsCountedAndToldOnce(t *testing.T) {
	t.Parallel()
	e := startEtcd(t)
	cfg := etcdConfig(e.Endpoint())
	dir := filepath.Join(t.TempDir(), "dir")
	cfg.Snapshot = filepath.Join(dir, "s.json")
	require.NoError(t, os.WriteFile(dir, nil, 0o600)) // no directory
	s, _, log, _ := startSource(t, cfg)
	waitReady(t, s)
	const failed = "the snapshot of routes cannot be written"
	eventually(t, soon, "the failure counts", func() bool { return s.Status().SnapshotFailures > 0 })
	require.Zero(t, s.Status().SnapshotWritten)
	s.snapshotDue()
	eventually(t, soon, "and the next one", func() bool { return s.Status().SnapshotFailures > 1 })
	require.Equal(t, 1, log.Count(failed), log.String())
	require.NoError(t, os.Remove(dir))
	s.snapshotDue()
	eventually(t, soon, "it is written", func() bool { return !s.Status().SnapshotWritten.IsZero() })
	eventually(t, soon, "that is told", func() bool { return log.Count("the snapshot of routes is written again") == 1 })
}
