package filesource

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/framegate/framegate/resolver"
	"github.com/framegate/framegate/resolver/schema"
	"github.com/framegate/framegate/resolver/spec"
	"github.com/framegate/framegate/test/etcdtest"
	"github.com/framegate/framegate/test/resolvertest"
	"github.com/framegate/framegate/test/routetest"
	"github.com/framegate/framegate/test/testlog"
)

// schemaDir is a directory with a routes file, and the source that follows it.
type schemaDir struct {
	t      *testing.T
	dir    string
	log    *testlog.Buffer
	r      *resolver.Resolver
	source *Source

	compiled atomic.Int64 // routes
}

// newSchemaDir writes the files, of which one is routes.yaml.
func newSchemaDir(t *testing.T, files map[string]string) *schemaDir {
	t.Helper()
	d := &schemaDir{t: t, dir: t.TempDir(), log: &testlog.Buffer{}, r: resolver.New()}
	for name, content := range files {
		d.write(name, content)
	}
	return d
}

func (d *schemaDir) path(name string) string { return filepath.Join(d.dir, name) }

func (d *schemaDir) write(name, content string) {
	d.t.Helper()
	require.NoError(d.t, os.MkdirAll(filepath.Dir(d.path(name)), 0o700))
	write(d.t, d.path(name), content)
}

// old makes the times of the files old enough to tell changes by them.
func (d *schemaDir) old(names ...string) {
	d.t.Helper()
	for _, name := range names {
		at := time.Now().Add(-time.Hour)
		require.NoError(d.t, os.Chtimes(d.path(name), at, at))
	}
}

func (d *schemaDir) open(ctx context.Context) error {
	var err error
	d.source, err = open(ctx, d.path("routes.yaml"), d.r, d.compile, d.log.Logger())
	return err
}

func (d *schemaDir) compile(r *spec.Route, s *schema.Schema) (any, error) {
	d.compiled.Add(1)
	return routetest.CompileForTest(r, s)
}

// run opens the routes file, which must be good, and runs its source until the test ends.
func (d *schemaDir) run() *schemaDir {
	d.t.Helper()
	require.NoError(d.t, d.open(d.t.Context()))
	d.source.SetInterval(testInterval)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { d.source.Run(ctx) })
	d.t.Cleanup(wg.Wait)
	d.t.Cleanup(cancel)
	return d
}

// has reports whether the message of the route in force has a field, or the imported message in it does.
func (d *schemaDir) has(route, field string) func() bool {
	return func() bool {
		p := resolvertest.ProgramOf(d.r, route)
		if p == nil || p.Schema == nil {
			return false
		}
		fields := p.Schema.Method("/shop.Shop/Buy").Input().Fields()
		if part := fields.ByName("f"); part != nil {
			fields = part.Message().Fields()
		}
		return fields.ByTextName(field) != nil
	}
}

func (d *schemaDir) refused(times int) {
	d.t.Helper()
	etcdtest.Eventually(d.t, etcdtest.Soon, fmt.Sprintf("%d versions are refused", times), func() bool {
		return d.source.Status().Rejections == int64(times) && d.log.Count("routes file is bad") >= times // counted, then logged
	})
	require.Equal(d.t, times, d.log.Count("routes file is bad"), "each is logged once")
}

// fileRoutes is a routes file with a route x of /shop.Shop/Buy that has the schema and rules on these fields.
func fileRoutes(ref string, fields ...string) string {
	doc := "routes:\n- name: x\n  match: [{method: /shop.Shop/Buy}]\n  mode: struct\n  schema: " + ref + "\n" +
		"  backends: [{endpoints: [{address: \"h:1\"}]}]\n  struct:\n    rules:\n"
	for _, f := range fields {
		doc += fmt.Sprintf("    - {on: request, method: /shop.Shop/Buy, when: \"message.%s == ''\", action: reject}\n", f)
	}
	return doc
}

