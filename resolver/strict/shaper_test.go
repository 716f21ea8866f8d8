package strict

import (
	"errors"
	"reflect"
	"testing"

	"github.com/stretchr/testify/require"
	"gopkg.in/yaml.v3"
)

// oneOrMany is a list of numbers, or numbers by name.
type oneOrMany struct {
	List  []int
	Named map[string]int
}

func (oneOrMany) Shape(n *yaml.Node) reflect.Type {
	if n.Kind == yaml.MappingNode {
		return reflect.TypeFor[map[string]int]()
	}
	return reflect.TypeFor[[]int]()
}

func (o *oneOrMany) UnmarshalYAML(n *yaml.Node) error {
	if n.Kind == yaml.MappingNode {
		return n.Decode(&o.Named)
	}
	return n.Decode(&o.List)
}

type shaped struct {
	Name   string      `yaml:"name"`
	Value  oneOrMany   `yaml:"value"`
	Maybe  *oneOrMany  `yaml:"maybe"`
	Values []oneOrMany `yaml:"values"`
}

func TestShaper_TakesEachOfItsShapes(t *testing.T) {
	for doc, want := range map[string]shaped{
		"value: [1, 2]":             {Value: oneOrMany{List: []int{1, 2}}},
		"value: {a: 1}":             {Value: oneOrMany{Named: map[string]int{"a": 1}}},
		`{"value": {"a": 1}}`:       {Value: oneOrMany{Named: map[string]int{"a": 1}}},
		"maybe: [1]":                {Maybe: &oneOrMany{List: []int{1}}},
		"values: [[1], {a: 2}]":     {Values: []oneOrMany{{List: []int{1}}, {Named: map[string]int{"a": 2}}}},
		"name: a\nvalue:\nmaybe: ~": {Name: "a"},
	} {
		var got shaped
		require.NoError(t, Decode([]byte(doc), &got), doc)
		require.Equal(t, want, got, doc)
	}
}

func TestShaper_MistakesHaveLineAndKey(t *testing.T) {
	for doc, want := range map[string]Error{
		"name: a\nvalue: 5":                {2, "value", `"5", want a list`},
		"value:\n- 1\n- two":               {3, "value[1]", `"two", want a whole number`},
		"value:\n  a: 1\n  b: two":         {3, "value.b", `"two", want a whole number`},
		"value:\n  a: [1]":                 {2, "value.a", "a list, want a whole number"},
		"maybe:\n  - {a: 1}":               {2, "maybe[0]", "keys and values, want a whole number"},
		"values:\n- [1]\n- {a: x}":         {3, "values[1].a", `"x", want a whole number`},
		"values:\n- [1]\n- x":              {3, "values[1]", `"x", want a list`},
		"values: {a: 1}":                   {1, "values", "keys and values, want a list"},
		"name: &n a\nvalue: *n":            {2, "value", "an alias (*n), want the value itself"},
		"name: a\nvalue: {a: 1}\nvalue: 5": {3, "value", "given twice"},
	} {
		err := Decode([]byte(doc), &shaped{})
		var got *Error
		require.True(t, errors.As(err, &got), "%s: %v", doc, err)
		require.Equal(t, want, *got, doc)
	}
}

func TestShaper_AllMistakesAreNamedAtOnce(t *testing.T) {
	err := Decode([]byte("value: {a: x, b: y}\nvalues: [5, [z]]\nnmae: a"), &shaped{})
	require.EqualError(t, err, `line 1: value.a: "x", want a whole number
line 1: value.b: "y", want a whole number
line 2: values[0]: "5", want a list
line 2: values[1][0]: "z", want a whole number
line 3: nmae: unknown key, want one of: name, value, maybe, values`)
}

func FuzzDecode_Shapes(f *testing.F) {
	f.Add([]byte("value: [1]\nmaybe: {a: 1}\nvalues: [[1], {a: 1}]"))
	f.Add([]byte("value: {a: 1, a: 2}"))
	f.Add([]byte("value: {<<: {a: 1}}"))
	f.Fuzz(func(t *testing.T, data []byte) { _ = Decode(data, &shaped{}) })
}

func TestDecode_NamesKeysOfMapsThatAreGivenTwiceOrNoText(t *testing.T) {
	var v struct {
		Tags map[string]string `yaml:"tags"`
	}
	require.EqualError(t, Decode([]byte("tags:\n  a: b\n  a: c\n  ? [1]\n  : d\n"), &v), "line 3: tags.a: given twice\nline 4: tags: a list as a key, want a text")
}
