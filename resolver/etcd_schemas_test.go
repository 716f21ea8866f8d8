package resolver

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/framegate/framegate/resolver/schema"
	"github.com/framegate/framegate/test/loopback"
)

// schemaConfig is etcdConfig with a compiler and a snapshot.
func schemaConfig(t *testing.T, endpoint string) EtcdConfig {
	cfg := etcdConfig(endpoint)
	cfg.Compile = compileForTest
	cfg.Snapshot = filepath.Join(t.TempDir(), "last-good.json")
	return cfg
}

func statusOfSchema(s *EtcdSource, name string) (st SchemaStatus) {
	for _, st := range s.Schemas() {
		if st.Name == name {
			return st
		}
	}
	return SchemaStatus{}
}

func statusOfRoute(s *EtcdSource, name string) (st RouteStatus) {
	for _, st := range s.Routes() {
		if st.Name == name {
			return st
		}
	}
	return RouteStatus{}
}

func TestEtcdSchemas_ChangesApplyToNewCallsAtOnceAndNoCallIsWithoutARoute(t *testing.T) {
	t.Parallel()
	e := startEtcd(t)
	cli := etcdClient(t, e.Endpoint())
	one, two := shopSchema(t, "a"), shopSchema(t, "a", "b")
	putRaw(t, cli, "/schemas/shop", one.Encode())
	putRaw(t, cli, "/routes/x", encoded(t, structRoute(t, "x", "shop", "a")))
	s, r, log, _ := startSource(t, schemaConfig(t, e.Endpoint()))
	waitReady(t, s)
	require.True(t, madeOf(r, "x", one), "in force when the source is ready")

	lost := make(chan int, 1)
	stop := make(chan struct{})
	go func() {
		n := 0
		for {
			select {
			case <-stop:
				lost <- n
				return
			default:
				_, _, _ = s.Routes(), s.Schemas(), s.Status()
				if target := buy(r, "x"); target.Route != "x" || target.Program == nil || target.Address == "" {
					n++
				}
			}
		}
	}()
	for range 5 {
		for _, next := range []*schema.Schema{two, one} {
			revision := putRaw(t, cli, "/schemas/shop", next.Encode())
			eventually(t, soon, "the change is live", func() bool { return madeOf(r, "x", next) })
			eventually(t, soon, "its revision is shown", func() bool { return statusOfSchema(s, "shop").Revision == revision })
		}
	}
	close(stop)
	require.Zero(t, <-lost, "calls without a route, a program or an address")
	require.Zero(t, log.Count("level=ERROR"))
}

func TestEtcdSchemas_RefusedSchemaIsShownAndAdoptedLater(t *testing.T) {
	t.Parallel()
	e := startEtcd(t)
	cli := etcdClient(t, e.Endpoint())
	one, two := shopSchema(t, "a"), shopSchema(t, "b")
	s, r, _, _ := startSource(t, schemaConfig(t, e.Endpoint()))
	waitReady(t, s)
	first := putRaw(t, cli, "/routes/x", encoded(t, structRoute(t, "x", "shop", "a"))) // before its schema
	eventually(t, soon, "the route is refused", func() bool { return s.Status().Rejected == 1 && s.Status().Rejections == 1 })
	require.Nil(t, programOf(r, "x"))
	require.ErrorContains(t, statusOfRoute(s, "x").Err, `schema.name: "shop" is not in etcd`)
	require.Zero(t, statusOfRoute(s, "x").Revision)

	good := putRaw(t, cli, "/schemas/shop", one.Encode())
	eventually(t, soon, "the route is in force", func() bool { return madeOf(r, "x", one) })
	require.Equal(t, 0, s.Status().Rejected)
	require.Equal(t, first, statusOfRoute(s, "x").Revision)

	bad := putRaw(t, cli, "/schemas/shop", two.Encode())
	eventually(t, soon, "the schema is refused", func() bool { return s.Status().Rejected == 1 && s.Status().Rejections == 2 })
	st := statusOfSchema(s, "shop")
	require.Equal(t, one.Encode(), st.Schema.Encode())
	require.Equal(t, []int64{good, bad}, []int64{st.Revision, st.Latest})
	require.EqualError(t, st.Err, `route x: struct.rules[0].when: no field "a" in shop.Order`)
	require.True(t, madeOf(r, "x", one))

	fixed := putRaw(t, cli, "/routes/x", encoded(t, structRoute(t, "x", "shop", "b")))
	eventually(t, soon, "both are in force", func() bool { return madeOf(r, "x", two) })
	require.Zero(t, s.Status().Rejected)
	require.Equal(t, bad, statusOfSchema(s, "shop").Revision)
	require.Equal(t, fixed, statusOfRoute(s, "x").Revision)
	require.NoError(t, statusOfSchema(s, "shop").Err)

	wrong := putRaw(t, cli, "/routes/x", encoded(t, structRoute(t, "x", "shop", "a")))
	eventually(t, soon, "the route is refused", func() bool { return s.Status().Rejected == 1 })
	require.Equal(t, []int64{fixed, wrong}, []int64{statusOfRoute(s, "x").Revision, statusOfRoute(s, "x").Latest})
	require.True(t, madeOf(r, "x", two))
}

