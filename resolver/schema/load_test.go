package schema

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
)

func paths(s *Schema) []string {
	var all []string
	for _, src := range s.Sources() {
		all = append(all, src.Path)
	}
	return all
}

// load loads files of dir; import directories are relative to it too.
func load(t testing.TB, dir string, files []string, importDirs ...string) (*Schema, error) {
	t.Helper()
	for _, names := range [][]string{files, importDirs} {
		for i := range names {
			names[i] = filepath.Join(dir, names[i])
		}
	}
	return Load(context.Background(), files, importDirs)
}

func TestLoad_ReadsTheFilesOfThisRepository(t *testing.T) {
	s, err := Load(context.Background(), []string{"../../idl/shop.proto", "../../idl/echo.proto", "../../idl/health.proto"}, nil)
	require.NoError(t, err)
	require.Equal(t, []Service{{"echo.Echo", 4}, {"grpc.health.v1.Health", 2}, {"shop.Shop", 2}}, s.Services())
	require.Equal(t, []string{"../../idl/echo.proto", "../../idl/health.proto", "../../idl/shop.proto"}, paths(s))
	require.True(t, s.Method("/echo.Echo/Chat").IsStreamingClient())
	again, err := Parse(s.Encode())
	require.NoError(t, err)
	require.Equal(t, s.Encode(), again.Encode())
	require.Empty(t, again.Sources())
}

func TestLoad_FindsImports(t *testing.T) {
	const types = `syntax = "proto3"; package t; message T { int32 n = 1; }`
	importing := func(path string) string {
		return `syntax = "proto3"; package u; import "` + path + `"; message U { t.T t = 1; }`
	}
	for name, c := range map[string]struct {
		files      map[string]string
		load, dirs []string
		sources    []string // relative to the directory
	}{
		"beside the file":       {map[string]string{"a/u.proto": importing("t.proto"), "a/t.proto": types}, []string{"a/u.proto"}, nil, []string{"a/t.proto", "a/u.proto"}},
		"in an import dir":      {map[string]string{"a/v1/u.proto": importing("v1/t.proto"), "a/v1/t.proto": types}, []string{"a/v1/u.proto"}, []string{"a"}, []string{"a/v1/t.proto", "a/v1/u.proto"}},
		"of a file outside":     {map[string]string{"b/u.proto": importing("v1/t.proto"), "a/v1/t.proto": types}, []string{"b/u.proto"}, []string{"a"}, []string{"a/v1/t.proto", "b/u.proto"}},
		"beside a file outside": {map[string]string{"b/u.proto": importing("t.proto"), "b/t.proto": types, "a/x": ""}, []string{"b/u.proto"}, []string{"a"}, []string{"b/t.proto", "b/u.proto"}},
		"named below another":   {map[string]string{"a/sub/t.proto": types, "a/u.proto": importing("sub/t.proto")}, []string{"a/sub/t.proto", "a/u.proto"}, nil, []string{"a/sub/t.proto", "a/u.proto"}},
		"named twice":           {map[string]string{"t.proto": types}, []string{"t.proto", "t.proto"}, nil, []string{"t.proto"}},
		"the first dir wins":    {map[string]string{"a/t.proto": types, "b/t.proto": "not proto", "u.proto": importing("t.proto")}, []string{"u.proto"}, []string{"a", "b"}, []string{"a/t.proto", "u.proto"}},
	} {
		dir := write(t, c.files)
		s, err := load(t, dir, c.load, c.dirs...)
		require.NoError(t, err, name)
		var want []string
		for _, src := range c.sources {
			want = append(want, filepath.Join(dir, src))
		}
		require.Equal(t, want, paths(s), name)
		for _, src := range s.Sources() {
			require.True(t, src.Info.Mode().IsRegular())
		}
	}
}

