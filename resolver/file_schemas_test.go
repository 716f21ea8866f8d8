package resolver

import (
	"context"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/framegate/framegate/resolver/schema"
	"github.com/framegate/framegate/test/testlog"
)

const (
	addProto  = `syntax = "proto3"; package shop; import "item.proto"; service Shop { rpc Add(Item) returns (Item); }`
	itemProto = `syntax = "proto3"; package shop; message Item { string id = 1; }`

	// itemProtoWithPrice changes what the rules of fileRoutes are made of.
	itemProtoWithPrice = `syntax = "proto3"; package shop; message Item { string id = 1; string price = 2; }`

	fileRoutes = `routes:
- name: shop
  match: [{method: /shop.Shop/*}]
  mode: struct
  schema: {files: [protos/shop.proto]}
  struct: {rules: [{on: request, method: /shop.Shop/Add, when: "message.id == ''", action: drop}]}
  backends: [{endpoints: [{address: "h:1"}]}]
`
)

// schemaFiles is a routes file with the files of its schema in a directory beside it.
type schemaFiles struct {
	t      *testing.T
	dir    string
	routes string
}

func newSchemaFiles(t *testing.T) schemaFiles {
	t.Helper()
	f := schemaFiles{t: t, dir: t.TempDir()}
	f.routes = filepath.Join(f.dir, "routes.yaml")
	require.NoError(t, os.Mkdir(filepath.Join(f.dir, "protos"), 0o700))
	write(t, f.routes, fileRoutes)
	old := time.Now().Add(-time.Hour) // no reason to read it again
	require.NoError(t, os.Chtimes(f.routes, old, old))
	f.write("shop.proto", addProto)
	f.write("item.proto", itemProto)
	return f
}

func (f schemaFiles) path(name string) string { return filepath.Join(f.dir, "protos", name) }

// write replaces a file of the schema in one step.
func (f schemaFiles) write(name, content string) {
	f.t.Helper()
	whole := filepath.Join(f.dir, "whole")
	write(f.t, whole, content)
	require.NoError(f.t, os.Rename(whole, f.path(name)))
}

// addRoute is a route of /shop.Shop/Add in struct mode, whose schema is still to be named, with a rule for the field id.
func addRoute(t *testing.T, name string) *Route {
	t.Helper()
	return mustRoute(t, "{name: "+name+", match: [{method: /shop.Shop/*}], mode: struct, schema: {name: unused}, backends: [{endpoints: [{address: \"h:1\"}]}],"+
		"struct: {rules: [{on: request, method: /shop.Shop/Add, when: \"message.id == ''\", action: drop}]}}")
}

// run runs a source until the test ends.
func (f schemaFiles) run() (*Resolver, *FileSource, *testlog.Buffer) {
	f.t.Helper()
	noLeaks(f.t)
	r, log := New(), &testlog.Buffer{}
	s, err := OpenFile(f.t.Context(), f.routes, r, compileForTest, log.Logger())
	require.NoError(f.t, err)
	s.Interval = testInterval
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { s.Run(ctx) })
	f.t.Cleanup(wg.Wait)
	f.t.Cleanup(cancel)
	return r, s, log
}

// made reports whether new calls meet a program of a schema with those fields.
func made(r *Resolver, fields string) func() bool {
	return func() bool {
		target, _ := r.Resolve(Request{Method: "/shop.Shop/Add"})
		p, ok := target.Program.(*testProgram)
		if !ok {
			return false
		}
		got := ""
		all := p.schema.Method("/shop.Shop/Add").Input().Fields()
		for i := range all.Len() {
			got += " " + string(all.Get(i).Name())
		}
		return got == fields
	}
}

func TestFileSchemas_ChangesComeIntoForceWithoutTheRoutesFile(t *testing.T) {
	f := newSchemaFiles(t)
	r, s, log := f.run()
	require.True(t, made(r, " id")(), "in force when OpenFile returns, from files relative to the routes file")

	f.write("item.proto", itemProtoWithPrice)
	eventually(t, 2*time.Second, "the change of an import is in force", made(r, " id price"))
	f.write("shop.proto", `syntax = "proto3"; package shop; service Shop { rpc Add(Own) returns (Own); } message Own { string id = 1; string own = 2; }`)
	eventually(t, 2*time.Second, "the change of the file is in force", made(r, " id own"))
	require.Zero(t, s.Status().Rejections)
	require.Zero(t, log.Count("level=ERROR"))
	require.Equal(t, 2, log.Count("routes file loaded"), "once for each change")
}

