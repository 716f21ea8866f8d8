package testbed

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	testgrpc "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
)

// rawMethods are the methods that tests call with bytes. Their message type has no fields, so the bytes are unknown fields
// and must be valid in the wire format of Protocol Buffers; see Text and MakeField.
var rawMethods = []string{
	Method, "/a.b.c.Service/Method", "/a.b.c.Service/method_1", "/Service/Method", "/grpc.health.v2.Health/Check",
	"/my.shop.Health/Check", "/Health/Check", "/my.shop.Checks/Check", "/grpc.health.v1.Health/Other",
}

// rawProtos writes .proto files of the rawMethods, all with google.protobuf.Empty as their message, and returns their paths.
func rawProtos(t testing.TB) (paths []string) {
	t.Helper()
	bodies := map[string]string{} // by service
	for _, m := range rawMethods {
		service, method := filepath.Split(m[1:])
		bodies[service] += fmt.Sprintf(" rpc %s(stream Empty) returns (stream Empty);", method)
	}
	dir := t.TempDir()
	for service, body := range bodies {
		service = strings.TrimSuffix(service, "/")
		pkg := ""
		if i := strings.LastIndexByte(service, '.'); i >= 0 {
			pkg = "package " + service[:i] + ";"
		}
		source := fmt.Sprintf("syntax = \"proto3\"; %s service %s {%s }",
			pkg, strings.TrimPrefix(filepath.Ext("."+service), "."), strings.ReplaceAll(body, "Empty", "google.protobuf.Empty"))
		source = strings.Replace(source, "service", `import "google/protobuf/empty.proto"; service`, 1)
		path := filepath.Join(dir, service+".proto")
		if err := os.WriteFile(path, []byte(source), 0o600); err != nil {
			t.Fatalf("schema: %v", err)
		}
		paths = append(paths, path)
	}
	return paths
}

// idleRules are two rules that are evaluated for each message and never fire.
const idleRules = `struct: {rules: [{on: request, when: "index < 0", action: reject}, {on: response, when: "index < 0", action: reject}]}`

// StructRouteTo is RouteTo with a route in struct mode whose rules never fire. Its schema, from files, has all services that
// tests call: those of rawMethods, echo.Echo, and those of gRPC's interoperability tests.
func StructRouteTo(t testing.TB, addr string) string {
	t.Helper()
	files, err := json.Marshal(append(rawProtos(t), EchoProto(t), InteropSet(t)))
	if err != nil {
		t.Fatalf("schema: %v", err)
	}
	return structRoute(addr, "files: "+string(files))
}

// ReflectedRouteTo is StructRouteTo with the schema that the endpoint's reflection service returns.
func ReflectedRouteTo(addr string) string { return structRoute(addr, "reflection: true") }

// StructRoute returns the document of a route to be put into etcd: that of StructRouteTo, with a schema in etcd by its name.
func StructRoute(addr, schema string) string {
	return fmt.Sprintf("{name: all, match: [{method: \"*\"}], backends: [{endpoints: [{address: %q}]}], mode: struct, schema: {name: %s}, %s}",
		addr, schema, idleRules)
}

// RuledRouteTo is RouteTo with a route in struct mode whose schema is in files; rules is its list of rules in YAML's flow
// style.
func RuledRouteTo(addr string, files []string, rules string) string {
	list, _ := json.Marshal(files) // a list of strings can always be encoded
	return RouteWith(addr, fmt.Sprintf("mode: struct\n  schema: {files: %s}\n  struct: {rules: %s}", list, indented(rules)))
}

// indented indents the further lines of a flow list, as YAML wants within a route.
func indented(rules string) string { return strings.ReplaceAll(rules, "\n", "\n    ") }

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
