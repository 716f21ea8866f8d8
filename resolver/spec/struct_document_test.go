package spec

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// structDoc is a route in struct mode with more keys.
func structDoc(keys string) string {
	return "name: shop\nmatch: [{method: /shop.Shop/*}]\nbackends: [{endpoints: [{address: \"h:1\"}]}]\nmode: struct\n" + keys
}

func TestStruct_EachMistakeNamesKeyValueAndWant(t *testing.T) {
	long := strings.Repeat("a", 64)
	for _, c := range []struct{ keys, want string }{
		{"schema: {}", "schema: 0 of name, files and reflection, want one"},
		{"schema: {reflection: false}", "schema: 0 of name, files and reflection, want one"},
		{"schema: {name: a, reflection: true}", "schema: 2 of name, files and reflection, want one"},
		{"schema: {name: a, files: [b], reflection: true}", "schema: 3 of name, files and reflection, want one"},
		{"schema: {name: No}", `schema.name: "No", want 1 to 63 of a-z 0-9 . - with a letter or digit first`},
		{"schema: {name: " + long + "}", `schema.name: "` + long + `", want 1 to 63`},
		{"schema: {name: a, imports: [b]}", "schema.imports: want them beside files only"},
		{`schema: {files: [a, ""]}`, `schema.files[1]: "", want the path of a file or directory`},
		{`schema: {files: ["a\0b"]}`, `schema.files[0]: "a\x00b", want the path of a file or directory`},
		{`schema: {files: [a], imports: [""]}`, `schema.imports[0]: "", want the path of a file or directory`},
		{"schema: {files: [" + strings.Repeat("a,", 257) + "]}", "schema.files: 257, want at most 256"},
		{"schema: shop", `line 5: schema: "shop", want keys and values`},
		{"schema: {file: a}", "line 5: schema.file: unknown key, want one of: name, files, imports, reflection"},
		{"schema: {files: a}", `line 5: schema.files: "a", want a list`},
		{"schema: {reflection: maybe}", `line 5: schema.reflection: "maybe", want true or false`},
		{"struct: {on_decode_error: drop}", `struct.on_decode_error: "drop", want reject or pass`},
		{"struct: {rules: [{on: request, action: drop}]}", "schema: missing, want one for the rules in struct.rules"},
		{"struct:\n  rules:\n  - {on: request, do: drop}", "line 7: struct.rules[0].do: unknown key, want one of: on, method, when, action, status, fields, backend, set"},
		{"struct:\n  rules:\n  - {status: 5}", `line 7: struct.rules[0].status: "5", want keys and values`},
		{"struct:\n  rules:\n  - fields: id", `line 7: struct.rules[0].fields: "id", want a list`},
		{"struct:\n  rules:\n  - fields:\n      id: [a]", `line 8: struct.rules[0].fields.id: a list, want a string`},
		{"struct:\n  rules:\n  - fields: [a,\n      {id: a}]", `line 8: struct.rules[0].fields[1]: keys and values, want a string`},
		{"struct:\n  rules:\n  - set: [a]", `line 7: struct.rules[0].set: a list, want keys and values`},
	} {
		_, err := ParseRoute([]byte(structDoc(c.keys)))
		require.ErrorContains(t, err, c.want, c.keys)
	}
	_, err := ParseRoute([]byte(strings.Replace(structDoc("struct: {}"), "mode: struct", "mode: frame", 1)))
	require.EqualError(t, err, "struct: want it with mode: struct only")
	_, err = ParseRoute([]byte(strings.Replace(structDoc(""), "mode: struct", "mode: message", 1)))
	require.EqualError(t, err, `mode: "message", want frame or struct`)
}

func TestStruct_AllMistakesAreNamedInTheOrderOfTheDocument(t *testing.T) {
	doc := structDoc(`struct: {on_decode_error: drop, rules: [{on: request, action: drop}]}
schema: {name: No, files: ["", a, ""], imports: [""], reflection: true}`)
	const want = `struct.on_decode_error: "drop", want reject or pass
schema: 3 of name, files and reflection, want one
schema.name: "No", want 1 to 63 of a-z 0-9 . - with a letter or digit first
schema.files[0]: "", want the path of a file or directory
schema.files[2]: "", want the path of a file or directory
schema.imports[0]: "", want the path of a file or directory`
	for range 20 {
		_, err := ParseRoute([]byte(doc))
		require.EqualError(t, err, want)
	}
}

