package etcdsource

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/framegate/framegate/resolver"
	"github.com/framegate/framegate/resolver/etcdstore"
	"github.com/framegate/framegate/resolver/schema"
	"github.com/framegate/framegate/test/etcdtest"
	"github.com/framegate/framegate/test/loopback"
	"github.com/framegate/framegate/test/resolvertest"
	"github.com/framegate/framegate/test/routetest"
)

// schemaConfig adds a compiler and a snapshot.
func schemaConfig(t *testing.T, cfg Config) Config {
	cfg.Compile = routetest.CompileForTest
	cfg.Snapshot = filepath.Join(t.TempDir(), "last-good.json")
	return cfg
}

func statusOfSchema(s *Source, name string) (st resolver.SchemaStatus) {
	for _, st := range s.Schemas() {
		if st.Name == name {
			return st
		}
	}
	return resolver.SchemaStatus{}
}

func statusOfRoute(s *Source, name string) (st resolver.RouteStatus) {
	for _, st := range s.Routes() {
		if st.Name == name {
			return st
		}
	}
	return resolver.RouteStatus{}
}

func TestEtcdSchemas_ChangesApplyToNewCallsAtOnceAndNoCallIsWithoutARoute(t *testing.T) {
	t.Parallel()
	at := etcdtest.Shared(t)
	cli := resolvertest.EtcdClient(t, at.Endpoint)
	one, two := routetest.ShopSchema(t, "a"), routetest.ShopSchema(t, "a", "b")
	etcdtest.PutRaw(t, cli, at.Prefix+"/schemas/shop", one.Encode())
	etcdtest.PutRaw(t, cli, at.Prefix+"/routes/x", routetest.Encoded(t, routetest.StructRoute(t, "x", "shop", "a")))
	s, r, log, _ := startSource(t, schemaConfig(t, configOf(at)))
	waitReady(t, s)
	require.True(t, resolvertest.MadeOf(r, "x", one), "in force when the source is ready")

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
				if target := resolvertest.Buy(r, "x"); target.Route != "x" || target.Program == nil || target.Address == "" {
					n++
				}
			}
		}
	}()
	for range 5 {
		for _, next := range []*schema.Schema{two, one} {
			revision := etcdtest.PutRaw(t, cli, at.Prefix+"/schemas/shop", next.Encode())
			etcdtest.Eventually(t, etcdtest.Soon, "the change is live", func() bool { return resolvertest.MadeOf(r, "x", next) })
			etcdtest.Eventually(t, etcdtest.Soon, "its revision is shown", func() bool { return statusOfSchema(s, "shop").Revision == revision })
		}
	}
	close(stop)
	require.Zero(t, <-lost, "calls without a route, a program or an address")
	require.Zero(t, log.Count("level=ERROR"))
}

func TestEtcdSchemas_RefusedSchemaIsShownAndAdoptedLater(t *testing.T) {
	t.Parallel()
	at := etcdtest.Shared(t)
	cli := resolvertest.EtcdClient(t, at.Endpoint)
	one, two := routetest.ShopSchema(t, "a"), routetest.ShopSchema(t, "b")
	s, r, _, _ := startSource(t, schemaConfig(t, configOf(at)))
	waitReady(t, s)
	first := etcdtest.PutRaw(t, cli, at.Prefix+"/routes/x", routetest.Encoded(t, routetest.StructRoute(t, "x", "shop", "a"))) // before its schema
	etcdtest.Eventually(t, etcdtest.Soon, "the route is refused", func() bool { return s.Status().Rejected == 1 && s.Status().Rejections == 1 })
	require.Nil(t, resolvertest.ProgramOf(r, "x"))
	require.ErrorContains(t, statusOfRoute(s, "x").Err, `schema.name: "shop" is not in etcd`)
	require.Zero(t, statusOfRoute(s, "x").Revision)

	good := etcdtest.PutRaw(t, cli, at.Prefix+"/schemas/shop", one.Encode())
	etcdtest.Eventually(t, etcdtest.Soon, "the route is in force", func() bool { return resolvertest.MadeOf(r, "x", one) })
	require.Equal(t, 0, s.Status().Rejected)
	require.Equal(t, first, statusOfRoute(s, "x").Revision)

	bad := etcdtest.PutRaw(t, cli, at.Prefix+"/schemas/shop", two.Encode())
	etcdtest.Eventually(t, etcdtest.Soon, "the schema is refused", func() bool { return s.Status().Rejected == 1 && s.Status().Rejections == 2 })
	st := statusOfSchema(s, "shop")
	require.Equal(t, one.Encode(), st.Schema.Encode())
	require.Equal(t, []int64{good, bad}, []int64{st.Revision, st.Latest})
	require.EqualError(t, st.Err, `route x: struct.rules[0].when: no field "a" in shop.Order`)
	require.True(t, resolvertest.MadeOf(r, "x", one))

	fixed := etcdtest.PutRaw(t, cli, at.Prefix+"/routes/x", routetest.Encoded(t, routetest.StructRoute(t, "x", "shop", "b")))
	etcdtest.Eventually(t, etcdtest.Soon, "both are in force", func() bool { return resolvertest.MadeOf(r, "x", two) })
	require.Zero(t, s.Status().Rejected)
	require.Equal(t, bad, statusOfSchema(s, "shop").Revision)
	require.Equal(t, fixed, statusOfRoute(s, "x").Revision)
	require.NoError(t, statusOfSchema(s, "shop").Err)

	wrong := etcdtest.PutRaw(t, cli, at.Prefix+"/routes/x", routetest.Encoded(t, routetest.StructRoute(t, "x", "shop", "a")))
	etcdtest.Eventually(t, etcdtest.Soon, "the route is refused", func() bool { return s.Status().Rejected == 1 })
	require.Equal(t, []int64{fixed, wrong}, []int64{statusOfRoute(s, "x").Revision, statusOfRoute(s, "x").Latest})
	require.True(t, resolvertest.MadeOf(r, "x", two))
}

