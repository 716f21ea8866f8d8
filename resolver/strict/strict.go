// Package strict decodes YAML (and so JSON) documents that people write. It reports every mistake of a document at
// once, each with its line, its key, the value that was there and what was wanted.
package strict

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"time"

	"gopkg.in/yaml.v3"
)

// Error is one mistake in a document.
type Error struct {
	Line int    // 1-based; 0 when the document as a whole is wrong
	Key  string // path of the key, such as backends[0].weight; empty for the document itself
	Msg  string
}

func (e *Error) Error() string {
	var b strings.Builder
	if e.Line > 0 {
		fmt.Fprintf(&b, "line %d: ", e.Line)
	}
	if e.Key != "" {
		fmt.Fprintf(&b, "%s: ", e.Key)
	}
	b.WriteString(e.Msg)
	return b.String()
}

// MaxErrors is how many mistakes Join names.
const MaxErrors = 50

// maxErrorLen is how much of one mistake Join shows, in bytes.
const maxErrorLen = 1024

// Join joins errors as errors.Join does, but only the first MaxErrors, each cut to maxErrorLen: the writer of a document
// decides how many mistakes it has and how long they are.
func Join(errs []error) error { return join(errs, 0) }

// join is Join for errs and for more further errors, of which only the number is known.
func join(errs []error, more int) error {
	more += max(len(errs)-MaxErrors, 0)
	errs = errs[:min(len(errs), MaxErrors):min(len(errs), MaxErrors)]
	if more > 0 {
		errs = append(errs, fmt.Errorf("and %d more", more))
	}
	for i, err := range errs {
		if msg := err.Error(); len(msg) > maxErrorLen {
			errs[i] = errors.New(cut(msg, maxErrorLen))
		}
	}
	return errors.Join(errs...)
}

// Within returns the errors that are joined in err, each of which begins with a key, with prefix before that key, such as
// "upstream." or "etcd ".
func Within(prefix string, err error) (errs []error) {
	if err == nil {
		return nil
	}
	all := []error{err}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		all = joined.Unwrap()
	}
	for _, e := range all {
		errs = append(errs, fmt.Errorf("%s%w", prefix, e))
	}
	return errs
}

// cut returns s, or its first limit bytes and three dots if it is longer.
func cut(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	return strings.ToValidUTF8(s[:limit], "") + "..."
}

// Decode fills v, a pointer to a struct, from the one document in data. A key that v does not have, a key given twice,
// a value of another kind and a second document are errors. Fields that the document does not name keep their values.
// The error joins one *Error for each mistake; v is then partly filled and must not be used.
func Decode(data []byte, v any) error {
	var doc yaml.Node
	dec := yaml.NewDecoder(bytes.NewReader(data))
	if err := dec.Decode(&doc); err != nil {
		if errors.Is(err, io.EOF) {
			return nil // an empty document sets nothing
		}
		return syntaxError(err)
	}
	var next yaml.Node
	if err := dec.Decode(&next); !errors.Is(err, io.EOF) {
		return &Error{Line: next.Line, Msg: "a second document, want one"}
	}
	return DecodeNode(&doc, v)
}

// DecodeNode is Decode for a node of a document that is parsed already.
func DecodeNode(n *yaml.Node, v any) error {
	var w walker
	w.check(n, reflect.TypeOf(v).Elem(), "")
	if len(w.errs) > 0 {
		return join(w.errs, w.more)
	}
	if err := n.Decode(v); err != nil {
		return syntaxError(err)
	}
	return nil
}

// syntaxError returns an error of package yaml, cut to maxErrorLen, because it may quote the whole document.
func syntaxError(err error) error {
	return &Error{Msg: cut(strings.TrimPrefix(err.Error(), "yaml: "), maxErrorLen)}
}

// maxKeyLen is how much of one key or value a mistake shows, in bytes.
const maxKeyLen = 64

// walker checks the nodes of a document against the types that they are to be decoded into.
type walker struct {
	errs  []error // at most MaxErrors
	more  int     // mistakes beyond them
	depth int
}

// fail notes a mistake. A mistake beyond MaxErrors is counted but not formatted, since there may be one for each byte of the
// document.
func (w *walker) fail(n *yaml.Node, key, format string, args ...any) {
	if len(w.errs) >= MaxErrors {
		w.more++
		return
	}
	w.errs = append(w.errs, &Error{Line: n.Line, Key: key, Msg: fmt.Sprintf(format, args...)})
}

// Shaper is implemented by a type whose own UnmarshalYAML decodes nodes of several shapes. Shape returns the type that a node
// is checked against. It is called on the zero value.
type Shaper interface {
	Shape(*yaml.Node) reflect.Type
}

// Wanter is implemented by a type whose own UnmarshalYAML decodes scalars. Wants returns what it wants, for people. It is called
// on the zero value.
type Wanter interface {
	Wants() string
}

var durationType = reflect.TypeFor[time.Duration]()

// maxDepth bounds how deep a document may be nested. The deepest document that framegate has needs 6.
const maxDepth = 32

