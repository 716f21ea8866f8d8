package plain

import (
	"bytes"
	"fmt"
	"strings"
	"unicode/utf8"

	"gopkg.in/yaml.v3"
)

// YAML returns the YAML document of v, a value with yaml tags, in which characters that are not plain are escaped. Line
// breaks within texts stay.
func YAML(v any) ([]byte, error) {
	doc, err := encodeYAML(v)
	if err != nil || firstOddJSON(doc) < 0 {
		return doc, err
	}
	var n yaml.Node // the escapes are made here, because package yaml takes U+202E and others for printable
	if err := yaml.Unmarshal(doc, &n); err != nil {
		return nil, err
	}
	quoteOdd(&n)
	if doc, err = encodeYAML(&n); err != nil {
		return nil, err
	}
	var b bytes.Buffer
	for odd := firstOddJSON(doc); odd >= 0; odd = firstOddJSON(doc) {
		b.Write(doc[:odd])
		r, n := utf8.DecodeRune(doc[odd:])
		fmt.Fprintf(&b, `\U%08x`, r) // it is in double quotes
		doc = doc[odd+n:]
	}
	b.Write(doc)
	return b.Bytes(), nil
}

func encodeYAML(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := yaml.NewEncoder(&b)
	enc.SetIndent(2)
	err := enc.Encode(v)
	return b.Bytes(), err
}

// quoteOdd has every text at and below n that is not plain encoded in double quotes.
func quoteOdd(n *yaml.Node) {
	if n.Kind == yaml.ScalarNode && firstOdd(strings.ReplaceAll(n.Value, "\n", "")) >= 0 {
		n.Style = yaml.DoubleQuotedStyle
	}
	for _, c := range n.Content {
		quoteOdd(c)
	}
}
