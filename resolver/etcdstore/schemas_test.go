package etcdstore

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/framegate/framegate/resolver"
	"github.com/framegate/framegate/resolver/etcdclient"
	"github.com/framegate/framegate/resolver/match"
	"github.com/framegate/framegate/resolver/schema"
	"github.com/framegate/framegate/resolver/spec"
	"github.com/framegate/framegate/test/etcdtest"
	"github.com/framegate/framegate/test/resolvertest"
	"github.com/framegate/framegate/test/routetest"
)

// newSchemaStores returns empty stores in the etcd that tests share, a client of it and the stores' prefix. compile nil means
// routetest.CompileForTest.
func newSchemaStores(t *testing.T, compile resolver.Compiler) (*Routes, *Schemas, *clientv3.Client, string) {
	t.Helper()
	if compile == nil {
		compile = routetest.CompileForTest
	}
	at := etcdtest.Shared(t)
	cli := resolvertest.EtcdClient(t, at.Endpoint)
	return NewRoutes(cli, at.Prefix, compile), NewSchemas(cli, at.Prefix, compile), cli, at.Prefix
}

func TestSchemaStore_PutTellsWhatItDid(t *testing.T) {
	t.Parallel()
	s := NewSchemas(newOwnStore(t).cli, DefaultPrefix, routetest.CompileForTest)
	one, two := routetest.ShopSchema(t, "a"), routetest.ShopSchema(t, "a", "b")
	created, err := s.Put(t.Context(), "shop", one)
	require.NoError(t, err)
	require.Equal(t, PutResult{Name: "shop", Outcome: match.Created, Revision: created.Revision}, created)
	same, err := s.Put(t.Context(), "shop", routetest.ShopSchema(t, "a"))
	require.NoError(t, err)
	require.Equal(t, PutResult{Name: "shop", Outcome: match.Unchanged, Revision: created.Revision}, same)
	updated, err := s.Put(t.Context(), "shop", two)
	require.NoError(t, err)
	require.Equal(t, PutResult{Name: "shop", Outcome: match.Updated, Revision: created.Revision + 1}, updated)

	got, err := s.Get(t.Context(), "shop")
	require.NoError(t, err)
	require.NoError(t, got.Err)
	require.Equal(t, two.Encode(), got.Schema.Encode())
	require.Equal(t, updated.Revision, got.Revision)

	found, err := s.Delete(t.Context(), "shop")
	require.NoError(t, err)
	require.True(t, found)
	found, err = s.Delete(t.Context(), "shop")
	require.NoError(t, err)
	require.False(t, found)
	_, err = s.Get(t.Context(), "shop")
	require.ErrorIs(t, err, ErrNotFound)
	require.EqualError(t, err, "schema shop: not found")
	for _, name := range []string{"", "Shop", "a/b", strings.Repeat("a", 64)} {
		_, err = s.Put(t.Context(), name, one)
		require.EqualError(t, err, fmt.Sprintf("put schema: name: %q, want 1 to 63 of a-z 0-9 . - with a letter or digit first", name))
	}
}

func TestSchemaStore_ListsGoodAndBadDocuments(t *testing.T) {
	t.Parallel()
	_, s, cli, prefix := newSchemaStores(t, nil)
	_, err := s.Put(t.Context(), "shop", routetest.ShopSchema(t, "a"))
	require.NoError(t, err)
	etcdtest.PutRaw(t, cli, prefix+"/schemas/bad", []byte("x"))
	etcdtest.PutRaw(t, cli, prefix+"/schemas/Bad Name", routetest.ShopSchema(t, "a").Encode())
	all, err := s.List(t.Context())
	require.NoError(t, err)
	require.Len(t, all, 3)
	require.Equal(t, []string{"Bad Name", "bad", "shop"}, []string{all[0].Name, all[1].Name, all[2].Name})
	require.ErrorContains(t, all[0].Err, `name: "Bad Name"`)
	require.ErrorContains(t, all[1].Err, "FileDescriptorSet")
	require.Nil(t, all[1].Schema)
	require.NoError(t, all[2].Err)

	put, err := s.Put(t.Context(), "bad", routetest.ShopSchema(t, "a")) // a bad document gives way
	require.NoError(t, err)
	require.Equal(t, match.Updated, put.Outcome)
	found, err := s.Delete(t.Context(), "Bad Name")
	require.NoError(t, err)
	require.True(t, found)
}

