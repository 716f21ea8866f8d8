package test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/framegate/framegate/cmd/framegate/app"
	"github.com/framegate/framegate/test/testbed"
)

// "framegate route validate" names every mistake in the file: those of rules that need no schema, and of rules that do
// not fit a schema that is in files, as "serve" does.
func TestRouteValidate_NamesMistakesOfRules(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	schema := protoFile(t, rawProto)
	for name, c := range map[string]struct{ schema, rule, want string }{
		"action":     {"name: raw", `{on: request, action: explode}`, "struct.rules[0].action"},
		"direction":  {"name: raw", `{on: sideways, action: reject}`, "struct.rules[0].on"},
		"expression": {"name: raw", `{on: request, when: "message.(", action: reject}`, "struct.rules[0].when"},
		"field":      {fmt.Sprintf("files: [%q]", schema), `{on: request, action: clear, fields: [nobody]}`, "struct.rules[0].fields[0]"},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(dir, name+".yaml")
			document := testbed.RouteWith("127.0.0.1:1", fmt.Sprintf("mode: struct\n  schema: {%s}\n  struct: {rules: [%s]}", c.schema, c.rule))
			require.NoError(t, os.WriteFile(file, []byte(document), 0o600))
			var stdout, stderr bytes.Buffer
			code := app.Run(context.Background(), []string{"route", "validate", "-f", file}, nil, &stdout, &stderr)
			require.Equal(t, 1, code, "exit code; got %s", stdout.String())
			require.Contains(t, stderr.String(), c.want)
		})
	}
}
