package handler_test

import (
	"context"
	"testing"

	"github.com/bufbuild/protocompile"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/framegate/framegate/handler"
	"github.com/framegate/framegate/handler/handlertest"
	"github.com/framegate/framegate/handler/structmode"
	"github.com/framegate/framegate/resolver/cluster"
	"github.com/framegate/framegate/resolver/schema"
	"github.com/framegate/framegate/resolver/spec"
)

const orderProto = `syntax = "proto3";
package shop;
message Order {
  string name = 1;
  int64 amount = 2;
  string tier = 3;
  string card = 4;
}
service Shop {
  rpc Say(Order) returns (Order);
  rpc Chat(stream Order) returns (stream Order);
}`

// orders returns the schema of orderProto.
func orders(t testing.TB) *schema.Schema {
	t.Helper()
	compiler := protocompile.Compiler{Resolver: &protocompile.SourceResolver{
		Accessor: protocompile.SourceAccessorFromMap(map[string]string{"order.proto": orderProto}),
	}}
	files, err := compiler.Compile(context.Background(), "order.proto")
	require.NoError(t, err)
	s, err := schema.FromSet(&descriptorpb.FileDescriptorSet{File: []*descriptorpb.FileDescriptorProto{protodesc.ToFileDescriptorProto(files[0])}})
	require.NoError(t, err)
	return s
}

// order returns the encoding of an order, with a field that the schema does not know.
func order(t testing.TB, s *schema.Schema, fields map[string]any) []byte {
	t.Helper()
	m := dynamicpb.NewMessage(s.Method("/shop.Shop/Say").Input())
	for name, v := range fields {
		m.Set(m.Descriptor().Fields().ByName(protoreflect.Name(name)), protoreflect.ValueOf(v))
	}
	b, err := proto.Marshal(m)
	require.NoError(t, err)
	return append(b, 0xa2, 0x06, 3, 'n', 'e', 'w') // field 100
}

// startShop runs a Proxy for a route in struct mode with those rules, in front of h.
func startShop(t testing.TB, rules string, h func(grpc.ServerStream) error, filters ...structmode.MethodFilter) (*schema.Schema, *grpc.ClientConn) {
	t.Helper()
	s := orders(t)
	doc, err := spec.ParseRoute([]byte("name: r\nmode: struct\nschema: {name: shop}\nmatch: [{method: /shop.Shop/*}]\n" +
		"backends: [{name: main, endpoints: [{address: \"h:1\"}]}, {name: gold, weight: 0, endpoints: [{address: \"h:2\"}]}]\n" + rules))
	require.NoError(t, err)
	prog, err := structmode.CompileRoute(doc, s)
	require.NoError(t, err)
	target := cluster.Target{Route: "r", Mode: spec.ModeStruct, Program: prog, Address: handlertest.Backend(t, h)}
	_, cc := handlertest.Start(t, handler.Config{Router: handlertest.To(target), Filters: filters})
	return s, cc
}

func TestStruct_ForwardsUntouchedMessagesByteForByte(t *testing.T) {
	t.Parallel()
	s, cc := startShop(t, "struct: {rules: [{on: request, when: 'message.name == \"blocked\"', action: reject, status: {code: PERMISSION_DENIED, message: \"name is blocked\"}}]}", handlertest.Echo)
	in := order(t, s, map[string]any{"name": "ann", "amount": int64(7)})
	in = append(in, in...) // fields twice: no encoder writes that
	out, err := handlertest.Unary(t.Context(), cc, "/shop.Shop/Say", in)
	require.NoError(t, err)
	require.Equal(t, in, out)

	var trailer metadata.MD
	_, err = handlertest.Unary(t.Context(), cc, "/shop.Shop/Say", order(t, s, map[string]any{"name": "blocked"}), grpc.Trailer(&trailer))
	require.Equal(t, codes.PermissionDenied, status.Code(err))
	require.Equal(t, "framegate: name is blocked", status.Convert(err).Message())
	require.Equal(t, []string{"rejected"}, trailer.Get("framegate-error"))

	_, err = handlertest.Unary(t.Context(), cc, "/shop.Shop/Say", []byte{0xff}, grpc.Trailer(&trailer))
	require.Equal(t, codes.InvalidArgument, status.Code(err))
}