func TestSchemaStore_PutRefusesWhatBreaksRoutes(t *testing.T) {
	t.Parallel()
	routes, s, cli, prefix := newSchemaStores(t, nil)
	good, err := s.Put(t.Context(), "shop", routetest.ShopSchema(t, "a", "b"))
	require.NoError(t, err)
	_, err = routes.PutAll(t.Context(), []*spec.Route{
		routetest.StructRoute(t, "x", "shop", "a"), routetest.StructRoute(t, "y", "shop", "b"), routetest.StructRoute(t, "z", "shop"), routetest.Route("frame", "/a.S/M", 0),
	})
	require.NoError(t, err)
	etcdtest.PutRaw(t, cli, prefix+"/routes/bad", []byte("name: bad\nschema: {name: shop}\n"))
	_, err = s.Put(t.Context(), "shop", routetest.ShopSchema(t, "c"))
	require.EqualError(t, err, `put schema shop: route x: struct.rules[0].when: no field "a" in shop.Order`+"\n"+
		`route y: struct.rules[0].when: no field "b" in shop.Order`)
	got, err := s.Get(t.Context(), "shop")
	require.NoError(t, err)
	require.Equal(t, good.Revision, got.Revision, "nothing is stored")

	_, err = s.Put(t.Context(), "other", routetest.ShopSchema(t, "c"))
	require.NoError(t, err, "no route uses it")
	_, err = s.Put(t.Context(), "shop", routetest.ShopSchema(t, "b", "a", "c"))
	require.NoError(t, err)
}

func TestSchemaStore_DeleteRefusesWhatRoutesUse(t *testing.T) {
	t.Parallel()
	routes, s, _, _ := newSchemaStores(t, nil)
	_, err := s.Put(t.Context(), "shop", routetest.ShopSchema(t, "a"))
	require.NoError(t, err)
	_, err = routes.Put(t.Context(), routetest.StructRoute(t, "x", "shop", "a"))
	require.NoError(t, err)
	_, err = s.Delete(t.Context(), "shop")
	require.ErrorIs(t, err, ErrSchemaInUse)
	require.EqualError(t, err, "delete schema shop: in use by route x")
	_, err = routes.Delete(t.Context(), "x")
	require.NoError(t, err)
	found, err := s.Delete(t.Context(), "shop")
	require.NoError(t, err)
	require.True(t, found)
}

func TestSchemaStore_RouteThatDoesNotFitIsNotPut(t *testing.T) {
	t.Parallel()
	routes, s, cli, prefix := newSchemaStores(t, nil)
	_, err := s.Put(t.Context(), "shop", routetest.ShopSchema(t, "a"))
	require.NoError(t, err)
	etcdtest.PutRaw(t, cli, prefix+"/schemas/bad", []byte("x"))
	withFiles := routetest.MustRoute(t, `{name: f, mode: struct, match: [{method: "*"}], schema: {files: [a.proto]}, backends: [{service: echo}]}`)
	for want, r := range map[string]*spec.Route{
		`route x: schema.name: "none" is not in etcd, want a schema that was put before`:                         routetest.StructRoute(t, "x", "none"),
		`route x: struct.rules[0].when: no field "b" in shop.Order`:                                              routetest.StructRoute(t, "x", "shop", "b"),
		`route x: schema.name: "bad": bad document in etcd: `:                                                    routetest.StructRoute(t, "x", "bad"),
		`route f: schema.files: ["a.proto"], want name or reflection: every framegate reads etcd, and not every`: withFiles,
	} {
		_, err := routes.Put(t.Context(), r)
		require.ErrorContains(t, err, want)
		_, err = routes.PutAll(t.Context(), []*spec.Route{routetest.StructRoute(t, "good", "shop", "a"), r})
		require.ErrorContains(t, err, want)
		_, err = routes.Plan(t.Context(), match.Change{Put: []*spec.Route{routetest.StructRoute(t, "good", "shop", "a"), r}})
		require.ErrorContains(t, err, want)
	}
	_, err = routes.PutAll(t.Context(), []*spec.Route{routetest.StructRoute(t, "x", "none"), routetest.StructRoute(t, "y", "shop", "b")})
	require.ErrorContains(t, err, "route x: ")
	require.ErrorContains(t, err, "route y: ")
	stored, _, err := routes.List(t.Context())
	require.NoError(t, err)
	require.Empty(t, stored, "nothing is stored")

	plan, err := routes.Plan(t.Context(), match.Change{Put: []*spec.Route{routetest.StructRoute(t, "good", "shop", "a")}})
	require.NoError(t, err)
	require.Equal(t, match.Created, plan.Routes[0].Outcome)
	put, err := routes.Put(t.Context(), routetest.StructRoute(t, "good", "shop", "a"))
	require.NoError(t, err)
	require.Equal(t, match.Created, put.Outcome)
	plan, err = routes.Plan(t.Context(), match.Change{Put: []*spec.Route{routetest.StructRoute(t, "good", "shop")}})
	require.NoError(t, err)
	require.Equal(t, []string{"struct"}, plan.Routes[0].Keys)

	_, err = NewRoutes(cli, prefix, nil).Put(t.Context(), routetest.StructRoute(t, "x", "shop", "a"))
	require.ErrorIs(t, err, resolver.ErrNoCompiler)
}