func TestEtcdSchemas_WrongDocumentsByOtherHandsAreRefusedCountedAndShown(t *testing.T) {
	t.Parallel()
	at := etcdtest.Shared(t)
	cli := resolvertest.EtcdClient(t, at.Endpoint)
	one := routetest.ShopSchema(t, "a")
	etcdtest.PutRaw(t, cli, at.Prefix+"/schemas/shop", one.Encode())
	etcdtest.PutRaw(t, cli, at.Prefix+"/schemas/born-bad", []byte("no schema"))
	etcdtest.PutRaw(t, cli, at.Prefix+"/routes/x", routetest.Encoded(t, routetest.StructRoute(t, "x", "shop", "a")))
	s, r, _, _ := startSource(t, schemaConfig(t, configOf(at)))
	waitReady(t, s)
	require.Equal(t, 1, s.Status().Rejected)
	require.Error(t, statusOfSchema(s, "born-bad").Err)
	require.Nil(t, statusOfSchema(s, "born-bad").Schema)

	cut := one.Encode()
	bad := etcdtest.PutRaw(t, cli, at.Prefix+"/schemas/shop", cut[:len(cut)-3])
	etcdtest.Eventually(t, etcdtest.Soon, "it is refused", func() bool { return s.Status().Rejected == 2 })
	st := statusOfSchema(s, "shop")
	require.Error(t, st.Err)
	require.Equal(t, bad, st.Latest)
	require.Less(t, st.Revision, bad)
	require.NotNil(t, st.Schema)
	require.True(t, resolvertest.MadeOf(r, "x", one))

	etcdtest.PutRaw(t, cli, at.Prefix+"/schemas/Bad Name", one.Encode())
	etcdtest.PutRaw(t, cli, at.Prefix+"/schemas/", one.Encode())
	etcdtest.Eventually(t, etcdtest.Soon, "bad names are refused", func() bool { return s.Status().Rejected == 4 })
	require.ErrorContains(t, statusOfSchema(s, "Bad Name").Err, `name: "Bad Name", want 1 to 63`)
	require.Equal(t, int64(4), s.Status().Rejections)

	withFiles := routetest.MustRoute(t, `{name: f, mode: struct, match: [{method: "*"}], schema: {files: [a.proto]}, backends: [{service: echo}]}`)
	etcdtest.PutRaw(t, cli, at.Prefix+"/routes/f", routetest.Encoded(t, withFiles))
	etcdtest.Eventually(t, etcdtest.Soon, "schema.files is refused", func() bool { return s.Status().Rejected == 5 })
	require.ErrorContains(t, statusOfRoute(s, "f").Err, `schema.files: ["a.proto"], want name or reflection`)

	etcdtest.PutRaw(t, cli, at.Prefix+"/schemas/shop", one.Encode())
	etcdtest.Eventually(t, etcdtest.Soon, "the good one is back", func() bool { return s.Status().Rejected == 4 })
	require.NoError(t, statusOfSchema(s, "shop").Err)
}

