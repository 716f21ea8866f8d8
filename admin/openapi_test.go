package admin

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/stretchr/testify/require"
)

// operation is a method and a path, with the parameters of its query.
type operation struct{ method, path, query string }

func TestOpenAPI_DescribesEveryPatternAndNoOther(t *testing.T) {
	served := map[operation]bool{}
	s := &Server{cfg: Config{Pprof: true}}
	for _, e := range s.endpoints() {
		for method := range e.methods {
			o := operation{method: method, path: strings.TrimSuffix(e.path, "{$}")}
			if !e.open && (len(e.methods) == 1 || method == "PUT") { // the parameters of a path are those of its PUT
				o.query = strings.Join(slices.Sorted(slices.Values(e.query)), ",")
			}
			served[o] = true
		}
	}
	described := map[operation]bool{}
	open := map[string]bool{"/healthz": true, "/readyz": true, "/metrics": true, "/debug/pprof/": true, "/debug/pprof/{profile}": true}
	for path, item := range loadDocument(t).Paths.Map() {
		for method, op := range item.Operations() {
			o := operation{method: method, path: path}
			if !open[path] {
				o.query = strings.Join(queryOf(op), ",")
			}
			described[o] = true
		}
	}
	require.Equal(t, served, described)
}

func queryOf(op *openapi3.Operation) (names []string) {
	for _, p := range op.Parameters {
		if p.Value.In == openapi3.ParameterInQuery {
			names = append(names, p.Value.Name)
		}
	}
	slices.Sort(names)
	return names
}

func TestOpenAPI_ListsEveryReason(t *testing.T) {
	reasons := []any{
		reasonBadParameter, reasonBadDocument, reasonUnauthorized, reasonHostNotAllowed, reasonCrossSite, reasonNotFound,
		reasonMethodNotAllowed, reasonConflict, reasonTooLarge, reasonUnsupportedMediaType, reasonInternal, reasonNoEtcd,
		reasonNotProvided, reasonEtcdRefused, reasonEtcdUnavailable, reasonOutcomeUnknown, reasonTooMany,
	}
	schema := loadDocument(t).Components.Schemas["Error"].Value.Properties["error"].Value.Properties["reason"].Value
	require.ElementsMatch(t, reasons, schema.Enum)
}

func TestOpenAPI_TakesTheDocumentTypesThatTheServerTakes(t *testing.T) {
	doc := loadDocument(t)
	for _, path := range []string{"/v1/routes/{name}", "/v1/services/{name}/instances/{address}"} {
		content := doc.Paths.Value(path).Put.RequestBody.Value.Content
		require.ElementsMatch(t, documentTypes, slices.Collect(maps.Keys(content)), path)
	}
}

func TestOpenAPI_IsServed(t *testing.T) {
	c := startAPI(t, Config{})
	a := c.do("GET", "/v1/openapi.json", "")
	require.Equal(t, 200, a.code)
	require.Equal(t, "application/json", a.header.Get("Content-Type"))
	require.Equal(t, string(openAPIDocument), a.body)
}
