package rule

import (
	"context"
	"strings"
	"testing"

	"github.com/bufbuild/protocompile"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/framegate/framegate/resolver/spec"
	"github.com/framegate/framegate/resolver/strict"
)

const shopProto = `
syntax = "proto3";
package shop;
import "google/protobuf/any.proto";
import "google/protobuf/duration.proto";
import "google/protobuf/struct.proto";
import "google/protobuf/timestamp.proto";
import "google/protobuf/wrappers.proto";

enum Status { STATUS_UNKNOWN = 0; PAID = 1; SENT = 2; }

message Audit { google.protobuf.Timestamp at = 1; string by = 2; repeated string notes = 3; }
message Card { string number = 1; bytes cvc = 2; int32 month = 3; Audit audit = 4; repeated string tags = 5; }
message User { string email = 1; string name = 2; optional string nick = 3; }

message Order {
  string name = 1;
  int64 amount = 2;
  string tier = 3;
  string tenant = 4;
  Audit audit = 5;
  User user = 6;
  repeated Card cards = 7;
  map<string, string> labels = 8;
  map<string, Card> cards_by_name = 9;
  map<int32, int64> counts = 10;
  oneof pay { string cash = 11; Card card = 12; }
  Status status = 13;
  repeated Status history = 14;
  google.protobuf.StringValue note = 15;
  google.protobuf.Int32Value floor = 16;
  google.protobuf.Any extra = 17;
  google.protobuf.Duration wait = 18;
  google.protobuf.Struct attributes = 19;
  google.protobuf.Value value = 20;
  google.protobuf.ListValue list = 21;
  int32 i32 = 22;
  uint32 u32 = 23;
  uint64 u64 = 24;
  float f32 = 25;
  double f64 = 26;
  bool flag = 27;
  bytes blob = 28;
  optional int32 maybe = 29;
  repeated string tags = 30;
  repeated int32 numbers = 31;
  repeated google.protobuf.Any extras = 32;
  google.protobuf.BoolValue agreed = 33;
  repeated bytes blobs = 34;
}
message Reply { User user = 1; repeated Card cards = 2; string text = 3; }
message Other { string text = 1; }

service Orders {
  rpc Create(Order) returns (Reply);
  rpc Watch(stream Order) returns (stream Reply);
}
service Others { rpc Do(Other) returns (Other); }
`

// filesOf compiles .proto files, given by name.
func filesOf(t testing.TB, sources map[string]string) *protoregistry.Files {
	t.Helper()
	c := protocompile.Compiler{Resolver: protocompile.WithStandardImports(&protocompile.SourceResolver{
		Accessor: protocompile.SourceAccessorFromMap(sources),
	})}
	var names []string
	for name := range sources {
		names = append(names, name)
	}
	compiled, err := c.Compile(context.Background(), names...)
	require.NoError(t, err)
	files := new(protoregistry.Files)
	var add func(protoreflect.FileDescriptor)
	add = func(fd protoreflect.FileDescriptor) {
		if _, err := files.FindFileByPath(fd.Path()); err == nil {
			return
		}
		for i := range fd.Imports().Len() {
			add(fd.Imports().Get(i).FileDescriptor)
		}
		require.NoError(t, files.RegisterFile(fd))
	}
	for _, fd := range compiled {
		add(fd)
	}
	return files
}

func shop(t testing.TB) *protoregistry.Files {
	return filesOf(t, map[string]string{"shop.proto": shopProto})
}

// routeOf parses a route for /shop.Orders/* with the given rules, as YAML list items.
func routeOf(t testing.TB, rules string) *spec.Route {
	t.Helper()
	doc := `
name: shop
mode: struct
match: [{method: "/shop.Orders/*"}]
backends: [{name: main, endpoints: [{address: "127.0.0.1:1"}]}, {name: gold, weight: 0, endpoints: [{address: "127.0.0.1:2"}]}]
struct:
  rules:
`
	for line := range strings.Lines(rules) {
		doc += "    " + strings.TrimLeft(line, "\t")
	}
	r := new(spec.Route)
	require.NoError(t, strict.Decode([]byte(doc), r))
	return r
}

func programOf(t testing.TB, rules string) *Compiled {
	t.Helper()
	p, err := Compile(routeOf(t, rules), shop(t))
	require.NoError(t, err)
	return p
}

// messageOf returns a message of the direction's type from JSON.
func messageOf(t testing.TB, p *Compiled, r *Rules, json string) protoreflect.Message {
	t.Helper()
	m := r.New()
	require.NoError(t, protojson.UnmarshalOptions{Resolver: p.Types()}.Unmarshal([]byte(json), m.Interface()))
	return m
}

func jsonOf(t testing.TB, p *Compiled, m protoreflect.Message) string {
	t.Helper()
	data, err := protojson.MarshalOptions{Resolver: p.Types(), UseProtoNames: true}.Marshal(m.Interface())
	require.NoError(t, err)
	return string(data)
}

// unmarshalPartial fills m from JSON that need not have all required fields.
func unmarshalPartial(p *Compiled, json string, m protoreflect.Message) error {
	return protojson.UnmarshalOptions{Resolver: p.Types(), AllowPartial: true}.Unmarshal([]byte(json), m.Interface())
}
