package handler_test

import (
	"net"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/interop"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/reflection"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/framegate/framegate/handler"
	"github.com/framegate/framegate/handler/handlertest"
	"github.com/framegate/framegate/handler/structmode"
	"github.com/framegate/framegate/resolver/cluster"
	"github.com/framegate/framegate/resolver/spec"
)

// A route takes its types from the endpoint: rules apply without a schema of one's own, and the endpoint is asked once.
func TestStruct_AsksTheEndpointForItsSchema(t *testing.T) {
	t.Parallel()
	var asked atomic.Int64
	svr := grpc.NewServer(grpc.StreamInterceptor(func(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, h grpc.StreamHandler) error {
		asked.Add(1)
		return h(srv, ss)
	}))
	testgrpc.RegisterTestServiceServer(svr, interop.NewTestServer())
	reflection.Register(svr)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	go func() { _ = svr.Serve(ln) }()
	t.Cleanup(svr.Stop)

	doc, err := spec.ParseRoute([]byte(`{name: r, mode: struct, schema: {reflection: true}, match: [{method: "*"}], backends: [{endpoints: [{address: "h:1"}]}],
struct: {rules: [{on: request, method: /grpc.testing.TestService/UnaryCall, when: 'message.response_size == 7', action: reject}, {on: request, method: /other.Service/*, when: 'message.x == 1', action: drop}]}}`))
	require.NoError(t, err)
	prog, err := structmode.CompileRoute(doc, nil)
	require.NoError(t, err)
	_, cc := handlertest.Start(t, handler.Config{Router: handlertest.To(cluster.Target{Route: "r", Mode: spec.ModeStruct, Program: prog, Address: ln.Addr().String()})})
	refused, err := proto.Marshal(&testgrpc.SimpleRequest{ResponseSize: 7})
	require.NoError(t, err)
	const call = "/grpc.testing.TestService/UnaryCall"
	for range 3 {
		_, err = handlertest.Unary(t.Context(), cc, call, nil)
		require.NoError(t, err)
		_, err = handlertest.Unary(t.Context(), cc, call, refused)
		require.Equal(t, codes.PermissionDenied, status.Code(err), "%v", err)
	}
	require.EqualValues(t, 1, asked.Load())
	_, err = handlertest.Unary(t.Context(), cc, "/other.Service/Call", nil)
	require.Equal(t, codes.Unimplemented, status.Code(err), "%v", err)
}
