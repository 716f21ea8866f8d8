// Package routetest makes routes (routetest.go), and schemas and programs of struct mode (program.go), for tests.
package routetest

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/framegate/framegate/resolver/spec"
)

// MustRoute parses the document of a route, which must be valid.
func MustRoute(t testing.TB, doc string) *spec.Route {
	t.Helper()
	r, err := spec.ParseRoute([]byte(doc))
	require.NoError(t, err, doc)
	return r
}

// Route returns a route in frame mode to 127.0.0.1:1.
func Route(name, method string, priority int, listeners ...string) *spec.Route {
	return &spec.Route{
		Name: name, Listeners: listeners, Match: []spec.Match{{Method: method}}, Priority: priority, Mode: spec.ModeFrame,
		Backends: []spec.Backend{{Endpoints: []spec.Endpoint{{Address: "127.0.0.1:1"}}}},
	}
}

// Encoded returns the document of a route.
func Encoded(t *testing.T, r *spec.Route) []byte {
	t.Helper()
	doc, err := r.Encode()
	require.NoError(t, err)
	return doc
}

// BypassRoutes parses routes, one a line: the name, the method, and the other keys of the document in YAML's flow style.
// RULES stands for struct mode with a rule; without backends the route leads to h:1.
func BypassRoutes(t *testing.T, lines string) (routes []*spec.Route) {
	t.Helper()
	for line := range strings.Lines(strings.TrimSpace(lines)) {
		name, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		method, more, _ := strings.Cut(rest, " ")
		if !strings.Contains(more, "backends") {
			more = strings.TrimPrefix(more+`, backends: [{endpoints: [{address: "h:1"}]}]`, ", ")
		}
		more = strings.ReplaceAll(more, "RULES", "mode: struct, schema: {name: s}, struct: {rules: [{on: request, action: reject}]}")
		r, err := spec.ParseRoute([]byte(fmt.Sprintf("{name: %s, match: [{method: %q}], %s}", name, method, more)))
		require.NoError(t, err, line)
		routes = append(routes, r)
	}
	return routes
}

// Spelled returns two lines for BypassRoutes: a route with rules to the address guard, and one without to the address all.
func Spelled(guard, all string) string {
	return fmt.Sprintf("guard /e.E/* RULES, backends: [{endpoints: [{address: '%s'}]}]\nall * backends: [{endpoints: [{address: '%s'}]}]", guard, all)
}
