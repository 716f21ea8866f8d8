package etcdsource

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/framegate/framegate/resolver"
	"github.com/framegate/framegate/resolver/schema"
	"github.com/framegate/framegate/resolver/spec"
	"github.com/framegate/framegate/test/resolvertest"
	"github.com/framegate/framegate/test/routetest"
	"github.com/framegate/framegate/test/testlog"
)

// boundTest is bindings that put routes in force in a Resolver.
type boundTest struct {
	*bindings
	t        *testing.T
	resolver *resolver.Resolver
	log      *testlog.Buffer
	revision int64
}

func newBound(t *testing.T) *boundTest {
	b := &boundTest{t: t, resolver: resolver.New(), log: &testlog.Buffer{}}
	b.bindings = newBindings(routetest.CompileForTest, func(gone, added []*resolver.Route) {
		b.resolver.Update(Name, gone, added)
	}, b.log.Logger())
	return b
}

func (b *boundTest) put(routes ...*spec.Route) {
	docs := map[string]version[spec.Route]{}
	b.revision++
	for _, r := range routes {
		docs[r.Name] = version[spec.Route]{r, b.revision}
	}
	b.setRoutes(docs)
	b.consistent()
}

func TestBindings_WhatFitsAMomentLaterIsNoRefusal(t *testing.T) {
	b := newBound(t)
	one, two := routetest.ShopSchema(t, "a"), routetest.ShopSchema(t, "b")
	b.setRoutes(map[string]version[spec.Route]{"x": {routetest.StructRoute(t, "x", "shop", "a"), 2}}) // put after its schema, but it comes first
	b.putSchema("shop", one)
	b.setSchemas(map[string]version[schema.Schema]{"shop": {two, 4}})
	b.logRefusals(time.Now().Add(-time.Second))
	require.Len(t, b.refused, 1, "it is too early to tell, and not forgotten")
	b.put(routetest.StructRoute(t, "x", "shop", "b"))
	require.True(t, resolvertest.MadeOf(b.resolver, "x", two))
	b.rejectedIs(0, 0)
	require.Empty(t, b.log.String())
}

func (b *boundTest) remove(route string) {
	b.setRoutes(map[string]version[spec.Route]{route: {}})
	b.consistent()
}

func (b *boundTest) putSchema(name string, s *schema.Schema) {
	b.revision++
	b.setSchemas(map[string]version[schema.Schema]{name: {s, b.revision}})
	b.consistent()
}

func (b *boundTest) removeSchema(name string) {
	b.setSchemas(map[string]version[schema.Schema]{name: {}})
	b.consistent()
}

// consistent checks that what takes calls is what the bindings say is in force, one version of each route.
func (b *boundTest) consistent() {
	b.t.Helper()
	want := []*spec.Route{}
	for _, at := range b.routes {
		if at.bound.value != nil {
			want = append(want, at.bound.value.Route)
		}
	}
	require.ElementsMatch(b.t, want, b.resolver.Routes())
	select {
	case <-b.refused:
		b.logRefusals(time.Now().Add(time.Second))
	default:
		_, told := b.rejected()
		b.logRefusals(time.Now().Add(time.Second))
		_, ever := b.rejected()
		require.Equal(b.t, told, ever, "what is refused wakes up whoever tells it")
	}
}

func (b *boundTest) errorOf(route string) error {
	_, err := b.routeStatus(route, version[spec.Route]{})
	return err
}

func (b *boundTest) errorOfSchema(name string) error {
	_, err := b.schemaStatus(name, version[schema.Schema]{})
	return err
}

func (b *boundTest) rejectedIs(now int, ever int64) {
	b.t.Helper()
	gotNow, gotEver := b.rejected()
	require.Equal(b.t, []int64{int64(now), ever}, []int64{int64(gotNow), gotEver}, "refused now and ever")
}

