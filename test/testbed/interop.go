package testbed

import (
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/interop"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/reflection"
)

// NewInterop starts the server of gRPC's interoperability tests, with the reflection service, and returns its address.
func NewInterop(t testing.TB) string {
	t.Helper()
	s := grpc.NewServer()
	testgrpc.RegisterTestServiceServer(s, interop.NewTestServer())
	reflection.Register(s)
	return serveGRPC(t, listen(t), s)
}