func TestEtcdSchemas_DeletionByOtherHandsLeavesRoutesAndIsShown(t *testing.T) {
	t.Parallel()
	e := etcdtest.StartEtcd(t)
	cli := resolvertest.EtcdClient(t, e.Endpoint())
	one := routetest.ShopSchema(t, "a")
	revision := etcdtest.PutRaw(t, cli, etcdstore.DefaultPrefix+"/schemas/shop", one.Encode())
	etcdtest.PutRaw(t, cli, etcdstore.DefaultPrefix+"/routes/x", routetest.Encoded(t, routetest.StructRoute(t, "x", "shop", "a")))
	cfg := schemaConfig(t, etcdConfig(e.Endpoint()))
	s, r, _, stop := startSource(t, cfg)
	waitReady(t, s)
	_, err := cli.Delete(t.Context(), etcdstore.DefaultPrefix+"/schemas/shop")
	require.NoError(t, err)
	etcdtest.Eventually(t, etcdtest.Soon, "the deletion is noticed", func() bool { return statusOfSchema(s, "shop").Err != nil })
	require.Equal(t, []int64{revision, 0}, []int64{statusOfSchema(s, "shop").Revision, statusOfSchema(s, "shop").Latest})
	require.Equal(t, 1, s.Status().Rejected)
	require.True(t, resolvertest.MadeOf(r, "x", one))
	stop()

	require.NoError(t, e.Close())
	s, r, _, stop = startSource(t, cfg)
	waitReady(t, s)
	require.True(t, resolvertest.MadeOf(r, "x", one), "the snapshot has what was in force")
	stop()
}

func TestEtcdSchemas_SnapshotHasWhatWasInForce(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	e := etcdtest.StartEtcdAt(t, dir, loopback.Address(t))
	cli := resolvertest.EtcdClient(t, e.Endpoint())
	one, two, other := routetest.ShopSchema(t, "a"), routetest.ShopSchema(t, "b"), routetest.ShopSchema(t, "o")
	etcdtest.PutRaw(t, cli, etcdstore.DefaultPrefix+"/schemas/shop", one.Encode())
	etcdtest.PutRaw(t, cli, etcdstore.DefaultPrefix+"/schemas/other", other.Encode())
	x := etcdtest.PutRaw(t, cli, etcdstore.DefaultPrefix+"/routes/x", routetest.Encoded(t, routetest.StructRoute(t, "x", "shop", "a")))
	y := etcdtest.PutRaw(t, cli, etcdstore.DefaultPrefix+"/routes/y", routetest.Encoded(t, routetest.StructRoute(t, "y", "other", "o")))
	cfg := schemaConfig(t, etcdConfig(e.Endpoint()))
	s, _, _, stop := startSource(t, cfg)
	waitReady(t, s)
	refused := etcdtest.PutRaw(t, cli, etcdstore.DefaultPrefix+"/schemas/shop", two.Encode())
	etcdtest.PutRaw(t, cli, etcdstore.DefaultPrefix+"/routes/y", routetest.Encoded(t, routetest.StructRoute(t, "y", "other", "none")))
	etcdtest.PutRaw(t, cli, etcdstore.DefaultPrefix+"/routes/z", routetest.Encoded(t, routetest.StructRoute(t, "z", "missing")))
	etcdtest.Eventually(t, etcdtest.Soon, "they are refused", func() bool { return s.Status().Rejected == 3 })
	stop()
	require.NoError(t, e.Close())

	s, r, _, _ := startSource(t, cfg)
	waitReady(t, s)
	require.True(t, s.Status().Stale)
	require.True(t, resolvertest.MadeOf(r, "x", one) && resolvertest.MadeOf(r, "y", other))
	require.Equal(t, []int64{x, y}, []int64{statusOfRoute(s, "x").Revision, statusOfRoute(s, "y").Revision})
	require.Nil(t, resolvertest.ProgramOf(r, "z"))

	etcdtest.StartEtcdAt(t, dir, e.Endpoint())
	etcdtest.Eventually(t, etcdtest.Soon, "etcd is followed again", func() bool { return statusOfSchema(s, "shop").Latest == refused })
	etcdtest.Eventually(t, etcdtest.Soon, "all three are refused again", func() bool { return s.Status().Rejected == 3 })
	require.True(t, resolvertest.MadeOf(r, "x", one) && resolvertest.MadeOf(r, "y", other))
	etcdtest.PutRaw(t, cli, etcdstore.DefaultPrefix+"/routes/x", routetest.Encoded(t, routetest.StructRoute(t, "x", "shop", "b")))
	etcdtest.PutRaw(t, cli, etcdstore.DefaultPrefix+"/schemas/missing", other.Encode())
	etcdtest.Eventually(t, etcdtest.Soon, "changes arrive", func() bool { return resolvertest.MadeOf(r, "x", two) && resolvertest.MadeOf(r, "z", other) })
}