func TestBindings_SchemaThatFitsGivesRoutesNewPrograms(t *testing.T) {
	b := newBound(t)
	one, two := routetest.ShopSchema(t, "a"), routetest.ShopSchema(t, "a", "b")
	b.putSchema("shop", one)
	b.put(routetest.StructRoute(t, "x", "shop", "a"), routetest.StructRoute(t, "y", "shop"), routetest.Route("frame", "/a.S/M", 0))
	require.True(t, resolvertest.MadeOf(b.resolver, "x", one) && resolvertest.MadeOf(b.resolver, "y", one))
	held := resolvertest.Buy(b.resolver, "x")
	b.putSchema("shop", two)
	require.True(t, resolvertest.MadeOf(b.resolver, "x", two) && resolvertest.MadeOf(b.resolver, "y", two))
	require.Same(t, one, held.Program.(*routetest.TestProgram).Schema, "a call that has its target keeps its program")
	require.True(t, resolvertest.Resolves(b.resolver, "/a.S/M", "frame")())
	b.rejectedIs(0, 0)
	require.Empty(t, b.log.String())
}

func TestBindings_SchemaThatBreaksARouteWaitsForTheRoute(t *testing.T) {
	b := newBound(t)
	one, two := routetest.ShopSchema(t, "a"), routetest.ShopSchema(t, "b")
	b.putSchema("shop", one)
	b.put(routetest.StructRoute(t, "x", "shop", "a"), routetest.StructRoute(t, "y", "shop"))
	b.putSchema("shop", two)
	require.True(t, resolvertest.MadeOf(b.resolver, "x", one) && resolvertest.MadeOf(b.resolver, "y", one), "all routes keep their programs")
	require.EqualError(t, b.errorOfSchema("shop"), `route x: struct.rules[0].when: no field "a" in shop.Order`)
	require.NoError(t, b.errorOf("x"))
	b.rejectedIs(1, 1)

	b.put(routetest.StructRoute(t, "y", "shop", "a")) // of the same schema, but it does not help
	b.rejectedIs(1, 1)
	require.Equal(t, 1, b.log.Count("level=ERROR"), "the same version is refused once")

	b.put(routetest.StructRoute(t, "x", "shop", "b"), routetest.StructRoute(t, "y", "shop"))
	require.True(t, resolvertest.MadeOf(b.resolver, "x", two) && resolvertest.MadeOf(b.resolver, "y", two))
	require.NoError(t, b.errorOfSchema("shop"))
	b.rejectedIs(0, 1)
	require.Equal(t, 1, b.log.Count("level=ERROR"), "the new version of the route fits the schema that came with it")
	require.Equal(t, 1, b.log.Count("a schema that was refused fits the routes now and is in force"))
}

// A route that fits both the schema in force and the refused one gets two programs in one change: only the last counts.
func TestBindings_RouteThatFreesASchemaIsInForceOnce(t *testing.T) {
	b := newBound(t)
	one, two := routetest.ShopSchema(t, "a", "both"), routetest.ShopSchema(t, "both")
	b.putSchema("shop", one)
	b.put(routetest.StructRoute(t, "x", "shop", "a"))
	b.putSchema("shop", two)
	b.put(routetest.StructRoute(t, "x", "shop", "both"))
	require.True(t, resolvertest.MadeOf(b.resolver, "x", two))
	b.remove("x")
	require.Nil(t, resolvertest.ProgramOf(b.resolver, "x"))
	require.Empty(t, b.resolver.Routes())
}

func TestBindings_DeletedRouteFreesASchema(t *testing.T) {
	b := newBound(t)
	one, two := routetest.ShopSchema(t, "a"), routetest.ShopSchema(t, "b")
	b.putSchema("shop", one)
	b.put(routetest.StructRoute(t, "x", "shop", "a"), routetest.StructRoute(t, "y", "shop"))
	b.putSchema("shop", two)
	b.remove("x")
	require.True(t, resolvertest.MadeOf(b.resolver, "y", two))
	require.Nil(t, resolvertest.ProgramOf(b.resolver, "x"))
	b.rejectedIs(0, 1)
}

