package schema

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"
)

const orderProto = `syntax = "proto2";
package shop.v1;
import "google/protobuf/any.proto";
import "google/protobuf/descriptor.proto";
import public "shop/v1/money.proto";
// Kept out of documents.
extend google.protobuf.MethodOptions { optional string audit = 50001; }
message Order {
  required string id = 1;
  map<string, Money> lines = 2;
  optional group Buyer = 3 { optional string name = 1; }
  optional google.protobuf.Any note = 4;
  repeated Order parts = 5;
  extensions 100 to 200;
}
extend Order { optional Money tip = 100; repeated int32 marks = 101 [packed = true]; }
service Orders {
  rpc Get(Order) returns (Order) { option (audit) = "all"; }
  rpc Watch(stream Order) returns (stream Money);
}
service Empty {}
`

const moneyProto = `edition = "2023";
package shop.v1;
import "google/protobuf/timestamp.proto";
message Money { int64 cents = 1; google.protobuf.Timestamp at = 2; Kind kind = 3; }
enum Kind { KIND_UNKNOWN = 0; KIND_CASH = 1; }
`

// write writes files under a new directory, which it returns.
func write(t testing.TB, files map[string]string) string {
	dir := t.TempDir()
	for name, content := range files {
		path := filepath.Join(dir, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, []byte(content), 0o644))
	}
	return dir
}

func shop(t testing.TB) *Schema {
	dir := write(t, map[string]string{"shop/v1/order.proto": orderProto, "shop/v1/money.proto": moneyProto})
	s, err := Load(context.Background(), []string{filepath.Join(dir, "shop/v1/order.proto")}, []string{dir})
	require.NoError(t, err)
	return s
}

func decoded(t testing.TB, doc []byte) *descriptorpb.FileDescriptorSet {
	set := new(descriptorpb.FileDescriptorSet)
	require.NoError(t, decode.Unmarshal(doc, set))
	return set
}

func encoded(t testing.TB, set *descriptorpb.FileDescriptorSet) []byte {
	doc, err := encode.Marshal(set)
	require.NoError(t, err)
	return doc
}

func TestSchema_AnswersByPath(t *testing.T) {
	s := shop(t)
	require.Equal(t, []string{"/shop.v1.Orders/Get", "/shop.v1.Orders/Watch"}, s.Methods())
	require.Equal(t, []Service{{Name: "shop.v1.Empty"}, {Name: "shop.v1.Orders", Methods: 2}}, s.Services())
	m := s.Method("/shop.v1.Orders/Watch")
	require.True(t, m.IsStreamingClient() && m.IsStreamingServer())
	require.Equal(t, protoreflect.FullName("shop.v1.Money"), m.Output().FullName())
	for _, path := range []string{"", "/", "shop.v1.Orders/Get", "/shop.v1.Orders/get", "/shop.v1.Empty/"} {
		require.Nil(t, s.Method(path), path)
	}
	require.Zero(t, testing.AllocsPerRun(100, func() { s.Method("/shop.v1.Orders/Get") }))
}

func TestSchema_DecodesAnyExtensionsGroupsAndWhatItDoesNotKnow(t *testing.T) {
	s, err := Parse(shop(t).Encode())
	require.NoError(t, err)
	order, doc := s.Method("/shop.v1.Orders/Get").Input(), `{"id":"7", "lines":{"tea":{"cents":"250", "kind":"KIND_CASH"}},
		"buyer":{"name":"ada"}, "[shop.v1.tip]":{"cents":"10"}, "[shop.v1.marks]":[1, 2],
		"note":{"@type":"type.googleapis.com/shop.v1.Money", "cents":"5", "at":"2026-01-02T03:04:05Z"}}`
	first := dynamicpb.NewMessage(order)
	require.NoError(t, protojson.UnmarshalOptions{Resolver: s.Types()}.Unmarshal([]byte(doc), first))
	wire, err := proto.Marshal(first)
	require.NoError(t, err)
	unknown := protowire.AppendString(protowire.AppendTag(nil, 99, protowire.BytesType), "new")
	second := dynamicpb.NewMessage(order)
	require.NoError(t, proto.UnmarshalOptions{Resolver: s.Types()}.Unmarshal(append(wire, unknown...), second))
	require.Equal(t, unknown, []byte(second.GetUnknown()), "nothing else is unknown")
	again, err := protojson.MarshalOptions{Resolver: s.Types()}.Marshal(second)
	require.NoError(t, err)
	require.JSONEq(t, doc, string(again))
}

func TestSchema_KeepsOptionsThatNobodyKnows(t *testing.T) {
	s, err := Parse(shop(t).Encode())
	require.NoError(t, err)
	options := s.Method("/shop.v1.Orders/Get").Options().ProtoReflect()
	want := protowire.AppendString(protowire.AppendTag(nil, 50001, protowire.BytesType), "all")
	require.Equal(t, want, []byte(options.GetUnknown()))
}

func TestEncode_IsTheSameWhateverTheOrder(t *testing.T) {
	doc := shop(t).Encode()
	set := decoded(t, doc)
	var paths []string
	for _, f := range set.GetFile() {
		paths = append(paths, f.GetName())
		require.Nil(t, f.GetSourceCodeInfo())
	}
	require.Equal(t, []string{"google/protobuf/any.proto", "google/protobuf/descriptor.proto",
		"google/protobuf/timestamp.proto", "shop/v1/money.proto", "shop/v1/order.proto"}, paths)

	slices.Reverse(set.File)
	set.File[0].SourceCodeInfo = &descriptorpb.SourceCodeInfo{Location: []*descriptorpb.SourceCodeInfo_Location{{Span: []int32{1}}}}
	set.File = append(set.File, set.File[1]) // the same again
	for _, parse := range []func() (*Schema, error){
		func() (*Schema, error) { return Parse(doc) },
		func() (*Schema, error) { return Parse(encoded(t, set)) },
		func() (*Schema, error) { return FromSet(set) },
	} {
		s, err := parse()
		require.NoError(t, err)
		require.Equal(t, doc, s.Encode())
	}
}

func TestParse_AddsWellKnownFilesUnlessTheSetHasItsOwn(t *testing.T) {
	set := decoded(t, shop(t).Encode())
	set.File = slices.DeleteFunc(set.File, func(f *descriptorpb.FileDescriptorProto) bool {
		return strings.HasPrefix(f.GetName(), "google/")
	})
	s, err := Parse(encoded(t, set))
	require.NoError(t, err)
	require.Equal(t, shop(t).Encode(), s.Encode())

	set.File = append(set.File, &descriptorpb.FileDescriptorProto{
		Name: proto.String("google/protobuf/timestamp.proto"), Package: proto.String("google.protobuf"),
		MessageType: []*descriptorpb.DescriptorProto{{Name: proto.String("Timestamp"), ReservedName: []string{"own"}}},
	})
	s, err = Parse(encoded(t, set))
	require.NoError(t, err)
	at := s.Method("/shop.v1.Orders/Watch").Output().Fields().ByName("at").Message()
	require.True(t, at.ReservedNames().Has("own"))
	require.Zero(t, at.Fields().Len())
}
