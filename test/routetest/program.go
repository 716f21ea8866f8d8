package routetest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/framegate/framegate/resolver/schema"
	"github.com/framegate/framegate/resolver/spec"
)

// TestProgram is the program that CompileForTest makes of a route.
type TestProgram struct {
	Route  string         // its name
	When   string         // the condition of its last rule
	Schema *schema.Schema // nil if it has none
}

var fieldInRule = regexp.MustCompile(`message\.(\w+)`)

// CompileForTest is a resolver.Compiler in place of structmode.CompileRoute. It returns an error unless the methods that the
// rules name are in the schema, and the fields in their conditions are fields of the methods' requests.
func CompileForTest(r *spec.Route, s *schema.Schema) (any, error) {
	p := &TestProgram{Route: r.Name, Schema: s}
	if r.Struct == nil || s == nil {
		return p, nil
	}
	var errs []error
	for i, rule := range r.Struct.Rules {
		m := s.Method(rule.Method)
		if m == nil {
			errs = append(errs, fmt.Errorf("struct.rules[%d].method: %q, want a method of the schema", i, rule.Method))
			continue
		}
		p.When = rule.When
		for _, field := range fieldInRule.FindAllStringSubmatch(rule.When, -1) {
			if m.Input().Fields().ByName(protoreflect.Name(field[1])) == nil {
				errs = append(errs, fmt.Errorf("struct.rules[%d].when: no field %q in %s", i, field[1], m.Input().FullName()))
			}
		}
	}
	return p, errors.Join(errs...)
}

// ShopProto returns the source of a schema whose method /shop.Shop/Buy takes a message with these fields.
func ShopProto(fields ...string) string {
	var b strings.Builder
	b.WriteString("syntax = \"proto3\";\npackage shop;\nservice Shop { rpc Buy(Order) returns (Order); }\nmessage Order {\n")
	for i, f := range fields {
		fmt.Fprintf(&b, "  string %s = %d;\n", f, i+1)
	}
	b.WriteString("}\n")
	return b.String()
}

// ShopSchema returns the schema of ShopProto(fields...).
func ShopSchema(t testing.TB, fields ...string) *schema.Schema {
	t.Helper()
	path := filepath.Join(t.TempDir(), "shop.proto")
	require.NoError(t, os.WriteFile(path, []byte(ShopProto(fields...)), 0o600))
	s, err := schema.Load(t.Context(), []string{path}, nil)
	require.NoError(t, err)
	return s
}

// StructRoute returns a route of /shop.Shop/Buy in struct mode with the schema of that name, and a rule for each field. It
// takes only calls whose header x-route is its name.
func StructRoute(t testing.TB, name, schema string, fields ...string) *spec.Route {
	t.Helper()
	doc := fmt.Sprintf("name: %s\nmatch: [{method: /shop.Shop/Buy, headers: [{name: x-route, exact: %s}]}]\n"+
		"mode: struct\nschema: {name: %s}\nbackends: [{endpoints: [{address: \"h:1\"}]}]\nstruct:\n  rules:\n", name, name, schema)
	for _, f := range fields {
		doc += fmt.Sprintf("  - {on: request, method: /shop.Shop/Buy, when: \"message.%s == ''\", action: reject, status: {code: INVALID_ARGUMENT}}\n", f)
	}
	return MustRoute(t, doc)
}