func TestBindings_RouteComesIntoForceWithItsSchema(t *testing.T) {
	b := newBound(t)
	b.put(routetest.StructRoute(t, "x", "shop", "a"), routetest.Route("frame", "/a.S/M", 0))
	require.Nil(t, resolvertest.ProgramOf(b.resolver, "x"))
	require.True(t, resolvertest.Resolves(b.resolver, "/a.S/M", "frame")(), "others do not wait")
	require.EqualError(t, b.errorOf("x"), `schema.name: "shop" is not in etcd, want a schema that was put before`)
	b.rejectedIs(1, 1)
	require.Equal(t, 1, b.log.Count("no version of it is in force"))

	other := routetest.ShopSchema(t, "b")
	b.putSchema("shop", other) // x does not hold it up
	require.ErrorContains(t, b.errorOf("x"), `no field "a"`)
	b.rejectedIs(1, 1)
	fits := routetest.ShopSchema(t, "a")
	b.putSchema("shop", fits)
	require.True(t, resolvertest.MadeOf(b.resolver, "x", fits))
	b.rejectedIs(0, 1)
	require.Equal(t, 1, b.log.Count("a route that was refused fits its schema now"))
}

func TestBindings_RouteThatDoesNotFitKeepsItsLastVersion(t *testing.T) {
	b := newBound(t)
	one := routetest.ShopSchema(t, "a")
	b.putSchema("shop", one)
	b.put(routetest.StructRoute(t, "x", "shop", "a"))
	was := resolvertest.ProgramOf(b.resolver, "x")
	bad := routetest.StructRoute(t, "x", "shop", "a", "b")
	b.put(bad)
	require.Same(t, was, resolvertest.ProgramOf(b.resolver, "x"))
	require.EqualError(t, b.errorOf("x"), `struct.rules[1].when: no field "b" in shop.Order`)
	b.rejectedIs(1, 1)
	inForce, _ := b.routeStatus("x", version[spec.Route]{bad, 3})
	require.Equal(t, int64(2), inForce.revision, "of the version in force")

	both := routetest.ShopSchema(t, "a", "b")
	b.putSchema("shop", both)
	require.True(t, resolvertest.MadeOf(b.resolver, "x", both))
	require.Contains(t, resolvertest.ProgramOf(b.resolver, "x").When, "message.b", "the last version")
	inForce, err := b.routeStatus("x", version[spec.Route]{bad, 9})
	require.NoError(t, err)
	require.Equal(t, int64(9), inForce.revision, "the same document, written again")
}

// What counts is the version in force: it may be older than the last document of the route.
func TestBindings_SchemaFitsTheVersionsInForce(t *testing.T) {
	b := newBound(t)
	one, two, three := routetest.ShopSchema(t, "a"), routetest.ShopSchema(t, "b"), routetest.ShopSchema(t, "a", "b")
	b.putSchema("shop", one)
	b.put(routetest.StructRoute(t, "x", "shop", "a"))
	b.put(routetest.StructRoute(t, "x", "shop", "none")) // refused
	b.putSchema("shop", two)
	require.True(t, resolvertest.MadeOf(b.resolver, "x", one), "a schema that breaks what is in force is refused")
	require.ErrorContains(t, b.errorOfSchema("shop"), "route x: ")
	b.putSchema("shop", three)
	require.True(t, resolvertest.MadeOf(b.resolver, "x", three), "the version in force has a program of the schema in force")
	require.ErrorContains(t, b.errorOf("x"), `no field "none"`)
	require.NoError(t, b.errorOfSchema("shop"))

	b.put(routetest.StructRoute(t, "x", "missing", "a")) // in force is still the version with shop
	four := routetest.ShopSchema(t, "a", "c")
	b.putSchema("shop", four)
	require.True(t, resolvertest.MadeOf(b.resolver, "x", four))
	require.ErrorContains(t, b.errorOf("x"), `schema.name: "missing" is not in etcd`)
	b.putSchema("shop", two)
	require.True(t, resolvertest.MadeOf(b.resolver, "x", four))
}