func TestLoad_SaysWhereEveryMistakeIs(t *testing.T) {
	dir := write(t, map[string]string{
		"api/a.proto":    "syntax = \"proto3\";\nimport \"x.proto\";\n  import \"../etc/passwd\";\nmessage A {\n  B b = 1;\n}",
		"api/b.proto":    "syntax = \"proto3\";\nmessage B {\n  int32 x = ;\n  int32 y = 1;\n  int32 = 2;\n}\n",
		"api/c.proto":    "syntax = \"proto3\";\nmessage C {\n  Lost l = 1;\n  Gone x = 2;\n}\nservice S { rpc M(Gone) returns (C); }",
		"api/v/d.proto":  "syntax = \"proto3\"; import \"v/e.proto\";",
		"api/v/e.proto":  "syntax = \"proto3\"; import \"v/d.proto\";",
		"one/same.proto": "syntax = \"proto3\"; message One {}",
		"two/same.proto": "syntax = \"proto3\"; message Two {}",
		"set.binpb":      "syntax = \"proto3\";",
		"empty.binpb":    "",
		"big.proto":      strings.Repeat(" ", maxSourceBytes+1),
	})
	require.NoError(t, syscall.Mkfifo(filepath.Join(dir, "pipe.proto"), 0o600))
	for name, c := range map[string]struct {
		load, dirs, want []string
	}{
		"imports and syntax": {[]string{"api/a.proto", "api/b.proto"}, nil, []string{
			"/api/a.proto:2:8: import \"x.proto\": not found in " + filepath.Join(dir, "api"), "/api/a.proto:3:10: import \"../etc/passwd\": want a path",
			"/api/b.proto:3:13: syntax error", "/api/b.proto:5:9: syntax error"}},
		"types": {[]string{"api/c.proto"}, []string{"api"}, []string{
			"/api/c.proto:3:3: field C.l: unknown type Lost", "/api/c.proto:4:3: field C.x: unknown type Gone", "/api/c.proto:6:19: "}},
		"cycle":       {[]string{"api/v/d.proto"}, []string{"api"}, []string{"/api/v/", ".proto:1:27: cycle found in imports"}},
		"same path":   {[]string{"one/same.proto", "two/same.proto"}, nil, []string{`/two/same.proto: imported as "same.proto", as is `, "/one/same.proto: want"}},
		"no set":      {[]string{"set.binpb", "empty.binpb"}, nil, []string{"/set.binpb: not a FileDescriptorSet", "/empty.binpb: no files"}},
		"not there":   {[]string{"x.proto", "y.binpb"}, nil, []string{"/x.proto: no such file", "/y.binpb: no such file"}},
		"a pipe":      {[]string{"pipe.proto", "api"}, nil, []string{"/pipe.proto: want a regular file", "/api: want a regular file"}},
		"too big":     {[]string{"big.proto"}, nil, []string{"/big.proto: more than 1048576 bytes"}},
		"import dirs": {[]string{"one/same.proto"}, []string{"none", "set.binpb"}, []string{"/none: no such file", "/set.binpb: want a directory"}},
	} {
		_, err := load(t, dir, c.load, c.dirs...)
		require.Error(t, err, name)
		for _, want := range c.want {
			require.ErrorContains(t, err, want, name)
		}
	}
	_, err := Load(context.Background(), nil, nil)
	require.ErrorContains(t, err, "no files")
}

func TestLoad_SaysWhenAFileHasTwoImportPaths(t *testing.T) {
	dir := write(t, map[string]string{
		"a/v1/t.proto": `syntax = "proto3"; package t; message T {}`,
		"a/u.proto":    `syntax = "proto3"; import "v1/t.proto"; import "t.proto";`,
	})
	_, err := load(t, dir, []string{"a/u.proto"}, "a", "a/v1")
	require.ErrorContains(t, err, `imported as "v1/t.proto" and as "t.proto", want one`)
}

