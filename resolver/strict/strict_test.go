package strict

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

type inner struct {
	Weight int           `yaml:"weight"`
	Wait   time.Duration `yaml:"wait"`
}

type outer struct {
	Name  string   `yaml:"name"`
	Tags  []string `yaml:"tags"`
	Parts []inner  `yaml:"parts"`
	On    bool     `yaml:"on"`
}

func TestDecode_FillsWhatIsNamedAndKeepsTheRest(t *testing.T) {
	o := outer{Name: "kept", On: true}
	require.NoError(t, Decode([]byte("parts: [{weight: 3, wait: 1.5s}]\n"), &o))
	require.Equal(t, outer{Name: "kept", On: true, Parts: []inner{{Weight: 3, Wait: 1500 * time.Millisecond}}}, o)
	require.NoError(t, Decode([]byte(`{"name": "json", "tags": ["a"]}`), &o))
	require.Equal(t, "json", o.Name)
	require.NoError(t, Decode(nil, &o))
	require.NoError(t, Decode([]byte("name:\ntags: ~\nparts:\n"), &o), "nothing behind a key")
	require.Equal(t, "json", o.Name)
	require.Equal(t, []string{"a"}, o.Tags)
	require.Len(t, o.Parts, 1)
}

// Keys of a struct that is inline are those of the struct that it is in.
func TestDecode_Inline(t *testing.T) {
	type whole struct {
		inner `yaml:",inline"`
		Name  string `yaml:"name"`
	}
	w := whole{inner: inner{Wait: time.Second}}
	require.NoError(t, Decode([]byte("weight: 3\nname: a"), &w))
	require.Equal(t, whole{inner{3, time.Second}, "a"}, w)
	require.ErrorContains(t, Decode([]byte("weihgt: 3\nwait: 5"), &w), "line 1: weihgt: unknown key, want one of: weight, wait, name\nline 2: wait: \"5\", want a duration")
}

func TestDecode_NamesKeyValueAndWhatWasWanted(t *testing.T) {
	for doc, want := range map[string]string{
		"nmae: x":                  "line 1: nmae: unknown key, want one of: name, tags, parts, on",
		"name: a\nname: b":         "line 2: name: given twice",
		"parts: [{weight: heavy}]": `line 1: parts[0].weight: "heavy", want a whole number`,
		"parts: [{weight: 1.5}]":   `line 1: parts[0].weight: "1.5", want a whole number`,
		"parts: [{weight: 1e3}]":   `line 1: parts[0].weight: "1e3", want a whole number`,
		"parts: [{weight: 1.0}]":   `line 1: parts[0].weight: "1.0", want a whole number`,
		"parts: [null]":            `line 1: parts[0]: nothing, want a value`,
		"parts: [~, {weight: 1}]":  `line 1: parts[0]: nothing, want a value`,
		"parts:\n- wait: soon":     `line 2: parts[0].wait: "soon", want a duration such as 1.5s or 200ms`,
		"parts:\n- wait: 5":        `line 2: parts[0].wait: "5", want a duration such as 1.5s or 200ms`,
		"tags: a":                  `line 1: tags: "a", want a list`,
		"on: maybe":                `line 1: on: "maybe", want true or false`,
		"name: [a]":                `line 1: name: a list, want a string`,
		"- a":                      "line 1: a list, want keys and values",
		"name: &x a\ntags: [*x]":   "line 2: tags[0]: an alias (*x), want the value itself",
		"a: 1\n---\nb: 2":          "line 2: a second document, want one",
		"name: \"a":                "found unexpected end of stream",
		"nmae: x\nwight: 1":        "nmae: unknown key, want one of: name, tags, parts, on\nline 2: wight: unknown key, want one of: name, tags, parts, on",
	} {
		require.ErrorContains(t, Decode([]byte(doc), &outer{}), want, doc)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte("name: a\nparts: [{weight: 1}]"))
	f.Add([]byte("{\"tags\": [\"a\"]}"))
	f.Add([]byte("a: &a [*a]"))
	f.Fuzz(func(t *testing.T, data []byte) { _ = Decode(data, &outer{}) })
}
