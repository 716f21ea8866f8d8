package resolver

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func mustRoute(t testing.TB, doc string) *Route {
	t.Helper()
	r, err := ParseRoute([]byte(doc))
	require.NoError(t, err, doc)
	return r
}

func route(name, method string, priority int, listeners ...string) *Route {
	return &Route{
		Name: name, Listeners: listeners, Match: []Match{{Method: method}}, Priority: priority, Mode: ModeFrame,
		Backends: []Backend{{Endpoints: []Endpoint{{Address: "127.0.0.1:1"}}}},
	}
}

func encoded(t *testing.T, r *Route) []byte {
	t.Helper()
	doc, err := r.Encode()
	require.NoError(t, err)
	return doc
}

// bypassRoutes parses routes, one a line: name, method, and what else the document has.
func bypassRoutes(t *testing.T, lines string) (routes []*Route) {
	t.Helper()
	for line := range strings.Lines(strings.TrimSpace(lines)) {
		name, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		method, more, _ := strings.Cut(rest, " ")
		if !strings.Contains(more, "backends") {
			more = strings.TrimPrefix(more+`, backends: [{endpoints: [{address: "h:1"}]}]`, ", ")
		}
		more = strings.ReplaceAll(more, "RULES", "mode: struct, schema: {name: s}, struct: {rules: [{on: request, action: reject}]}")
		r, err := ParseRoute([]byte(fmt.Sprintf("{name: %s, match: [{method: %q}], %s}", name, method, more)))
		require.NoError(t, err, line)
		routes = append(routes, r)
	}
	return routes
}

// spelled returns a route with rules and one without that lead to an address each.
func spelled(guard, all string) string {
	return fmt.Sprintf("guard /e.E/* RULES, backends: [{endpoints: [{address: '%s'}]}]\nall * backends: [{endpoints: [{address: '%s'}]}]", guard, all)
}