const importing = `syntax = "proto3";
package shop;
import "%s.proto";
service Shop { rpc Buy(Order) returns (Order); }
message Order { part.Part f = 1; }
`

func partProto(field string) string {
	return "syntax = \"proto3\";\npackage part;\nmessage Part { string " + field + " = 1; }\n"
}

func TestFileSchemas_ChangedSourceIsTakenUpWithoutTouchingTheRoutesFile(t *testing.T) {
	t.Parallel()
	d := newSchemaDir(t, map[string]string{"routes.yaml": fileRoutes("{files: [proto/shop.proto]}", "a"), "proto/shop.proto": routetest.ShopProto("a")})
	d.old("routes.yaml", "proto/shop.proto")
	d.run()
	require.True(t, d.has("x", "a")(), "paths are relative to the routes file")
	d.write("proto/shop.proto", routetest.ShopProto("a", "b"))
	etcdtest.Eventually(t, etcdtest.Soon, "the new schema is in force", d.has("x", "b"))
	require.Zero(t, d.source.Status().Rejections)
	etcdtest.Eventually(t, etcdtest.Soon, "it is logged", func() bool { return d.log.Count("routes file loaded") > 0 })
	require.Equal(t, 1, d.log.Count("routes file loaded"), "once a change")
}

func TestFileSchemas_ChangedDescriptorSetIsTakenUp(t *testing.T) {
	t.Parallel()
	d := newSchemaDir(t, map[string]string{
		"routes.yaml": fileRoutes("{files: [shop.binpb]}", "a"), "shop.binpb": string(routetest.ShopSchema(t, "a").Encode()),
	}).run()
	d.write("shop.binpb", string(routetest.ShopSchema(t, "a", "b").Encode()))
	etcdtest.Eventually(t, etcdtest.Soon, "the new schema is in force", d.has("x", "b"))
	d.write("shop.binpb", "no schema")
	d.refused(1)
	require.True(t, d.has("x", "b")())
	require.NoError(t, os.Remove(d.path("shop.binpb")))
	d.refused(2)
	require.Contains(t, d.source.Status().Reason, "no such file")
	d.write("shop.binpb", string(routetest.ShopSchema(t, "a", "c").Encode()))
	etcdtest.Eventually(t, etcdtest.Soon, "the new schema is in force", d.has("x", "c"))
	require.Empty(t, d.source.Status().Reason)
}

func TestFileSchemas_BrokenSourceLeavesTheLastGoodInForce(t *testing.T) {
	t.Parallel()
	d := newSchemaDir(t, map[string]string{"routes.yaml": fileRoutes("{files: [shop.proto]}", "a"), "shop.proto": routetest.ShopProto("a")}).run()
	d.write("shop.proto", "syntax = \"proto3\";\nmessage {")
	d.refused(1)
	st := d.source.Status()
	require.Contains(t, st.Reason, d.path("routes.yaml")+": routes[0] (x): schema.files: "+d.path("shop.proto")+":2:9: ")
	require.Equal(t, 1, st.Rejected)
	require.True(t, st.Stale)
	require.True(t, d.has("x", "a")())
	require.Error(t, d.source.Routes()[0].Err)

	d.write("shop.proto", routetest.ShopProto("b")) // good, but the rule does not fit
	d.refused(2)
	require.Contains(t, d.source.Status().Reason, `struct.rules[0].when: no field "a" in shop.Order`)
	require.True(t, d.has("x", "a")())

	d.write("shop.proto", routetest.ShopProto("a", "b"))
	etcdtest.Eventually(t, etcdtest.Soon, "the good schema is in force", d.has("x", "b"))
	etcdtest.Eventually(t, etcdtest.Soon, "the source is well", func() bool { return !d.source.Status().Stale })
	require.Equal(t, int64(2), d.source.Status().Rejections)
}