func TestBindings_DeletedSchemaLeavesRoutesAndGoesWithThem(t *testing.T) {
	b := newBound(t)
	one := routetest.ShopSchema(t, "a")
	b.putSchema("shop", one)
	b.put(routetest.StructRoute(t, "x", "shop", "a"))
	b.removeSchema("shop")
	require.True(t, resolvertest.MadeOf(b.resolver, "x", one))
	require.EqualError(t, b.errorOfSchema("shop"), "deleted, but route x uses it; its last version stays in force")
	require.Equal(t, 1, b.log.Count("a schema that a route uses was deleted"))
	b.rejectedIs(1, 1)
	require.Equal(t, one, b.deleted()["shop"].Schema)

	b.put(routetest.StructRoute(t, "x", "shop")) // still of the deleted one
	require.True(t, resolvertest.MadeOf(b.resolver, "x", one))
	b.put(routetest.StructRoute(t, "x", "other")) // the version in force is
	require.True(t, resolvertest.MadeOf(b.resolver, "x", one))
	b.rejectedIs(2, 2)
	other := routetest.ShopSchema(t, "c")
	b.putSchema("other", other)
	require.True(t, resolvertest.MadeOf(b.resolver, "x", other))
	require.Empty(t, b.deleted())
	require.NotContains(t, b.schemas, "shop")
	b.rejectedIs(0, 2)

	b.removeSchema("never-was")
	require.NotContains(t, b.schemas, "never-was")
	b.remove("never-was")
	b.rejectedIs(0, 2)
}

func TestBindings_SchemaComesBack(t *testing.T) {
	b := newBound(t)
	one, two := routetest.ShopSchema(t, "a"), routetest.ShopSchema(t, "a", "b")
	b.putSchema("shop", one)
	b.put(routetest.StructRoute(t, "x", "shop", "a"))
	b.removeSchema("shop")
	b.putSchema("shop", routetest.ShopSchema(t, "z"))
	require.True(t, resolvertest.MadeOf(b.resolver, "x", one))
	b.rejectedIs(1, 2)
	b.putSchema("shop", two)
	require.True(t, resolvertest.MadeOf(b.resolver, "x", two))
	b.rejectedIs(0, 2)
}

func TestBindings_WithoutACompilerOnlyFrameRoutesAreInForce(t *testing.T) {
	b := newBound(t)
	b.compile = nil
	b.putSchema("shop", routetest.ShopSchema(t, "a"))
	b.put(routetest.StructRoute(t, "x", "shop"), routetest.Route("frame", "/a.S/M", 0))
	require.ErrorIs(t, b.errorOf("x"), resolver.ErrNoCompiler)
	require.Len(t, b.resolver.Routes(), 1)
}

// Whatever order changes come in, what is in force is one version of each route, made of the schema in force.
func FuzzBindings(f *testing.F) {
	var schemas []*schema.Schema
	fieldSets := [][]string{{"a"}, {"b"}, {"a", "b"}}
	for _, fields := range fieldSets {
		schemas = append(schemas, routetest.ShopSchema(f, fields...))
	}
	names := []string{"one", "two"}
	f.Add([]byte{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17})
	f.Add([]byte{8, 0, 9, 1, 2, 14, 17, 3, 8, 12, 5, 0, 10})
	f.Add([]byte{26, 8, 2, 26, 10, 1, 27, 26, 9, 3})
	f.Fuzz(func(t *testing.T, steps []byte) {
		b := newBound(t)
		lastDocs := map[string]*spec.Route{}
		for _, step := range steps[:min(len(steps), 64)] {
			subject, what := names[step&1], int(step>>1)
			switch {
			case what%8 < 3:
				b.putSchema(subject, schemas[what%8])
			case what%8 == 3:
				b.removeSchema(subject)
			case what%8 < 7:
				r := routetest.StructRoute(t, "r"+subject, names[what>>3&1], fieldSets[what%8-4]...)
				lastDocs[r.Name] = r
				b.put(r)
			default:
				delete(lastDocs, "r"+subject)
				b.remove("r" + subject)
			}
			for name, at := range b.routes {
				if r := at.bound.value; r != nil {
					s := b.schemas[r.SchemaName()]
					require.NotNil(t, s)
					require.Same(t, s.current.value, r.Program.(*routetest.TestProgram).Schema)
				}
				if at.err == nil {
					require.Equal(t, lastDocs[name].Struct, at.bound.value.Struct)
				}
			}
			for _, s := range b.schemas {
				if s.latest.value == nil {
					require.Error(t, s.err)
					continue
				}
				require.Equal(t, s.err == nil, s.current.value == s.latest.value)
			}
		}
	})
}
