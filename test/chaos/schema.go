package chaos

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

const schema = `syntax = "proto3";
package chaos;
import "google/protobuf/wrappers.proto";
service Echo {
  rpc Unary(google.protobuf.BytesValue) returns (google.protobuf.BytesValue);
  rpc Client(stream google.protobuf.BytesValue) returns (google.protobuf.BytesValue);
  rpc Server(google.protobuf.BytesValue) returns (stream google.protobuf.BytesValue);
  rpc Bidi(stream google.protobuf.BytesValue) returns (stream google.protobuf.BytesValue);
}
`

// StructKeys returns the keys, each with its value in YAML's flow style, that put a route to Service in struct mode. Its
// rules are evaluated for every message and never fire.
func StructKeys(t testing.TB) []string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "echo.proto")
	if err := os.WriteFile(file, []byte(schema), 0o600); err != nil {
		t.Fatalf("schema: %v", err)
	}
	return []string{
		"mode: struct",
		fmt.Sprintf("schema: {files: [%q]}", file),
		`struct: {rules: [{on: request, when: "index < 0", action: reject}, ` +
			`{on: response, when: "index < 0", action: reject}]}`,
	}
}