func TestEtcdSchemas_FollowAStoreThatWasReplaced(t *testing.T) {
	t.Parallel()
	e := etcdtest.StartEtcd(t)
	cli := resolvertest.EtcdClient(t, e.Endpoint())
	one, two := routetest.ShopSchema(t, "a"), routetest.ShopSchema(t, "b")
	for range 10 {
		etcdtest.PutRaw(t, cli, etcdstore.DefaultPrefix+"/schemas/old", routetest.ShopSchema(t, "old").Encode())
		etcdtest.PutRaw(t, cli, etcdstore.DefaultPrefix+"/schemas/shop", one.Encode())
	}
	etcdtest.PutRaw(t, cli, etcdstore.DefaultPrefix+"/routes/x", routetest.Encoded(t, routetest.StructRoute(t, "x", "shop", "a")))
	s, r, _, _ := startSource(t, etcdConfigFor(e.Endpoint()))
	waitReady(t, s)
	require.NoError(t, e.Close())

	etcdtest.StartEtcdAt(t, t.TempDir(), e.Endpoint())
	etcdtest.PutRaw(t, cli, etcdstore.DefaultPrefix+"/routes/x", routetest.Encoded(t, routetest.StructRoute(t, "x", "shop", "b")))
	etcdtest.PutRaw(t, cli, etcdstore.DefaultPrefix+"/schemas/shop", two.Encode())
	etcdtest.Eventually(t, etcdtest.Soon, "the new store is in force", func() bool {
		return resolvertest.MadeOf(r, "x", two) && len(s.Schemas()) == 1 && s.Status().Rejected == 0
	})
}

func TestEtcdSchemas_ResyncAfterACompactionTheyMissed(t *testing.T) {
	t.Parallel()
	e := etcdtest.StartEtcd(t)
	cli := resolvertest.EtcdClient(t, e.Endpoint())
	one, two := routetest.ShopSchema(t, "a"), routetest.ShopSchema(t, "b")
	etcdtest.PutRaw(t, cli, etcdstore.DefaultPrefix+"/schemas/shop", one.Encode())
	etcdtest.PutRaw(t, cli, etcdstore.DefaultPrefix+"/schemas/gone", one.Encode())
	etcdtest.PutRaw(t, cli, etcdstore.DefaultPrefix+"/routes/x", routetest.Encoded(t, routetest.StructRoute(t, "x", "shop", "a")))
	link := etcdtest.NewLink(t, e.Endpoint())
	s, r, _, _ := startSource(t, etcdConfigFor(link.Address()))
	waitReady(t, s)
	link.Cut()
	etcdtest.PutRaw(t, cli, etcdstore.DefaultPrefix+"/schemas/shop", two.Encode())
	etcdtest.PutRaw(t, cli, etcdstore.DefaultPrefix+"/routes/x", routetest.Encoded(t, routetest.StructRoute(t, "x", "shop", "b")))
	last, err := cli.Delete(t.Context(), etcdstore.DefaultPrefix+"/schemas/gone")
	require.NoError(t, err)
	_, err = cli.Compact(t.Context(), last.Header.Revision)
	require.NoError(t, err)
	require.True(t, resolvertest.MadeOf(r, "x", one))
	link.Restore()
	etcdtest.Eventually(t, etcdtest.Soon, "all is as in etcd", func() bool {
		return resolvertest.MadeOf(r, "x", two) && len(s.Schemas()) == 1 && s.Status().Rejected == 0
	})
}

// etcdConfigFor is etcdConfig with a compiler.
func etcdConfigFor(endpoint string) Config {
	cfg := etcdConfig(endpoint)
	cfg.Compile = routetest.CompileForTest
	return cfg
}

func TestEtcdSchemas_RoutesWithoutEtcdAndSnapshotWaitForSchemas(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	e := etcdtest.StartEtcdAt(t, dir, loopback.Address(t))
	cli := resolvertest.EtcdClient(t, e.Endpoint())
	one := routetest.ShopSchema(t, "a")
	etcdtest.PutRaw(t, cli, etcdstore.DefaultPrefix+"/schemas/shop", one.Encode())
	etcdtest.PutRaw(t, cli, etcdstore.DefaultPrefix+"/routes/x", routetest.Encoded(t, routetest.StructRoute(t, "x", "shop", "a")))
	require.NoError(t, e.Close())
	s, r, log, _ := startSource(t, etcdConfigFor(e.Endpoint()))
	etcdtest.Eventually(t, etcdtest.Soon, "the outage is logged", func() bool { return log.Count("etcd cannot be used") == 1 })
	etcdtest.StartEtcdAt(t, dir, e.Endpoint())
	waitReady(t, s)
	require.True(t, resolvertest.MadeOf(r, "x", one))
	require.Zero(t, s.Status().Rejections, "no route was tried before its schema")
}
