package app

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/framegate/framegate/resolver/etcdstore"
	"github.com/framegate/framegate/resolver/schema"
)

const (
	shopProto = `syntax = "proto3";
package shop.v1;
message Item { string id = 1; }
message Total { int64 cents = 1; }
service Cart {
  rpc Add(Item) returns (Total);
  rpc Watch(stream Item) returns (stream Total);
}
`
	shopRoute = `name: cart
match: [{method: /shop.v1.Cart/*}]
mode: struct
schema: {name: shop}
struct: {rules: [{on: request, method: /shop.v1.Cart/Add, when: message.id == "", action: reject, status: {code: INVALID_ARGUMENT}}]}
backends: [{endpoints: [{address: 127.0.0.1:9001}]}]
`
)

// schemaCLI runs `framegate schema ...` against an etcd of its own.
type schemaCLI struct {
	*routeCLI
	dir string
}

func newSchemaCLI(t *testing.T) *schemaCLI {
	t.Helper()
	return &schemaCLI{newRouteCLI(t), t.TempDir()}
}

// file writes a file and returns its path.
func (c *schemaCLI) file(name, content string) string {
	c.t.Helper()
	path := filepath.Join(c.dir, name)
	require.NoError(c.t, os.MkdirAll(filepath.Dir(path), 0o700))
	require.NoError(c.t, os.WriteFile(path, []byte(content), 0o600))
	return path
}

// framegate runs a command as people do, with --etcd.
func (c *schemaCLI) framegate(args ...string) (stdout, stderr string, code int) {
	c.t.Helper()
	return runSchema(c.t, append(args, "--etcd", c.endpoint)...)
}

func runSchema(t *testing.T, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	var out, errs bytes.Buffer
	code = Run(t.Context(), args, strings.NewReader(""), &out, &errs)
	return out.String(), errs.String(), code
}

func (c *schemaCLI) ok(args ...string) string {
	c.t.Helper()
	stdout, stderr, code := c.framegate(append([]string{"schema"}, args...)...)
	require.Equal(c.t, exitDone, code, stderr)
	require.Empty(c.t, stderr)
	return stdout
}

// fails runs a command that must say one line on standard error, and returns it.
func (c *schemaCLI) fails(code int, args ...string) string {
	c.t.Helper()
	stdout, stderr, got := c.framegate(append([]string{"schema"}, args...)...)
	require.Equal(c.t, code, got, stderr)
	require.Empty(c.t, stdout)
	line, rest, _ := strings.Cut(stderr, "\n")
	require.Empty(c.t, rest, "one line")
	return line
}

func (c *schemaCLI) putRaw(name string, doc []byte) {
	c.t.Helper()
	_, err := c.client().Put(c.t.Context(), etcdstore.DefaultPrefix+"/schemas/"+name, string(doc))
	require.NoError(c.t, err)
}

func TestSchema_PutGetListAndDelete(t *testing.T) {
	t.Parallel()
	c := newSchemaCLI(t)
	require.Equal(t, "NAME  REVISION  METHODS  BYTES\n", c.ok("list"))
	require.JSONEq(t, `{"schemas": []}`, c.ok("list", "-o", "json"))
	proto := c.file("shop.proto", shopProto)
	require.Equal(t, "schema shop: created (revision 2)\n", c.ok("put", "shop", "-f", proto))
	require.Equal(t, "schema shop: unchanged (revision 2)\n", c.ok("put", "shop", "-f", proto))
	require.JSONEq(t, `{"name": "shop", "outcome": "unchanged", "revision": 2}`, c.ok("put", "shop", "-f", proto, "-o", "json"))

	require.Equal(t, `METHOD               REQUEST              RESPONSE
/shop.v1.Cart/Add    shop.v1.Item         shop.v1.Total
/shop.v1.Cart/Watch  stream shop.v1.Item  stream shop.v1.Total
`, c.ok("get", "shop"))
	require.Equal(t, "name: shop\nrevision: 2\nmethods:\n  - /shop.v1.Cart/Add\n  - /shop.v1.Cart/Watch\n", c.ok("get", "shop", "-o", "yaml"))
	require.Regexp(t, `^NAME  REVISION  METHODS  BYTES\nshop  2         2        \d+\n$`, c.ok("list"))
	require.JSONEq(t, `{"schemas": [{"name": "shop", "revision": 2, "methods": ["/shop.v1.Cart/Add", "/shop.v1.Cart/Watch"]}]}`, c.ok("list", "-o", "json"))

	c.file("shop.proto", strings.Replace(shopProto, "string id = 1;", "string id = 1; string note = 2;", 1))
	require.Equal(t, "schema shop: updated (revision 3)\n", c.ok("put", "shop", "-f", proto))
	require.Equal(t, "schema shop: deleted\n", c.ok("delete", "shop"))
	require.Equal(t, "framegate: schema shop: not found in etcd at "+c.endpoint, c.fails(exitFailed, "delete", "shop"))
	require.Equal(t, "framegate: schema shop: not found in etcd at "+c.endpoint, c.fails(exitFailed, "get", "shop"))
}