func TestSchemaStore_RoutesAndTheirSchemasTogetherFitATransaction(t *testing.T) {
	t.Parallel()
	routes, s, _, _ := newSchemaStores(t, nil)
	for _, name := range []string{"one", "two"} {
		_, err := s.Put(t.Context(), name, routetest.ShopSchema(t, "a"))
		require.NoError(t, err)
	}
	many := []*spec.Route{routetest.StructRoute(t, "x", "one"), routetest.StructRoute(t, "y", "two")}
	for i := range MaxPutRoutes - 4 {
		many = append(many, routetest.Route(fmt.Sprintf("r%d", i), "/a.S/M", 0))
	}
	results, err := routes.PutAll(t.Context(), many)
	require.NoError(t, err)
	require.Len(t, results, 126)
	_, err = routes.PutAll(t.Context(), append(many, routetest.Route("last", "/a.S/M", 0)))
	require.EqualError(t, err, "put 127 routes with 2 schemas at once: want at most 128 together")
}

// between returns a Compiler that calls do once, while a store has checked a route and not written it yet.
func between(do func()) resolver.Compiler {
	var once sync.Once
	return func(r *spec.Route, s *schema.Schema) (any, error) {
		p, err := routetest.CompileForTest(r, s)
		once.Do(do)
		return p, err
	}
}

func TestSchemaStore_SchemaThatChangesDuringARoutePutIsCheckedAgain(t *testing.T) {
	t.Parallel()
	var change func()
	routes, s, cli, prefix := newSchemaStores(t, between(func() { change() }))
	_, err := s.Put(t.Context(), "shop", routetest.ShopSchema(t, "a"))
	require.NoError(t, err)

	change = func() { etcdtest.PutRaw(t, cli, prefix+"/schemas/shop", routetest.ShopSchema(t, "b").Encode()) }
	_, err = routes.Put(t.Context(), routetest.StructRoute(t, "x", "shop", "a"))
	require.EqualError(t, err, `route x: struct.rules[0].when: no field "a" in shop.Order`)
	_, err = routes.Get(t.Context(), "x")
	require.ErrorIs(t, err, ErrNotFound)

	other := NewRoutes(cli, prefix, between(func() { // still fits
		etcdtest.PutRaw(t, cli, prefix+"/schemas/shop", routetest.ShopSchema(t, "b", "c").Encode())
	}))
	put, err := other.Put(t.Context(), routetest.StructRoute(t, "x", "shop", "b"), IfRevision(0))
	require.NoError(t, err)
	require.Equal(t, match.Created, put.Outcome)

	gone := NewRoutes(cli, prefix, between(func() {
		_, err := cli.Delete(t.Context(), prefix+"/schemas/shop")
		require.NoError(t, err)
	}))
	_, err = gone.Put(t.Context(), routetest.StructRoute(t, "x", "shop"), IfRevision(put.Revision))
	require.EqualError(t, err, `route x: schema.name: "shop" is not in etcd, want a schema that was put before`)
	got, err := routes.Get(t.Context(), "x")
	require.NoError(t, err)
	require.Equal(t, put.Revision, got.Revision)
}