func TestStruct_WhatItNeedsIsAllThatItNeeds(t *testing.T) {
	for _, keys := range []string{
		"", "struct: {}", "struct: {on_decode_error: pass}", "struct:", "schema: {reflection: true}", "schema: {name: shop}\nstruct: {rules: []}",
		"schema: {files: [a.proto], imports: [b]}",
	} {
		r := validRoute(t, structDoc(keys))
		require.Equal(t, ModeStruct, r.Mode)
	}
	validRoute(t, strings.Replace(structDoc("schema: {name: shop}"), "mode: struct", "mode: frame", 1))
}

func TestRuleFields_SurviveARoundTripInYAMLAndJSON(t *testing.T) {
	for keys, want := range map[string]RuleFields{
		`[id, "lines[].note", 'names["a.b"]']`:                       {Paths: []string{"id", "lines[].note", `names["a.b"]`}},
		`{id: "1", 'names["a: b"]': "message.id + ' # no comment'"}`: {Values: map[string]string{"id": "1", `names["a: b"]`: "message.id + ' # no comment'"}},
		`{id: 1, on: true, none: ""}`:                                {Values: map[string]string{"id": "1", "on": "true", "none": ""}},
		`["null", "~", "1", "true", "- a"]`:                          {Paths: []string{"null", "~", "1", "true", "- a"}},
	} {
		r := validRoute(t, structDoc("schema: {name: shop}\nstruct: {on_decode_error: pass, rules: [{on: response, method: /shop.Shop/Add, action: set, fields: "+keys+"}, {on: request, action: drop}]}"))
		require.Equal(t, want, r.Struct.Rules[0].Fields)
		require.True(t, r.Struct.Rules[1].Fields.IsZero())

		doc, err := r.Encode()
		require.NoError(t, err)
		require.Equal(t, 1, strings.Count(string(doc), "fields:"), "a rule without fields has no such key")
		require.Equal(t, r, validRoute(t, string(doc)), "YAML: %s", doc)
		doc, err = json.Marshal(r)
		require.NoError(t, err)
		require.Equal(t, r, validRoute(t, string(doc)), "JSON: %s", doc)
	}
}

func TestRule_StringIsOneLineForPeople(t *testing.T) {
	for keys, want := range map[string]string{
		`on: request, action: reject, when: "a > 1", status: {code: ABORTED, message: no}`: "request: reject with ABORTED when a > 1",
		`on: response, action: redact, fields: [b, a]`:                                     "response: redact b a",
		`on: request, action: set, fields: {b: "2", a: "1"}`:                               "request: set a = 1 b = 2",
		`on: request, action: header, set: {x-b: "2", x-a: "1"}`:                           "request: header x-a = 1 x-b = 2",
		`on: request, action: route, backend: canary`:                                      "request: route to canary",
	} {
		r := validRoute(t, structDoc(fmt.Sprintf("schema: {name: shop}\nstruct: {rules: [{%s}]}", keys)))
		require.Equal(t, want, r.Struct.Rules[0].String())
	}
	require.Equal(t, "shop", SchemaRef{Name: "shop"}.String())
	require.Equal(t, "a.proto, b.proto", SchemaRef{Files: []string{"a.proto", "b.proto"}}.String())
	require.Equal(t, "asked from the endpoints", SchemaRef{Reflection: true}.String())
}

func FuzzParseRoute_StructKeys(f *testing.F) {
	f.Add("schema: {name: shop}\nstruct: {rules: [{on: request, action: set, fields: {a: b}}]}")
	f.Add("schema: {files: [a], imports: [b]}\nstruct: {on_decode_error: pass, rules: [{fields: [a], set: {a: b}}]}")
	f.Add("struct: {rules: [{fields: {a: b, a: c}}]}\nschema: {reflection: true}")
	f.Fuzz(func(t *testing.T, keys string) {
		r, err := ParseRoute([]byte(structDoc(keys)))
		if err != nil {
			return
		}
		doc, err := r.Encode()
		require.NoError(t, err)
		again, err := ParseRoute(doc)
		require.NoError(t, err, "%s", doc)
		second, err := again.Encode()
		require.NoError(t, err)
		require.Equal(t, string(doc), string(second))
	})
}