func TestFileSchemas_RefusalIsSaidOnceHoweverOftenItIsTriedAgain(t *testing.T) {
	t.Parallel()
	const other = "- {name: y, match: [{method: /y.Y/*}], mode: struct, schema: {reflection: true}, backends: [{service: y}]}\n"
	d := newSchemaDir(t, map[string]string{"routes.yaml": fileRoutes("{files: [shop.proto]}") + other, "shop.proto": routetest.ShopProto("a")}).run()
	d.write("shop.proto", fmt.Sprintf(importing, "missing"))
	d.old("shop.proto", "routes.yaml")
	d.refused(1)
	tries := d.compiled.Load() // of y
	etcdtest.Eventually(t, etcdtest.Soon, "it is tried again", func() bool { return d.compiled.Load() > tries+3 })
	d.refused(1)
	require.True(t, d.source.Status().Stale)
}

func TestFileSchemas_MendedImportIsNoticed(t *testing.T) {
	t.Parallel()
	d := newSchemaDir(t, map[string]string{
		"routes.yaml": fileRoutes("{files: [shop.proto]}"), "shop.proto": fmt.Sprintf(importing, "part"), "part.proto": partProto("a"),
	})
	d.old("routes.yaml", "shop.proto", "part.proto")
	d.run()
	require.True(t, d.has("x", "a")())
	d.write("part.proto", "broken")
	d.refused(1)
	require.True(t, d.has("x", "a")())
	d.write("part.proto", partProto("b"))
	etcdtest.Eventually(t, etcdtest.Soon, "the mended import is in force", d.has("x", "b"))

	// One that no good schema has imported yet.
	d.write("shop.proto", fmt.Sprintf(importing, "later"))
	d.old("shop.proto")
	d.refused(2)
	require.Contains(t, d.source.Status().Reason, `import "later.proto": not found`)
	d.write("later.proto", "broken")
	d.refused(3)
	d.write("later.proto", partProto("c"))
	d.old("later.proto")
	etcdtest.Eventually(t, etcdtest.Soon, "the import that came late is in force", d.has("x", "c"))
	require.Equal(t, int64(3), d.source.Status().Rejections)
}

func TestFileSchemas_ImportDirectoriesAreRelativeToTheRoutesFile(t *testing.T) {
	t.Parallel()
	d := newSchemaDir(t, map[string]string{
		"routes.yaml":              fileRoutes("{files: [api/v1/shop.proto], imports: [api, vendored]}"),
		"api/v1/shop.proto":        fmt.Sprintf(importing, "part/part"),
		"vendored/part/part.proto": partProto("a"),
	}).run()
	require.True(t, d.has("x", "a")())
	d.write("vendored/part/part.proto", partProto("b"))
	etcdtest.Eventually(t, etcdtest.Soon, "the changed import is in force", d.has("x", "b"))
}

func TestFileSchemas_NoticeAChangeThatLeavesSizeAndTime(t *testing.T) {
	t.Parallel()
	d := newSchemaDir(t, map[string]string{"routes.yaml": fileRoutes("{files: [shop.proto]}"), "shop.proto": routetest.ShopProto("a")}).run()
	info, err := os.Stat(d.path("shop.proto"))
	require.NoError(t, err)
	d.write("shop.proto", routetest.ShopProto("b"))
	require.NoError(t, os.Chtimes(d.path("shop.proto"), info.ModTime(), info.ModTime()))
	etcdtest.Eventually(t, etcdtest.Soon, "the new schema is in force", d.has("x", "b"))
}

// changingContext changes a file while a schema is being read: what was read is not what is there after that.
type changingContext struct {
	context.Context
	change func()
}

func (c *changingContext) Err() error {
	if change := c.change; change != nil {
		c.change = nil
		change()
	}
	return c.Context.Err()
}