func TestEtcdSchemas_WrongDocumentsByOtherHandsAreRefusedCountedAndShown(t *testing.T) {
	t.Parallel()
	e := startEtcd(t)
	cli := etcdClient(t, e.Endpoint())
	one := shopSchema(t, "a")
	putRaw(t, cli, "/schemas/shop", one.Encode())
	putRaw(t, cli, "/schemas/born-bad", []byte("no schema"))
	putRaw(t, cli, "/routes/x", encoded(t, structRoute(t, "x", "shop", "a")))
	s, r, _, _ := startSource(t, schemaConfig(t, e.Endpoint()))
	waitReady(t, s)
	require.Equal(t, 1, s.Status().Rejected)
	require.Error(t, statusOfSchema(s, "born-bad").Err)
	require.Nil(t, statusOfSchema(s, "born-bad").Schema)

	cut := one.Encode()
	bad := putRaw(t, cli, "/schemas/shop", cut[:len(cut)-3])
	eventually(t, soon, "it is refused", func() bool { return s.Status().Rejected == 2 })
	st := statusOfSchema(s, "shop")
	require.Error(t, st.Err)
	require.Equal(t, bad, st.Latest)
	require.Less(t, st.Revision, bad)
	require.NotNil(t, st.Schema)
	require.True(t, madeOf(r, "x", one))

	putRaw(t, cli, "/schemas/Bad Name", one.Encode())
	putRaw(t, cli, "/schemas/", one.Encode())
	eventually(t, soon, "bad names are refused", func() bool { return s.Status().Rejected == 4 })
	require.ErrorContains(t, statusOfSchema(s, "Bad Name").Err, `name: "Bad Name", want 1 to 63`)
	require.Equal(t, int64(4), s.Status().Rejections)

	withFiles := mustRoute(t, `{name: f, mode: struct, match: [{method: "*"}], schema: {files: [a.proto]}, backends: [{service: echo}]}`)
	putRaw(t, cli, "/routes/f", encoded(t, withFiles))
	eventually(t, soon, "schema.files is refused", func() bool { return s.Status().Rejected == 5 })
	require.ErrorContains(t, statusOfRoute(s, "f").Err, `schema.files: ["a.proto"], want name or reflection`)

	putRaw(t, cli, "/schemas/shop", one.Encode())
	eventually(t, soon, "the good one is back", func() bool { return s.Status().Rejected == 4 })
	require.NoError(t, statusOfSchema(s, "shop").Err)
}

func TestEtcdSchemas_DeletionByOtherHandsLeavesRoutesAndIsShown(t *testing.T) {
	t.Parallel()
	e := startEtcd(t)
	cli := etcdClient(t, e.Endpoint())
	one := shopSchema(t, "a")
	revision := putRaw(t, cli, "/schemas/shop", one.Encode())
	putRaw(t, cli, "/routes/x", encoded(t, structRoute(t, "x", "shop", "a")))
	cfg := schemaConfig(t, e.Endpoint())
	s, r, _, stop := startSource(t, cfg)
	waitReady(t, s)
	_, err := cli.Delete(t.Context(), DefaultPrefix+"/schemas/shop")
	require.NoError(t, err)
	eventually(t, soon, "the deletion is noticed", func() bool { return statusOfSchema(s, "shop").Err != nil })
	require.Equal(t, []int64{revision, 0}, []int64{statusOfSchema(s, "shop").Revision, statusOfSchema(s, "shop").Latest})
	require.Equal(t, 1, s.Status().Rejected)
	require.True(t, madeOf(r, "x", one))
	stop()

	require.NoError(t, e.Close())
	s, r, _, stop = startSource(t, cfg)
	waitReady(t, s)
	require.True(t, madeOf(r, "x", one), "the snapshot has what was in force")
	stop()
}