// check notes the mistakes of a node, and of all nodes below it, which is to be decoded into a value of type t. key is the
// path of the node. Keys of structs with null values are removed, so that they keep their defaults.
func (w *walker) check(n *yaml.Node, t reflect.Type, key string) {
	w.depth++
	defer func() { w.depth-- }()
	if w.depth > maxDepth {
		w.fail(n, key, "nested more than %d deep", maxDepth)
		return
	}
	switch n.Kind {
	case yaml.DocumentNode:
		w.check(n.Content[0], t, key)
		return
	case yaml.AliasNode:
		w.fail(n, key, "an alias (*%s), want the value itself", cut(n.Value, maxKeyLen))
		return
	}
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if n.Kind == yaml.ScalarNode && n.Tag == "!!null" {
		return
	}
	switch is := reflect.Zero(t).Interface().(type) {
	case Shaper:
		t = is.Shape(n)
	case Wanter:
		w.scalar(n, t, key)
		return
	}
	switch t.Kind() {
	case reflect.Struct:
		w.mapping(n, t, key)
	case reflect.Slice:
		if n.Kind != yaml.SequenceNode {
			w.fail(n, key, "%s, want a list", shown{n})
			return
		}
		for i, c := range n.Content {
			path := fmt.Sprintf("%s[%d]", key, i)
			if c.Kind == yaml.ScalarNode && c.Tag == "!!null" { // package yaml would leave it out, or make something of nothing
				w.fail(c, path, "nothing, want a value")
				continue
			}
			w.check(c, t.Elem(), path)
		}
	case reflect.Map:
		if n.Kind != yaml.MappingNode {
			w.fail(n, key, "%s, want keys and values", shown{n})
			return
		}
		seen := map[string]bool{}
		for i := 0; i+1 < len(n.Content); i += 2 {
			k, path := n.Content[i], key+"."+cut(n.Content[i].Value, maxKeyLen)
			switch {
			case k.Kind != yaml.ScalarNode:
				w.fail(k, key, "%s as a key, want a text", shown{k})
			case seen[k.Value]:
				w.fail(k, path, "given twice")
			default:
				w.check(n.Content[i+1], t.Elem(), path)
			}
			seen[k.Value] = true
		}
	default:
		w.scalar(n, t, key)
	}
}

func (w *walker) mapping(n *yaml.Node, t reflect.Type, key string) {
	if n.Kind != yaml.MappingNode {
		w.fail(n, key, "%s, want keys and values", shown{n})
		return
	}
	fields, seen := fieldsOf(t), map[string]bool{}
	var kept []*yaml.Node
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		path := cut(k.Value, maxKeyLen)
		if key != "" {
			path = key + "." + path
		}
		ft, ok := fields[k.Value]
		switch {
		case k.Tag == "!!merge":
			w.fail(k, path, "a merge key, want the keys themselves")
		case !ok:
			w.fail(k, path, "unknown key, want one of: %s", fieldNames{t})
		case seen[k.Value]:
			w.fail(k, path, "given twice")
		default:
			w.check(v, ft, path)
		}
		seen[k.Value] = true
		if v.Tag != "!!null" {
			kept = append(kept, k, v)
		}
	}
	n.Content = kept // a key with nothing behind it keeps the default
}

func (w *walker) scalar(n *yaml.Node, t reflect.Type, key string) {
	if n.Tag == "!!binary" {
		w.fail(n, key, "binary data, want %s", kind{t})
		return
	}
	if err := n.Decode(reflect.New(t).Interface()); err != nil || n.Tag == "!!float" && isWhole(t) { // which package yaml cuts off
		w.fail(n, key, "%s, want %s", shown{n}, kind{t})
	}
}

// isWhole reports whether values of a type are whole numbers.
func isWhole(t reflect.Type) bool {
	v := reflect.Zero(t)
	_, wants := v.Interface().(Wanter)
	return (v.CanInt() || v.CanUint()) && t != durationType && !wants
}

// shown, kind and fieldNames format a node, a type and its keys for a mistake. They are fmt.Stringers, so that fail formats
// only the mistakes that are named.
type (
	shown      struct{ *yaml.Node }
	kind       struct{ reflect.Type }
	fieldNames struct{ reflect.Type }
)

func (n shown) String() string {
	switch n.Kind {
	case yaml.MappingNode:
		return "keys and values"
	case yaml.SequenceNode:
		return "a list"
	}
	return fmt.Sprintf("%q", cut(n.Value, maxKeyLen))
}

func (t kind) String() string {
	if t.Type == durationType {
		return "a duration such as 1.5s or 200ms"
	}
	if w, ok := reflect.Zero(t.Type).Interface().(Wanter); ok {
		return w.Wants()
	}
	switch t.Kind() {
	case reflect.Bool:
		return "true or false"
	case reflect.String:
		return "a string"
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return "a whole number, 0 or more"
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return "a whole number"
	}
	return t.Type.String()
}

// fieldsOf returns the types of a struct's fields by their yaml keys.
func fieldsOf(t reflect.Type) map[string]reflect.Type {
	m := map[string]reflect.Type{}
	eachField(t, func(key string, f reflect.StructField) { m[key] = f.Type })
	return m
}

// eachField calls f with each field that has a yaml key, also of structs that are inline.
func eachField(t reflect.Type, do func(key string, f reflect.StructField)) {
	for i := range t.NumField() {
		f := t.Field(i)
		if f.Tag.Get("yaml") == Inline {
			eachField(f.Type, do)
		} else if name := tagName(f); name != "" {
			do(name, f)
		}
	}
}

// Inline is the yaml tag of a struct whose keys are those of the struct that it is in.
const Inline = ",inline"

func (t fieldNames) String() string {
	var names []string
	eachField(t.Type, func(key string, _ reflect.StructField) { names = append(names, key) })
	return strings.Join(names, ", ")
}

// tagName returns the yaml key of a field; "" if it has none.
func tagName(f reflect.StructField) string {
	name, _, _ := strings.Cut(f.Tag.Get("yaml"), ",")
	if name == "-" {
		return ""
	}
	return name
}