func TestSchemaStore_RouteThatChangesDuringASchemaPutIsCheckedAgain(t *testing.T) {
	t.Parallel()
	_, s, cli, prefix := newSchemaStores(t, nil)
	_, err := s.Put(t.Context(), "shop", routetest.ShopSchema(t, "a", "b"))
	require.NoError(t, err)
	etcdtest.PutRaw(t, cli, prefix+"/routes/x", routetest.Encoded(t, routetest.StructRoute(t, "x", "shop", "a")))
	racing := NewSchemas(cli, prefix, between(func() {
		etcdtest.PutRaw(t, cli, prefix+"/routes/y", routetest.Encoded(t, routetest.StructRoute(t, "y", "shop", "b")))
	}))
	_, err = racing.Put(t.Context(), "shop", routetest.ShopSchema(t, "a"))
	require.EqualError(t, err, `put schema shop: route y: struct.rules[0].when: no field "b" in shop.Order`)
	again := NewSchemas(cli, prefix, between(func() {
		etcdtest.PutRaw(t, cli, prefix+"/schemas/shop", routetest.ShopSchema(t, "a", "b", "theirs").Encode())
	}))
	put, err := again.Put(t.Context(), "shop", routetest.ShopSchema(t, "a", "b", "ours"))
	require.NoError(t, err)
	require.Equal(t, match.Updated, put.Outcome)
}

func TestSchemaStore_PutsThatAlwaysMeetOthersEndWithErrConflict(t *testing.T) {
	t.Parallel()
	_, _, cli, prefix := newSchemaStores(t, nil)
	etcdtest.PutRaw(t, cli, prefix+"/schemas/shop", routetest.ShopSchema(t, "a").Encode())
	etcdtest.PutRaw(t, cli, prefix+"/routes/y", routetest.Encoded(t, routetest.StructRoute(t, "y", "shop")))
	n := 0
	meddling := func(r *spec.Route, s *schema.Schema) (any, error) {
		n++
		etcdtest.PutRaw(t, cli, prefix+"/schemas/shop", routetest.ShopSchema(t, "a", fmt.Sprintf("f%d", n)).Encode())
		return routetest.CompileForTest(r, s)
	}
	_, err := NewRoutes(cli, prefix, meddling).Put(t.Context(), routetest.StructRoute(t, "x", "shop", "a"))
	require.ErrorIs(t, err, etcdclient.ErrConflict)
	require.EqualError(t, err, "put route x: changed by others meanwhile, try again")
	_, err = NewSchemas(cli, prefix, meddling).Put(t.Context(), "shop", routetest.ShopSchema(t, "a", "b"))
	require.ErrorIs(t, err, etcdclient.ErrConflict)
	require.EqualError(t, err, "put schema shop: changed by others meanwhile, try again")
	require.Equal(t, 2*etcdclient.MaxConflicts, n)
}

// Deletions of a schema meet puts of routes that use it: neither leaves a route without its schema.
func TestSchemaStore_DeleteDuringARoutePutIsRefused(t *testing.T) {
	t.Parallel()
	routes, s, cli, prefix := newSchemaStores(t, nil)
	_, err := s.Put(t.Context(), "shop", routetest.ShopSchema(t, "a"))
	require.NoError(t, err)
	deleting := NewRoutes(cli, prefix, between(func() {
		found, err := s.Delete(t.Context(), "shop")
		require.NoError(t, err)
		require.True(t, found)
	}))
	_, err = deleting.Put(t.Context(), routetest.StructRoute(t, "x", "shop", "a"))
	require.ErrorContains(t, err, `"shop" is not in etcd`)
	_, err = routes.Get(t.Context(), "x")
	require.ErrorIs(t, err, ErrNotFound)
}

