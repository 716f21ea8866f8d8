package strict

import (
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"gopkg.in/yaml.v3"
)

// What a document has beyond MaxErrors mistakes is counted, at no cost to speak of beside parsing it.
func TestDecode_ManyMistakesCostLittle(t *testing.T) {
	type part struct {
		A map[string]string `yaml:"a"`
	}
	for name, doc := range map[string]string{
		"unknown keys": strings.Repeat("b:\n", 100_000),
		"items":        "parts: [" + strings.Repeat("1,", 100_000) + "]",
		"twice":        strings.Repeat("name: a\n", 100_000),
		"aliases":      "name: &a b\nlist: [" + strings.Repeat("*a,", 100_000) + "]",
		"values":       "values: {" + strings.Repeat("? [],", 100_000) + "}",
	} {
		var n yaml.Node
		require.NoError(t, yaml.Unmarshal([]byte(doc), &n))
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		err := DecodeNode(&n, &struct {
			Name   string            `yaml:"name"`
			Parts  []part            `yaml:"parts"`
			List   []int             `yaml:"list"`
			Values map[string]string `yaml:"values"`
		}{})
		runtime.ReadMemStats(&after)
		require.Error(t, err)
		require.Regexp(t, `and 99[0-9]{3} more$`, err.Error(), name)
		require.Less(t, (after.TotalAlloc-before.TotalAlloc)/100_000, uint64(150), "%s: bytes a mistake", name)
	}
}

// Neither keys nor values nor what package yaml quotes make an error long.
func TestDecode_MistakesAreShort(t *testing.T) {
	long := strings.Repeat("x", 1<<20)
	for _, doc := range []string{
		long + ": 1", "tags: {" + long + ": {" + long + ": 1}}", "name: {" + long + ": 1}", "name: *" + long, "name: &" + long + " a\ntags: *" + long,
		"tags: [{" + long + ": 1}]", "on: " + long, "!" + long + " {a: 1}", "name: !!binary " + long, "name: \"\\x" + long, "%" + long, "a: b: " + long,
	} {
		err := Decode([]byte(doc), &outer{})
		require.Error(t, err, doc[:20])
		require.Less(t, len(err.Error()), 2*maxErrorLen, doc[:20])
	}
}
