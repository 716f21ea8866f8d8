package plain

import (
	"bytes"
	"fmt"
	"strings"
	"unicode/utf8"

	"gopkg.in/yaml.v3"
)

// YAML returns the document of v, which has yaml tags, with escapes in its texts for what is not plain. Line breaks of
// texts stay.
func YAML(v any) ([]byte, error) {
	doc, err := encodeYAML(v)
	if err != nil || firstOddJSON(doc) < 0 {
		return doc, err
	}
	var n yaml.Node // package yaml takes U+202E and others for printable
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

// quoteOdd puts every text below n that is not plain in double quotes.
func quoteOdd(n *yaml.Node) {
	if n.Kind == yaml.ScalarNode && firstOdd(strings.ReplaceAll(n.Value, "\n", "")) >= 0 {
		n.Style = yaml.DoubleQuotedStyle
	}
	for _, c := range n.Content {
		quoteOdd(c)
	}
}