func TestFileSchemas_ABrokenFileKeepsTheLastGood(t *testing.T) {
	f := newSchemaFiles(t)
	r, s, log := f.run()
	const bad = "routes file is bad; the routes of its last good content stay in force"
	for i, c := range []struct{ file, good, content, want string }{
		{"shop.proto", addProto, `syntax = "proto3"; message {`, "routes[0] (shop): schema.files: "},
		{"item.proto", itemProto, `syntax = "proto3"; package shop; message Item { strin id = 1; }`, "strin"},
		{"item.proto", itemProto, `syntax = "proto3"; package shop; message Item { string number = 1; }`, `struct.rules[0].when: no field "id" in shop.Item`},
	} {
		f.write(c.file, c.content)
		eventually(t, 2*time.Second, "the broken file is logged", func() bool { return log.Count(bad) == i+1 })
		require.True(t, made(r, " id")(), c.content)
		require.Contains(t, s.Status().Reason, c.want)
		require.EqualValues(t, i+1, s.Status().Rejections)
		f.write(c.file, c.good)
		eventually(t, 2*time.Second, "the good file is taken again", func() bool { return !s.Status().Stale })
	}

	f.write("item.proto", `syntax = "proto3"; package shop; message Item { string number = 1; }`)
	eventually(t, 2*time.Second, "the broken file is refused", func() bool { return s.Status().Stale })
	// A change that mends nothing shows that the source has looked since.
	f.write("item.proto", `syntax = "proto3"; package shop; message Item { string still_number = 1; }`)
	eventually(t, 2*time.Second, "the next version is logged", func() bool { return log.Count(bad) == 5 })
	f.write("item.proto", itemProtoWithPrice)
	eventually(t, 2*time.Second, "the mended import is in force", made(r, " id price"))
	require.Empty(t, s.Status().Reason)
	require.Equal(t, 5, log.Count(bad), "each broken version is logged once")
}

func TestFileSchemas_AnImportThatVanishedIsMissedAndNoticedWhenItIsBack(t *testing.T) {
	f := newSchemaFiles(t)
	r, s, _ := f.run()
	require.NoError(t, os.Remove(f.path("item.proto")))
	eventually(t, 2*time.Second, "the import is missed", func() bool { return s.Status().Stale })
	require.Contains(t, s.Status().Reason, "item.proto")
	require.True(t, made(r, " id")())
	f.write("item.proto", itemProtoWithPrice)
	eventually(t, 2*time.Second, "the import is in force", made(r, " id price"))
}

// The first route's schema is read before the change, the second's after it.
func TestFileSchemas_AChangeWhileTheFilesAreReadIsNoticed(t *testing.T) {
	f := newSchemaFiles(t)
	f.write("other.proto", `syntax = "proto3"; package shop; import "item.proto"; service Shop { rpc Add(Item) returns (Item); }`)
	first := addRoute(t, "first")
	first.Schema = &SchemaRef{Files: []string{"shop.proto"}}
	second := addRoute(t, "second")
	second.Schema = &SchemaRef{Files: []string{"other.proto"}}
	schemas := fileSchemas{dir: filepath.Join(f.dir, "protos")}
	_, err := schemas.compile(t.Context(), func(r *Route, s *schema.Schema) (Program, error) {
		if r.Name == "first" {
			f.write("item.proto", itemProtoWithPrice)
		}
		return compileForTest(r, s)
	}, []*Route{first, second})
	require.NoError(t, err)
	require.True(t, schemas.changed())
}

func TestFileSchemas_RefuseASchemaInEtcd(t *testing.T) {
	f := newSchemaFiles(t)
	write(t, f.routes, `{name: shop, match: [{method: "*"}], mode: struct, schema: {name: shop}, backends: [{endpoints: [{address: "h:1"}]}]}`)
	_, err := OpenFile(t.Context(), f.routes, New(), compileForTest, (&testlog.Buffer{}).Logger())
	require.EqualError(t, err, f.routes+`: routes[0] (shop): schema.name: "shop", want files or reflection: a routes file has no schemas of etcd`)
}

func TestFileSchemas_NameEveryRouteThatDoesNotFit(t *testing.T) {
	f := newSchemaFiles(t)
	write(t, f.routes, `routes:
- {name: a, match: [{method: "*"}], mode: struct, schema: {files: [none.proto]}, backends: [{endpoints: [{address: "h:1"}]}]}
- {name: b, match: [{method: "*"}], mode: struct, schema: {files: [protos/shop.proto]}, backends: [{endpoints: [{address: "h:1"}]}],
   struct: {rules: [{on: request, method: /shop.Shop/Add, when: "message.colour == ''", action: drop}]}}
`)
	_, err := OpenFile(t.Context(), f.routes, New(), compileForTest, (&testlog.Buffer{}).Logger())
	require.ErrorContains(t, err, f.routes+": routes[0] (a): schema.files: ")
	require.ErrorContains(t, err, filepath.Join(f.dir, "none.proto"))
	require.ErrorContains(t, err, `routes[1] (b): struct.rules[0].when: no field "colour" in shop.Item`)
}

func TestFileSchemas_TakeImportsRelativeToTheRoutesFile(t *testing.T) {
	f := newSchemaFiles(t)
	r := addRoute(t, "shop")
	for _, ref := range []SchemaRef{
		{Files: []string{"protos/shop.proto"}},
		{Files: []string{"shop.proto"}, Imports: []string{"protos"}},
		{Files: []string{"protos/shop.proto"}, Imports: []string{"protos"}},
		{Files: []string{f.path("shop.proto")}, Imports: []string{f.path("")}},
	} {
		r.Schema = &ref
		s, err := LoadSchema(t.Context(), f.dir, r)
		if ref.Files[0] == "shop.proto" {
			require.Error(t, err, "files are relative to the routes file, not to imports")
			continue
		}
		require.NoError(t, err, ref)
		require.Equal(t, []string{"/shop.Shop/Add"}, s.Methods())
	}
	for _, ref := range []*SchemaRef{nil, {Name: "shop"}, {Reflection: true}} {
		r.Schema = ref
		s, err := LoadSchema(t.Context(), f.dir, r)
		require.NoError(t, err)
		require.Nil(t, s)
	}
}