func TestLoad_MixesSourcesAndSets(t *testing.T) {
	whole := decoded(t, shop(t).Encode())
	money := encoded(t, setOf(whole.File[3]))
	order := encoded(t, setOf(whole.File[4]))
	dir := write(t, map[string]string{
		"money.binpb":         string(money),
		"order.desc":          string(order),
		"shop/v1/money.proto": moneyProto,
		"shop/v1/order.proto": orderProto,
		"other/money.proto":   strings.Replace(moneyProto, "cents", "pence", 1),
		"free.proto":          `syntax = "proto3"; import "shop/v1/order.proto"; message Free { shop.v1.Kind k = 1; }`,
	})
	for name, c := range map[string]struct{ load, dirs []string }{
		"sets alone":               {[]string{"order.desc", "money.binpb"}, nil},
		"source imports set":       {[]string{"shop/v1/order.proto", "money.binpb"}, []string{"."}},
		"set imports source":       {[]string{"order.desc", "shop/v1/money.proto"}, []string{"."}},
		"set imports from disk":    {[]string{"order.desc"}, []string{"."}},
		"the same file both ways":  {[]string{"order.desc", "shop/v1/order.proto", "money.binpb"}, []string{"."}},
		"the same set twice":       {[]string{"order.desc", "money.binpb", "./order.desc"}, nil},
		"public imports of a set":  {[]string{"free.proto", "order.desc", "money.binpb"}, nil},
		"public imports of source": {[]string{"free.proto"}, nil},
	} {
		s, err := load(t, dir, c.load, c.dirs...)
		require.NoError(t, err, name)
		require.NotNil(t, s.Method("/shop.v1.Orders/Get"), name)
		if !strings.HasPrefix(name, "public") {
			require.Equal(t, shop(t).Encode(), s.Encode(), name)
		}
	}

	require.NoError(t, os.WriteFile(filepath.Join(dir, "shop/v1/money.proto"), []byte(strings.Replace(moneyProto, "cents", "pence", 1)), 0o644))
	_, err := load(t, dir, []string{"money.binpb", "shop/v1/money.proto"}, ".")
	require.ErrorContains(t, err, "shop/v1/money.proto: not the same as in "+filepath.Join(dir, "money.binpb"))
	_, err = load(t, dir, []string{"money.binpb", "other/money.proto"})
	require.ErrorContains(t, err, "money.binpb): defines shop.v1.Money, as does money.proto (")
}

func TestLoad_TakesWellKnownFilesFromDiskFirst(t *testing.T) {
	dir := write(t, map[string]string{
		"google/protobuf/any.proto": `syntax = "proto3"; package google.protobuf; message Any { string own = 1; }`,
		"a.proto": `syntax = "proto3"; import "google/protobuf/any.proto"; import "google/protobuf/api.proto";
			message A { google.protobuf.Any any = 1; google.protobuf.Api api = 2; }`,
	})
	s, err := load(t, dir, []string{"a.proto"})
	require.NoError(t, err)
	option, err := s.Types().FindMessageByName("google.protobuf.Option")
	require.NoError(t, err)
	require.NotNil(t, option.Descriptor().Fields().ByName("value").Message().Fields().ByName("own"), "that api.proto gets too")
}

func TestLoad_LeavesTheTypesOfTheProcessAlone(t *testing.T) {
	before := protoregistry.GlobalFiles.NumFiles()
	dir := write(t, map[string]string{
		"echo.proto": `syntax = "proto3"; package echo; message Request { bytes other = 1; } service Echo { rpc Say(Request) returns (Request); }`,
		"d.proto": `syntax = "proto2"; import "google/protobuf/descriptor.proto"; import "google/protobuf/go_features.proto";
			extend google.protobuf.FieldOptions { optional string go = 1002; } message M { optional int32 n = 1 [(go) = "x", deprecated = true]; }`,
	})
	s, err := load(t, dir, []string{"echo.proto", "d.proto"})
	require.NoError(t, err)
	require.NotNil(t, s.Method("/echo.Echo/Say").Input().Fields().ByName("other"))
	require.Equal(t, before, protoregistry.GlobalFiles.NumFiles())

	set := setOf(importing(define("a.proto", ""), "google/api/http.proto", "grpc/health/v1/health.proto"))
	_, err = FromSet(set)
	require.ErrorContains(t, err, `a.proto: imports "google/api/http.proto", which is not there`)
}

func TestLoad_EndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err := Load(ctx, []string{"../../idl/shop.proto"}, nil)
	require.ErrorIs(t, err, context.Canceled)
}

func TestLoad_BoundsWhatComesOut(t *testing.T) {
	f := define("a.proto", "")
	f.Options = &descriptorpb.FileOptions{GoPackage: proto.String(strings.Repeat("g", MaxBytes))}
	dir := write(t, map[string]string{"a.binpb": string(encoded(t, setOf(f)))})
	_, err := load(t, dir, []string{"a.binpb"})
	require.ErrorContains(t, err, "want at most 1048576")
}
