package admin

import (
	"encoding/json"
	"maps"
	"math"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/stretchr/testify/require"
	"gopkg.in/yaml.v3"

	"github.com/framegate/framegate/resolver/spec"
)

func routeSchema(t *testing.T) *openapi3.Schema {
	return loadDocument(t).Components.Schemas["Route"].Value
}

func TestOpenAPI_RouteHasEveryKeyOfADocumentWithItsType(t *testing.T) {
	requireKeys(t, "route", reflect.TypeFor[spec.Route](), routeSchema(t))
}

// requireKeys wants the schema to describe what a document that is decoded into that type may hold.
func requireKeys(t *testing.T, path string, of reflect.Type, schema *openapi3.Schema) {
	t.Helper()
	is := func(want string) { require.True(t, schema.Type.Is(want), "%s: %v, want %s", path, schema.Type, want) }
	switch {
	case of == reflect.TypeFor[time.Duration]():
		is("string")
		require.Contains(t, schema.Description, "A Go duration", path)
	case of == reflect.TypeFor[spec.RuleFields](), of == reflect.TypeFor[spec.ByteSize]():
		require.Len(t, schema.OneOf, 2, path)
	case of == reflect.TypeFor[spec.Scalar]():
		require.Len(t, schema.OneOf, 3, path)
	case of.Kind() == reflect.Pointer:
		requireKeys(t, path, of.Elem(), schema)
	case of.Kind() == reflect.Slice:
		is("array")
		requireKeys(t, path+"[]", of.Elem(), schema.Items.Value)
	case of.Kind() == reflect.Map:
		is("object")
		requireKeys(t, path+"{}", of.Elem(), schema.AdditionalProperties.Schema.Value)
	case of.Kind() == reflect.Struct:
		is("object")
		var keys []string
		for _, field := range reflect.VisibleFields(of) {
			key, _, _ := strings.Cut(field.Tag.Get("yaml"), ",")
			switch {
			case !field.IsExported(), field.Anonymous && key == "", len(field.Index) > 1 && (key == "name" || key == "weight"): // of a mirror's backend, which has neither
				continue
			case strings.HasSuffix(path, "backend.limits") || path == "route.backends[].limits":
				if key == "per" { // which is of a route's alone
					continue
				}
			}
			keys = append(keys, key)
			property := schema.Properties[key]
			require.NotNil(t, property, "%s.%s is not described", path, key)
			require.NotEmpty(t, property.Value.Description, "%s.%s", path, key)
			requireKeys(t, path+"."+key, field.Type, property.Value)
		}
		for key := range schema.Properties {
			require.Contains(t, keys, key, "%s.%s is no key of a document", path, key)
		}
	case of.Kind() == reflect.String:
		is("string")
	case of.Kind() == reflect.Bool:
		is("boolean")
	case of.Kind() == reflect.Float64:
		is("number")
	default:
		is("integer")
		require.NotNil(t, schema.Min, "%s has no bounds", path)
		require.NotNil(t, schema.Max, "%s has no bounds", path)
	}
}

// boundedRoutes have, all together, every key that has bounds.
var boundedRoutes = []string{`
name: a
match: [{method: "*"}]
priority: 1
timeout: 1s
idle_timeout: 1s
max_stream_age: 1s
balancer: {policy: peak_ewma, decay: 1s, slow_start: 1s}
retry: {attempts: 3, codes: [UNAVAILABLE], per_try_timeout: 1s, backoff: {base: 1ms, max: 1m}, budget: {percent: 1, min: 1}, buffer_bytes: 1}
limits: {concurrent: 1, pending: 1, calls_per_second: 1, burst: 1, per: {peer: true}}
backends:
- weight: 1
  endpoints: [{address: "127.0.0.1:1", weight: 1}]
  pool:
    connections: {min: 1, max: 1024}
    streams_per_connection: 1
    when_full: wait
    connect_timeout: 1s
    idle_timeout: 1s
    max_age: 1s
    backoff: {base: 1ms, max: 8760h}
    keepalive: {time: 1s, timeout: 1s}
    stream_window: 65535
    connection_window: 2147483647
    max_header_bytes: 4096
  health: {type: grpc, service: s, authority: a, interval: 1h, timeout: 100ms, rise: 1, fall: 1}
  ejection: {consecutive_failures: 1, failure_percent: 1, min_calls: 1, window: 1s, base_time: 10ms, max_time: 24h, max_percent: 1}
  panic_percent: 1
  dns: {refresh: 1m}
  limits: {concurrent: 1, pending: 1, calls_per_second: 1, burst: 1}
`, `
name: a
match: [{method: "*"}]
balancer: {policy: consistent_hash, hash: {header: x}, bound_percent: 200}
hedge: {delay: 1s, budget: {percent: 1, min: 1}, buffer_bytes: 1}
backends: [{endpoints: [{address: "127.0.0.1:1"}]}]
mirrors:
- {name: a, backend: {service: s, panic_percent: 1}, percent: 100, timeout: 1s, compare: {sample: 1}, queue: {messages: 1}}
`, `
name: a
match: [{method: "*"}]
backends: [{service: s}]
fanout:
  targets: {from: backend}
  aggregate: {messages_field: 1, metadata_field: 1, node_field: 3, error_field: 5, status_field: 4}
  min_success: 1
  max_targets: 1024
  deadline_per_target: 1s
  queue: {messages: 1}
`, `
name: a
match: [{method: "*"}]
backends: [{service: s}]
fanout: {targets: {from: backend}, mode: quorum, quorum: 2, max_targets: 1024}
`}