func TestFileSchemas_ChangeWhileAFileIsReadIsNotLost(t *testing.T) {
	t.Parallel()
	d := newSchemaDir(t, map[string]string{"routes.yaml": fileRoutes("{files: [shop.proto]}"), "shop.proto": routetest.ShopProto("a")})
	d.old("routes.yaml", "shop.proto")
	ctx := &changingContext{Context: t.Context()}
	n := 0
	var change func()
	change = func() { // the loader asks before it reads the file and after
		if n++; n == 2 {
			d.write("shop.proto", routetest.ShopProto("a", "b"))
			d.old("shop.proto")
			return
		}
		ctx.change = change
	}
	ctx.change = change
	require.NoError(t, d.open(ctx))
	require.True(t, d.source.schemas.changed(), "what is there now was not read")
}

func TestFileSchemas_RoutesShareASchemaAndAreRefusedTogether(t *testing.T) {
	t.Parallel()
	two := fileRoutes("{files: [shop.proto]}", "a") + "- {name: y, match: [{method: /y.Y/*}], mode: struct, schema: {files: [./shop.proto]}, backends: [{endpoints: [{address: \"h:1\"}]}]}\n"
	d := newSchemaDir(t, map[string]string{"routes.yaml": two, "shop.proto": routetest.ShopProto("a")}).run()
	y, _ := resolvertest.Resolve(d.r, spec.Request{Method: "/y.Y/M"})
	require.Same(t, resolvertest.ProgramOf(d.r, "x").Schema, y.Program.(*routetest.TestProgram).Schema)
	d.write("shop.proto", "broken")
	d.refused(1)
	require.Contains(t, d.source.Status().Reason, "routes[0] (x): ")
	require.Contains(t, d.source.Status().Reason, "routes[1] (y): ")
	require.Len(t, d.r.Routes(), 2)
}

func TestFileSchemas_OpenNamesWhatIsWrong(t *testing.T) {
	t.Parallel()
	for doc, want := range map[string]string{
		fileRoutes("{name: shop}"):                         `routes[0] (x): schema.name: "shop", want files or reflection: a routes file has no schemas of etcd`,
		fileRoutes("{files: [none.proto]}"):                "routes[0] (x): schema.files: stat ",
		fileRoutes("{files: [shop.proto]}", "none"):        `routes[0] (x): struct.rules[0].when: no field "none" in shop.Order`,
		fileRoutes("{files: [shop.proto, a\x00b]}"):        "control characters",
		fileRoutes("{files: [shop.proto], imports: [no]}"): "import directory: ",
	} {
		d := newSchemaDir(t, map[string]string{"routes.yaml": doc, "shop.proto": routetest.ShopProto("a")})
		require.ErrorContains(t, d.open(t.Context()), want)
		require.Empty(t, d.r.Routes())
	}
	d := newSchemaDir(t, map[string]string{"routes.yaml": fileRoutes("{files: [shop.proto]}"), "shop.proto": routetest.ShopProto("a")})
	_, err := open(t.Context(), d.path("routes.yaml"), d.r, nil, d.log.Logger())
	require.ErrorIs(t, err, resolver.ErrNoCompiler)
	reflected := newSchemaDir(t, map[string]string{"routes.yaml": fileRoutes("{reflection: true}")})
	require.NoError(t, reflected.open(t.Context()), "its schema is asked of the endpoints later")
	require.Nil(t, resolvertest.ProgramOf(reflected.r, "x").Schema)
}

func TestFileSchemas_EndOfTheSourceIsNoMistakeInItsFiles(t *testing.T) {
	t.Parallel()
	d := newSchemaDir(t, map[string]string{"routes.yaml": fileRoutes("{files: [shop.proto]}"), "shop.proto": routetest.ShopProto("a")})
	require.NoError(t, d.open(t.Context()))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	d.write("shop.proto", routetest.ShopProto("b"))
	d.source.reload(ctx)
	require.Zero(t, d.source.Status().Rejections)
	require.Empty(t, d.log.String())
}