func TestSchema_DescriptorsOfOneCanBePutAgain(t *testing.T) {
	t.Parallel()
	c := newSchemaCLI(t)
	importing := strings.Replace(shopProto, "message Item { string id = 1; }", `import "shop/v1/item.proto";`, 1)
	proto := c.file("api/shop/v1/shop.proto", importing)
	c.file("api/shop/v1/item.proto", `syntax = "proto3"; package shop.v1; message Item { string id = 1; }`)
	require.Equal(t, "schema shop: created (revision 2)\n", c.ok("put", "shop", "-f", proto, "-I", filepath.Join(c.dir, "api")))

	set := filepath.Join(c.dir, "shop.binpb")
	require.Empty(t, c.ok("get", "shop", "--descriptors", set))
	doc, err := os.ReadFile(set)
	require.NoError(t, err)
	s, err := schema.Parse(doc)
	require.NoError(t, err)
	require.Equal(t, []string{"/shop.v1.Cart/Add", "/shop.v1.Cart/Watch"}, s.Methods())
	require.Equal(t, "schema shop: unchanged (revision 2)\n", c.ok("put", "shop", "-f", set))
	require.Equal(t, "schema copy: created (revision 3)\n", c.ok("put", "copy", "--file", set))

	none := filepath.Join(c.dir, "none", "shop.binpb")
	require.Equal(t, "framegate: open "+none+": no such file or directory", c.fails(exitFailed, "get", "shop", "--descriptors", none))
}

func TestSchema_RoutesHoldTheirSchema(t *testing.T) {
	t.Parallel()
	c := newSchemaCLI(t)
	proto := c.file("shop.proto", shopProto)
	route := c.file("cart.yaml", shopRoute)
	_, stderr, code := c.framegate("route", "put", "-f", route)
	require.Equal(t, exitFailed, code)
	require.Equal(t, "framegate: route cart: schema.name: \"shop\" is not in etcd, want a schema that was put before\n", stderr)
	c.ok("put", "shop", "-f", proto)
	_, stderr, code = c.framegate("route", "put", "-f", route)
	require.Equal(t, exitDone, code, stderr)

	c.file("shop.proto", strings.Replace(shopProto, "string id = 1;", "string number = 1;", 1))
	line := c.fails(exitFailed, "put", "shop", "-f", proto)
	require.Contains(t, line, "framegate: put schema shop: route cart: struct.rules[0].when: ")
	require.Contains(t, line, "id")
	require.Equal(t, "framegate: delete schema shop: in use by route cart", c.fails(exitFailed, "delete", "shop"))

	_, stderr, code = c.framegate("route", "delete", "cart")
	require.Equal(t, exitDone, code, stderr)
	require.Regexp(t, `^schema shop: updated \(revision \d+\)\n$`, c.ok("put", "shop", "-f", proto))
	require.Equal(t, "schema shop: deleted\n", c.ok("delete", "shop"))
}

