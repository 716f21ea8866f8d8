package testbed

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	testgrpc "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
)

// RawProto is the schema of Method. Its message has no fields: all that a test sends is unknown, and must be valid in
// the wire format of Protocol Buffers, such as Text.
const RawProto = `syntax = "proto3";
package test;
message Bytes {}
service Raw { rpc Call(stream Bytes) returns (stream Bytes); }
`

// idleRules are two rules that are evaluated for each message and never fire.
const idleRules = `struct: {rules: [{on: request, when: "index < 0", action: reject}, {on: response, when: "index < 0", action: reject}]}`

// StructRouteTo is RouteTo with a route in struct mode whose rules never fire. Its schema, from files, has the services
// that tests use: test.Raw, echo.Echo, and those of gRPC's interoperability tests.
func StructRouteTo(t testing.TB, addr string) string {
	t.Helper()
	raw := filepath.Join(t.TempDir(), "raw.proto")
	if err := os.WriteFile(raw, []byte(RawProto), 0o600); err != nil {
		t.Fatalf("schema: %v", err)
	}
	return structRoute(addr, fmt.Sprintf("files: [%q, %q, %q]", raw, EchoProto(t), InteropSet(t)))
}

// ReflectedRouteTo is StructRouteTo with the schema of the endpoint itself, asked by reflection.
func ReflectedRouteTo(addr string) string { return structRoute(addr, "reflection: true") }

// StructRoute is the document of the route of StructRouteTo, to be put into etcd, with the schema of a name there.
func StructRoute(addr, schema string) string {
	return fmt.Sprintf("{name: all, match: [{method: \"*\"}], backends: [{endpoints: [{address: %q}]}], mode: struct, schema: {name: %s}, %s}",
		addr, schema, idleRules)
}

func structRoute(addr, schema string) string {
	return RouteWith(addr, fmt.Sprintf("mode: struct\n  schema: {%s}\n  %s", schema, idleRules))
}

// EchoProto returns the absolute path of the file of the service echo.Echo.
func EchoProto(t testing.TB) string {
	t.Helper()
	path, err := filepath.Abs("../idl/echo.proto")
	if err != nil {
		t.Fatalf("idl/echo.proto: %v", err)
	}
	return path
}

// InteropSet writes the FileDescriptorSet of the services of NewInterop to a file and returns its path.
func InteropSet(t testing.TB) string {
	t.Helper()
	set := new(descriptorpb.FileDescriptorSet)
	seen := map[string]bool{}
	var add func(fd protoreflect.FileDescriptor)
	add = func(fd protoreflect.FileDescriptor) {
		if seen[fd.Path()] {
			return
		}
		seen[fd.Path()] = true
		for i := range fd.Imports().Len() {
			add(fd.Imports().Get(i).FileDescriptor)
		}
		set.File = append(set.File, protodesc.ToFileDescriptorProto(fd))
	}
	add(testgrpc.File_grpc_testing_test_proto)
	b, err := proto.Marshal(set)
	if err != nil {
		t.Fatalf("FileDescriptorSet: %v", err)
	}
	path := filepath.Join(t.TempDir(), "interop.binpb")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatalf("FileDescriptorSet: %v", err)
	}
	return path
}
