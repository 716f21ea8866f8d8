package schema

import (
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
)

const newestProto = `// edition = "2023";
edition = '2024' ;
package new;
import public "plain.proto";
import option "options.proto";
import "google/protobuf/cpp_features.proto";
import "google/protobuf/java_features.proto";
option features.enforce_naming_style = STYLE_LEGACY;
option features.default_symbol_visibility = STRICT;
option features.field_presence = IMPLICIT;
option features.(pb.java).nest_in_file_class = YES;
option features.message_encoding = DELIMITED;
option (opt.file) = "export message X {";
export message Order {
  local message Line { string text = 1 [features.field_presence = EXPLICIT]; enum Kind { KIND_NONE = 0; } }
  /* local */ export enum State { option features.enum_type = CLOSED; STATE_NEW = 0; }
  message Plain { enum In { IN_A = 0; } local message Deep {} }
  string BadName = 1 [features.enforce_naming_style = STYLE_LEGACY, (opt.field) = 7, features.(pb.cpp).string_type = VIEW];
  export message = 2;
  local enum = 3;
  repeated Line lines = 4;
  Common common = 5;
  message export {}
  message local { export message = 1; }
}
local enum Hidden { HIDDEN_A = 0; }
message Open { option features = { enforce_naming_style: STYLE_LEGACY json_format: LEGACY_BEST_EFFORT, [pb.java]: {} }; extensions 100 to 200 [features.enforce_naming_style = STYLE_LEGACY]; }
service Orders { option features.enforce_naming_style = STYLE2024; rpc Get(Order) returns (stream Open); }
`

func newest(t testing.TB) string {
	return write(t, map[string]string{
		"new.proto":   newestProto,
		"plain.proto": `syntax = "proto3"; message Common { int32 n = 1; }`,
		"options.proto": `edition = "2024"; package opt; import "google/protobuf/descriptor.proto";
			extend google.protobuf.FileOptions { string file = 50001; } extend google.protobuf.FieldOptions { int32 field = 50001; }`,
		"user.proto":  `syntax = "proto3"; import "new.proto"; message User { new.Order order = 1; Common common = 2; }`,
		"later.proto": `edition = "2023"; import "new.proto"; message Later { new.Order order = 1; }`,
	})
}

func TestLoad_TakesSourcesOfEdition2024(t *testing.T) {
	dir := newest(t)
	s, err := load(t, dir, []string{"new.proto", "user.proto"})
	require.NoError(t, err)
	m := s.Method("/new.Orders/Get")
	require.NotNil(t, m)
	order := m.Input()
	require.Equal(t, protoreflect.FullName("new.Order.export"), order.Fields().ByName("message").Message().FullName())
	require.Equal(t, protoreflect.FullName("new.Order.local"), order.Fields().ByName("enum").Message().FullName())
	require.False(t, order.Fields().ByName("BadName").HasPresence(), "of the file")
	text := order.Messages().ByName("Line").Fields().ByName("text")
	require.True(t, text.HasPresence(), "of the field")
	require.Equal(t, protoreflect.GroupKind, order.Fields().ByName("lines").Kind(), "delimited")
	require.True(t, order.Enums().ByName("State").IsClosed())
	require.Equal(t, protowire.AppendVarint(protowire.AppendTag(nil, 50001, protowire.VarintType), 7),
		[]byte(order.Fields().ByName("BadName").Options().ProtoReflect().GetUnknown()), "the option (opt.field)")

	var fd *descriptorpb.FileDescriptorProto
	for _, f := range decoded(t, s.Encode()).GetFile() {
		if f.GetName() == "new.proto" {
			fd = f
		}
	}
	require.Equal(t, descriptorpb.Edition_EDITION_2024, fd.GetEdition())
	require.Equal(t, []string{"plain.proto", "google/protobuf/cpp_features.proto", "google/protobuf/java_features.proto"}, fd.GetDependency())
	require.Equal(t, []int32{0}, fd.GetPublicDependency())
	require.Equal(t, []string{"options.proto"}, fd.GetOptionDependency())
	require.Contains(t, string(fd.GetOptions().ProtoReflect().GetUnknown()), "export message X {")
	const unset, export, local = descriptorpb.SymbolVisibility_VISIBILITY_UNSET, descriptorpb.SymbolVisibility_VISIBILITY_EXPORT, descriptorpb.SymbolVisibility_VISIBILITY_LOCAL
	got := map[string]descriptorpb.SymbolVisibility{"Hidden": fd.GetEnumType()[0].GetVisibility(), "State": fd.GetMessageType()[0].GetEnumType()[0].GetVisibility()}
	for _, m := range fd.GetMessageType() {
		got[m.GetName()] = m.GetVisibility()
		for _, in := range m.GetNestedType() {
			got[in.GetName()] = in.GetVisibility()
			for _, deep := range in.GetNestedType() {
				got[deep.GetName()] = deep.GetVisibility()
			}
		}
	}
	require.Equal(t, map[string]descriptorpb.SymbolVisibility{
		"Hidden": local, "State": export, "Order": export, "Open": unset, "Line": local, "Plain": unset, "Deep": local, "export": unset, "local": unset,
	}, got)

	again, err := Parse(s.Encode())
	require.NoError(t, err)
	require.Equal(t, s.Encode(), again.Encode())
}