func TestSchema_BadDocumentsAreNamed(t *testing.T) {
	t.Parallel()
	c := newSchemaCLI(t)
	c.ok("put", "shop", "-f", c.file("shop.proto", shopProto))
	c.putRaw("bad", []byte("\xff"))
	stdout, stderr, code := c.framegate("schema", "list")
	require.Equal(t, exitDone, code)
	require.Contains(t, stdout, "shop")
	require.NotContains(t, stdout, "bad")
	require.Regexp(t, `^framegate: schema bad: bad document at revision 3: [^\n]+; put it again or delete it\n$`, stderr)
	require.NotEmpty(t, c.fails(exitFailed, "get", "bad"))
	require.Equal(t, "schema bad: deleted\n", c.ok("delete", "bad"))
	_, stderr, _ = c.framegate("schema", "list")
	require.Empty(t, stderr)
}

func TestSchema_PutNamesWhatIsWrongWithFiles(t *testing.T) {
	t.Parallel()
	c := newSchemaCLI(t)
	none := filepath.Join(c.dir, "none.proto")
	require.Contains(t, c.fails(exitFailed, "put", "shop", "-f", none), none+": no such file or directory")
	broken := c.file("broken.proto", "syntax = \"proto3\";\nmessage A { strin a = 1; }\nmessage B { strin b = 1; }\n")
	line := c.fails(exitFailed, "put", "shop", "-f", broken)
	require.Contains(t, line, broken+":2:")
	require.Contains(t, line, broken+":3:", "all mistakes, on one line")
	set := c.file("set.binpb", "\xff")
	require.Contains(t, c.fails(exitFailed, "put", "shop", "-f", set), set)
	require.Equal(t, "NAME  REVISION  METHODS  BYTES\n", c.ok("list"), "nothing is stored")
}

func TestSchema_WrongUsageNamesFlagValueAndWant(t *testing.T) {
	t.Parallel()
	c := newSchemaCLI(t)
	for _, u := range []struct {
		args []string
		want string
	}{
		{[]string{"put"}, `framegate schema put: arguments [], want the NAME of one schema`},
		{[]string{"get", "a", "b"}, `framegate schema get: arguments ["a" "b"], want the NAME of one schema`},
		{[]string{"delete", ""}, `framegate schema delete: arguments [""], want the NAME of one schema`},
		{[]string{"list", "a"}, `framegate schema list: unexpected argument "a", want none`},
		{[]string{"put", "shop"}, "--file: missing, want a .proto file or a FileDescriptorSet"},
		{[]string{"put", "Shop", "-f", "shop.proto"}, `NAME: "Shop", want 1 to 63 of a-z 0-9 . - with a letter or digit first`},
		{[]string{"list", "--prefix", "x/"}, `--prefix: "x/", want /name`},
		{[]string{"list", "-o", "xml"}, `-o: "xml", want table, json or yaml`},
		{[]string{"list", "--timeout", "0s"}, "--timeout: 0s, want more than 0s"},
		{[]string{"get", "shop", "--colour"}, "framegate schema get: unknown flag: --colour"},
	} {
		require.Contains(t, c.fails(exitUsage, u.args...), u.want)
	}
	_, stderr, code := runSchema(t, "schema", "rename")
	require.Equal(t, exitUsage, code)
	require.Equal(t, "framegate: framegate schema: unknown command \"rename\" (see framegate schema --help)\n", stderr)
	stdout, stderr, code := runSchema(t, "schema")
	require.Equal(t, exitUsage, code)
	require.Contains(t, stdout, "Usage:")
	require.Equal(t, "framegate: framegate schema: a command is missing, want put, get, list or delete\n", stderr)
}

func TestSchema_SaysThatEtcdCannotBeReached(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"list"}, {"get", "shop"}, {"delete", "shop"}} {
		_, stderr, code := runSchema(t, append(append([]string{"schema"}, args...), "--etcd", "127.0.0.1:1")...)
		require.Equal(t, exitFailed, code)
		require.Contains(t, stderr, "etcd at 127.0.0.1:1 cannot be used (")
		require.Equal(t, 1, strings.Count(stderr, "\n"))
	}
}

func TestSchema_KeepsToItsPrefix(t *testing.T) {
	t.Parallel()
	c := newSchemaCLI(t)
	c.ok("put", "shop", "-f", c.file("shop.proto", shopProto), "--prefix", "/other")
	require.NotContains(t, c.ok("list"), "shop")
	require.Contains(t, c.ok("list", "--prefix", "/other"), "shop")
}