// Two clients change a route and its schema as fast as they can: at no revision does the route in etcd not fit the schema.
func TestSchemaStore_NoRevisionHasARouteThatDoesNotFit(t *testing.T) {
	t.Parallel()
	routes, schemas, cli, prefix := newSchemaStores(t, nil)
	other := resolvertest.EtcdClient(t, cli.Endpoints()[0])
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	watch := cli.Watch(ctx, prefix+"/", clientv3.WithPrefix())
	sets := [][]string{{"a"}, {"b"}, {"a", "b"}}
	const rounds = 60
	var docs []*schema.Schema
	for _, fields := range sets {
		docs = append(docs, routetest.ShopSchema(t, fields...))
	}
	users := []*spec.Route{routetest.StructRoute(t, "x", "shop", "a"), routetest.StructRoute(t, "x", "shop", "b")}
	_, err := schemas.Put(t.Context(), "shop", docs[2])
	require.NoError(t, err)

	var wg sync.WaitGroup
	var stored, refused atomic.Int64
	count := func(err error) {
		if err == nil {
			stored.Add(1)
		} else {
			refused.Add(1)
		}
	}
	wg.Go(func() {
		for i := range rounds {
			_, err := routes.Put(t.Context(), users[i%2])
			count(err)
			if i%3 == 2 {
				_, _ = routes.Delete(t.Context(), "x")
			}
		}
	})
	wg.Go(func() {
		store := NewSchemas(other, prefix, routetest.CompileForTest)
		for i := range rounds {
			_, err := store.Put(t.Context(), "shop", docs[i%len(docs)])
			count(err)
			if i%5 == 4 {
				_, _ = store.Delete(t.Context(), "shop")
			}
		}
	})
	wg.Wait()
	t.Logf("%d stored, %d refused", stored.Load(), refused.Load())
	end, err := cli.Put(t.Context(), prefix+"/end", "")
	require.NoError(t, err)

	var inEtcd *schema.Schema
	var user *spec.Route
	for done := false; !done; {
		resp, ok := <-watch
		require.True(t, ok)
		require.NoError(t, resp.Err())
		for _, e := range resp.Events {
			key, deleted := strings.TrimPrefix(string(e.Kv.Key), prefix), e.Type == clientv3.EventTypeDelete
			switch {
			case key == "/schemas/shop" && deleted:
				inEtcd = nil
			case key == "/schemas/shop":
				inEtcd, err = ParseSchema("shop", e.Kv.Value)
				require.NoError(t, err)
			case key == "/routes/x" && deleted:
				user = nil
			case key == "/routes/x":
				user, err = ParseRoute("x", e.Kv.Value)
				require.NoError(t, err)
			}
			if user != nil {
				require.NotNil(t, inEtcd, "the route's schema is gone at revision %d", e.Kv.ModRevision)
				_, err := routetest.CompileForTest(user, inEtcd)
				require.NoError(t, err, "at revision %d", e.Kv.ModRevision)
			}
			done = done || e.Kv.ModRevision == end.Header.Revision
		}
	}
	require.Positive(t, refused.Load())
}

// A route that somebody put past the store, and that does not fit, holds up no change of its schema; those that fit are
// guarded all the same.
func TestSchemaStore_RouteThatNeverFittedBlocksNoPut(t *testing.T) {
	t.Parallel()
	routes, s, cli, prefix := newSchemaStores(t, nil)
	etcdtest.PutRaw(t, cli, prefix+"/routes/misfit", routetest.Encoded(t, routetest.StructRoute(t, "misfit", "shop", "nowhere")))
	_, err := s.Put(t.Context(), "shop", routetest.ShopSchema(t, "a"))
	require.NoError(t, err, "the first")
	_, err = routes.Put(t.Context(), routetest.StructRoute(t, "x", "shop", "a"))
	require.NoError(t, err)
	_, err = s.Put(t.Context(), "shop", routetest.ShopSchema(t, "a", "b"))
	require.NoError(t, err, "the next")
	_, err = s.Put(t.Context(), "shop", routetest.ShopSchema(t, "b"))
	require.EqualError(t, err, `put schema shop: route x: struct.rules[0].when: no field "a" in shop.Order`)
}