// A file of edition 2024 is the same to those that import it as one of another, from sources and sets alike.
func TestLoad_MixesEdition2024WithOthers(t *testing.T) {
	dir := newest(t)
	s, err := load(t, dir, []string{"new.proto"})
	require.NoError(t, err)
	other := write(t, map[string]string{
		"new.binpb":  string(s.Encode()),
		"user.proto": `syntax = "proto3"; import "new.proto"; message User { new.Order order = 1; Common common = 2; }`,
		"last.proto": `edition = "2024"; import "new.proto"; export message Last { new.Order order = 1; new.Order.State state = 2; } service L { rpc A(Last) returns (Last); }`,
	})
	for name, c := range map[string]struct {
		dir  string
		load []string
	}{
		"proto3 on source": {dir, []string{"user.proto"}},
		"2023 on source":   {dir, []string{"later.proto"}},
		"sources on a set": {other, []string{"user.proto", "last.proto", "new.binpb"}},
	} {
		mixed, err := load(t, c.dir, c.load)
		require.NoError(t, err, name)
		md, err := mixed.Types().FindMessageByName("new.Order")
		require.NoError(t, err, name)
		require.False(t, md.Descriptor().Fields().ByName("BadName").HasPresence(), name)
		require.Equal(t, protoreflect.GroupKind, md.Descriptor().Fields().ByName("lines").Kind(), name)
	}
}

func TestLoad_SaysWhereTheMistakesOfEdition2024Are(t *testing.T) {
	for source, want := range map[string]string{
		"edition = \"2024\";\nexport message A {\n  Lost l = 1;\n}":                 "a.proto:3:3: field A.l: unknown type Lost",
		"edition = \"2024\";\nimport option \"x.proto\";":                           "a.proto:2:15: import \"x.proto\": not found",
		"edition = \"2024\";\nmessage A { export export message B {} }":             "a.proto:2:27: syntax error",
		"edition = \"2024\";\nexport service S {}":                                  "a.proto:2:1: syntax error",
		"edition = \"2024\";\noption features.nothing = 1;":                         "a.proto:2:17: option features.nothing",
		"edition = \"2024\";\nmessage A { required string s = 1; }":                 "a.proto:2:13: ",
		"edition = \"2023\";\nexport message A {}":                                  "a.proto:2:1: syntax error",
		"edition = \"2023\";\noption features.enforce_naming_style = STYLE_LEGACY;": "was not introduced until edition 2024",
		"syntax = \"proto3\";\nimport option \"x.proto\";":                          "a.proto:2:8: syntax error",
		"edition = \"2025\";":               "a.proto:1:11: edition value \"2025\" not recognized",
		"edition = \"2024":                  "a.proto:1:",
		"edition = \"2024\"; option x = 'a": "a.proto:1:",
	} {
		_, err := load(t, write(t, map[string]string{"a.proto": source}), []string{"a.proto"})
		require.ErrorContains(t, err, want, source)
	}
}

func FuzzLower(f *testing.F) {
	f.Add([]byte(newestProto))
	f.Add([]byte("edition = \"2024\"; export"))
	f.Fuzz(func(t *testing.T, source []byte) {
		out, found := lower(source)
		require.Len(t, out, len(source))
		if found == nil {
			require.Equal(t, source, out)
		}
	})
}