func TestEtcdSchemas_SnapshotHasWhatWasInForce(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	e := startEtcdAt(t, dir, loopback.Address(t))
	cli := etcdClient(t, e.Endpoint())
	one, two, other := shopSchema(t, "a"), shopSchema(t, "b"), shopSchema(t, "o")
	putRaw(t, cli, "/schemas/shop", one.Encode())
	putRaw(t, cli, "/schemas/other", other.Encode())
	x := putRaw(t, cli, "/routes/x", encoded(t, structRoute(t, "x", "shop", "a")))
	y := putRaw(t, cli, "/routes/y", encoded(t, structRoute(t, "y", "other", "o")))
	cfg := schemaConfig(t, e.Endpoint())
	s, _, _, stop := startSource(t, cfg)
	waitReady(t, s)
	refused := putRaw(t, cli, "/schemas/shop", two.Encode())
	putRaw(t, cli, "/routes/y", encoded(t, structRoute(t, "y", "other", "none")))
	putRaw(t, cli, "/routes/z", encoded(t, structRoute(t, "z", "missing")))
	eventually(t, soon, "they are refused", func() bool { return s.Status().Rejected == 3 })
	stop()
	require.NoError(t, e.Close())

	s, r, _, _ := startSource(t, cfg)
	waitReady(t, s)
	require.True(t, s.Status().Stale)
	require.True(t, madeOf(r, "x", one) && madeOf(r, "y", other))
	require.Equal(t, []int64{x, y}, []int64{statusOfRoute(s, "x").Revision, statusOfRoute(s, "y").Revision})
	require.Nil(t, programOf(r, "z"))

	startEtcdAt(t, dir, e.Endpoint())
	eventually(t, soon, "etcd is followed again", func() bool { return statusOfSchema(s, "shop").Latest == refused })
	eventually(t, soon, "all three are refused again", func() bool { return s.Status().Rejected == 3 })
	require.True(t, madeOf(r, "x", one) && madeOf(r, "y", other))
	putRaw(t, cli, "/routes/x", encoded(t, structRoute(t, "x", "shop", "b")))
	putRaw(t, cli, "/schemas/missing", other.Encode())
	eventually(t, soon, "changes arrive", func() bool { return madeOf(r, "x", two) && madeOf(r, "z", other) })
}

func TestEtcdSchemas_FollowAStoreThatWasReplaced(t *testing.T) {
	t.Parallel()
	e := startEtcd(t)
	cli := etcdClient(t, e.Endpoint())
	one, two := shopSchema(t, "a"), shopSchema(t, "b")
	for range 10 {
		putRaw(t, cli, "/schemas/old", shopSchema(t, "old").Encode())
		putRaw(t, cli, "/schemas/shop", one.Encode())
	}
	putRaw(t, cli, "/routes/x", encoded(t, structRoute(t, "x", "shop", "a")))
	s, r, _, _ := startSource(t, etcdConfigFor(e.Endpoint()))
	waitReady(t, s)
	require.NoError(t, e.Close())

	startEtcdAt(t, t.TempDir(), e.Endpoint())
	putRaw(t, cli, "/routes/x", encoded(t, structRoute(t, "x", "shop", "b")))
	putRaw(t, cli, "/schemas/shop", two.Encode())
	eventually(t, soon, "the new store is in force", func() bool {
		return madeOf(r, "x", two) && len(s.Schemas()) == 1 && s.Status().Rejected == 0
	})
}

func TestEtcdSchemas_ResyncAfterACompactionTheyMissed(t *testing.T) {
	t.Parallel()
	e := startEtcd(t)
	cli := etcdClient(t, e.Endpoint())
	one, two := shopSchema(t, "a"), shopSchema(t, "b")
	putRaw(t, cli, "/schemas/shop", one.Encode())
	putRaw(t, cli, "/schemas/gone", one.Encode())
	putRaw(t, cli, "/routes/x", encoded(t, structRoute(t, "x", "shop", "a")))
	link := newLink(t, e.Endpoint())
	s, r, _, _ := startSource(t, etcdConfigFor(link.address()))
	waitReady(t, s)
	link.cut()
	putRaw(t, cli, "/schemas/shop", two.Encode())
	putRaw(t, cli, "/routes/x", encoded(t, structRoute(t, "x", "shop", "b")))
	last, err := cli.Delete(t.Context(), DefaultPrefix+"/schemas/gone")
	require.NoError(t, err)
	_, err = cli.Compact(t.Context(), last.Header.Revision)
	require.NoError(t, err)
	require.True(t, madeOf(r, "x", one))
	link.restore()
	eventually(t, soon, "all is as in etcd", func() bool {
		return madeOf(r, "x", two) && len(s.Schemas()) == 1 && s.Status().Rejected == 0
	})
}

// etcdConfigFor is etcdConfig with a compiler.
func etcdConfigFor(endpoint string) EtcdConfig {
	cfg := etcdConfig(endpoint)
	cfg.Compile = compileForTest
	return cfg
}

func TestEtcdSchemas_RoutesWithoutEtcdAndSnapshotWaitForSchemas(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	e := startEtcdAt(t, dir, loopback.Address(t))
	cli := etcdClient(t, e.Endpoint())
	one := shopSchema(t, "a")
	putRaw(t, cli, "/schemas/shop", one.Encode())
	putRaw(t, cli, "/routes/x", encoded(t, structRoute(t, "x", "shop", "a")))
	require.NoError(t, e.Close())
	s, r, log, _ := startSource(t, etcdConfigFor(e.Endpoint()))
	eventually(t, soon, "the outage is logged", func() bool { return log.Count("etcd cannot be used") == 1 })
	startEtcdAt(t, dir, e.Endpoint())
	waitReady(t, s)
	require.True(t, madeOf(r, "x", one))
	require.Zero(t, s.Status().Rejections, "no route was tried before its schema")
}