// durationBounds finds the bounds that the description of a duration gives, unless one of them is another key.
var durationBounds = regexp.MustCompile(`(\d\S*) to (\d[0-9hms]*)`)

// boundsOf returns the values at a property's bounds and those just beyond them.
func boundsOf(t *testing.T, s *openapi3.Schema) (good, bad []any) {
	t.Helper()
	if m := durationBounds.FindStringSubmatch(s.Description); m != nil && strings.Contains(s.Description, "A Go duration") {
		low, err := time.ParseDuration(m[1])
		require.NoError(t, err, s.Description)
		high, err := time.ParseDuration(m[2])
		require.NoError(t, err, s.Description)
		return []any{low.String(), high.String()}, []any{(low - 1).String(), (high + 1).String()}
	}
	switch {
	case s.Min == nil:
		return nil, nil
	case s.Type.Is("number"):
		return []any{*s.Min, *s.Max}, []any{-math.SmallestNonzeroFloat64, math.Nextafter(*s.Max, math.Inf(1))}
	}
	return []any{int64(*s.Min), int64(*s.Max)}, []any{int64(*s.Min) - 1, int64(*s.Max) + 1}
}

func TestOpenAPI_BoundsOfARouteAreThoseOfTheServer(t *testing.T) {
	schema := routeSchema(t)
	met := map[string]bool{}
	for _, text := range boundedRoutes {
		var doc map[string]any
		require.NoError(t, yaml.Unmarshal([]byte(text), &doc))
		parse := func() error {
			text, err := json.Marshal(doc)
			require.NoError(t, err)
			_, err = spec.ParseRoute(text)
			return err
		}
		require.NoError(t, parse())
		var generic any
		text, err := json.Marshal(doc)
		require.NoError(t, err)
		require.NoError(t, json.Unmarshal(text, &generic))
		require.NoError(t, schema.VisitJSON(generic), "the server takes it, so the document must")
		eachProperty("", schema, doc, func(path string, s *openapi3.Schema, at map[string]any, key string) {
			good, bad := boundsOf(t, s)
			if good == nil {
				return
			}
			met[path] = true
			was := at[key]
			for _, v := range bad {
				at[key] = v
				require.ErrorContains(t, parse(), key+":", "%s: %v", path, v)
			}
			for _, v := range good {
				if at[key] = v; path == "limits.calls_per_second" || path == "backends.limits.calls_per_second" || path == "limits.burst" {
					continue // 0 is good without what needs it
				}
				require.NoError(t, parse(), "%s: %v", path, v)
			}
			at[key] = was
		})
	}
	for _, path := range boundedPaths(t, "", schema, map[*openapi3.Schema]bool{}) {
		require.Contains(t, met, path, "it is in none of boundedRoutes")
	}
}

// eachProperty visits what the document has, with the object that it is in.
func eachProperty(path string, s *openapi3.Schema, doc map[string]any, visit func(path string, s *openapi3.Schema, at map[string]any, key string)) {
	for key, value := range doc {
		property, at := s.Properties[key].Value, strings.TrimPrefix(path+"."+key, ".")
		visit(at, property, doc, key)
		switch v := value.(type) {
		case map[string]any:
			eachProperty(at, property, v, visit)
		case []any:
			for _, item := range v {
				if m, ok := item.(map[string]any); ok {
					eachProperty(at, property.Items.Value, m, visit)
				}
			}
		}
	}
}

// boundedPaths returns the path of each property that has bounds: of those that several keys share one path.
func boundedPaths(t *testing.T, path string, s *openapi3.Schema, seen map[*openapi3.Schema]bool) (all []string) {
	if s.Items != nil {
		s = s.Items.Value
	}
	if seen[s] {
		return nil
	}
	seen[s] = true
	for _, key := range slices.Sorted(maps.Keys(s.Properties)) {
		property := s.Properties[key]
		at := strings.TrimPrefix(path+"."+key, ".")
		if good, _ := boundsOf(t, property.Value); good != nil {
			all = append(all, at)
		}
		all = append(all, boundedPaths(t, at, property.Value, seen)...)
	}
	slices.Sort(all)
	return all
}
