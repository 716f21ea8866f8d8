package wire

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// Message is what a Go type says of the encoding of its messages. It never changes: any number of goroutines may use
// it.
type Message struct {
	name         string                      // of the Go type
	fields       map[protowire.Number]*field // the fields that the type knows
	dense        [64]*field                  // of them, those with small numbers
	keepsUnknown bool                        // the type keeps unknown fields itself; fields is empty
	hasMap       bool                        // a message may hold a map, at any depth, so its encoding is not stable
}

// kind is how a field is merged.
type kind uint8

const (
	whole    kind = iota // all or nothing: scalars, their lists, and messages of a type that keeps unknown fields itself
	packed               // whole, and a list that is packed
	singular             // one message
	list                 // messages
	entries              // a map
)

// field is a field that a type knows.
type field struct {
	number  protowire.Number
	name    string   // of the Go field
	kind    kind     // how it is merged
	oneof   int      // which oneof of the message it belongs to, from 1; 0 for none
	message *Message // of singular and list; of an entry, with the fields 1 and 2, for entries
	key     keyKind  // of entries
}

var protoMessage = reflect.TypeFor[protoreflect.ProtoMessage]()

// Describe inspects the struct type t, or what t points to, as Kitex and prutal read it: by the struct tags protobuf,
// protobuf_key, protobuf_val and protobuf_oneof, and the method XXX_OneofWrappers. It is an error if t is no struct
// or a tag cannot be understood. A type may contain itself.
func Describe(t reflect.Type) (*Message, error) {
	known := make(map[reflect.Type]*Message)
	m, err := describe(t, known)
	if err != nil {
		return nil, err
	}
	spreadMaps(known)
	return m, nil
}

func describe(t reflect.Type, known map[reflect.Type]*Message) (*Message, error) {
	if t != nil && t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t == nil || t.Kind() != reflect.Struct {
		return nil, fmt.Errorf("wire: type %v, want a struct", t)
	}
	if m := known[t]; m != nil {
		return m, nil
	}
	m := &Message{name: t.String(), fields: make(map[protowire.Number]*field)}
	known[t] = m
	if reflect.PointerTo(t).Implements(protoMessage) {
		m.keepsUnknown = true
		return m, nil
	}
	var wrappers []any
	if w, ok := reflect.New(t).Interface().(interface{ XXX_OneofWrappers() []any }); ok {
		wrappers = w.XXX_OneofWrappers()
	}
	oneofs := 0
	for i := range t.NumField() {
		sf := t.Field(i)
		if sf.Tag.Get("protobuf") != "" {
			if err := m.add(sf, 0, known); err != nil {
				return nil, err
			}
		} else if sf.Tag.Get("protobuf_oneof") != "" && sf.Type.Kind() == reflect.Interface {
			oneofs++
			if err := m.addOneof(sf.Type, oneofs, wrappers, known); err != nil {
				return nil, err
			}
		}
	}
	return m, nil
}

// addOneof adds the members of a oneof: the wrappers, each a pointer to a struct of one field, that implement its type.
func (m *Message) addOneof(oneof reflect.Type, number int, wrappers []any, known map[reflect.Type]*Message) error {
	for _, w := range wrappers {
		t := reflect.TypeOf(w)
		if !t.Implements(oneof) {
			continue
		}
		if t.Kind() != reflect.Pointer || t.Elem().Kind() != reflect.Struct || t.Elem().NumField() != 1 {
			return fmt.Errorf("wire: %s: oneof member %v, want a pointer to a struct of one field", m.name, t)
		}
		if err := m.add(t.Elem().Field(0), number, known); err != nil {
			return err
		}
	}
	return nil
}

// add adds the field that sf describes.
func (m *Message) add(sf reflect.StructField, oneof int, known map[reflect.Type]*Message) error {
	wrong := func(format string, args ...any) error {
		return fmt.Errorf("wire: %s.%s: %s", m.name, sf.Name, fmt.Sprintf(format, args...))
	}
	parts := strings.Split(sf.Tag.Get("protobuf"), ",")
	if len(parts) < 2 || parts[0] == "group" {
		return wrong("tag %q, want an encoding other than group, and a number", sf.Tag.Get("protobuf"))
	}
	number, err := strconv.ParseInt(parts[1], 10, 32)
	if err != nil || !protowire.Number(number).IsValid() {
		return wrong("field number %q, want 1 to %d", parts[1], protowire.MaxValidNumber)
	}
	f := &field{number: protowire.Number(number), name: sf.Name, oneof: oneof}
	if other := m.fields[f.number]; other != nil {
		return wrong("field number %d, which %s has too", number, other.name)
	}
	t := sf.Type
	switch {
	case t.Kind() == reflect.Map:
		f.kind = entries
		if f.key, err = keyKindOf(sf.Tag.Get("protobuf_key"), t.Key()); err != nil {
			return wrong("%v", err)
		}
		if f.message, err = describeEntry(t, known); err != nil {
			return err
		}
	case t.Kind() == reflect.Slice && t.Elem().Kind() != reflect.Uint8:
		if isMessage(t.Elem()) {
			f.kind = list
			f.message, err = describe(t.Elem(), known)
		} else if slices.Contains(parts, "packed") {
			f.kind = packed
		}
	case isMessage(t):
		f.kind = singular
		f.message, err = describe(t, known)
	}
	if err != nil {
		return err
	}
	if f.message != nil && f.message.keepsUnknown {
		f.kind, f.message = whole, nil
	}
	m.put(f)
	return nil
}

func (m *Message) put(f *field) {
	m.fields[f.number] = f
	if int(f.number) < len(m.dense) {
		m.dense[f.number] = f
	}
}

// describeEntry is the message that the entries of a map of type t are on the wire.
func describeEntry(t reflect.Type, known map[reflect.Type]*Message) (*Message, error) {
	if m := known[t]; m != nil {
		return m, nil
	}
	m := &Message{name: t.String(), fields: make(map[protowire.Number]*field)}
	known[t] = m
	m.put(&field{number: entryKey, name: "key"})
	value := &field{number: entryValue, name: "value"}
	if isMessage(t.Elem()) {
		message, err := describe(t.Elem(), known)
		if err != nil {
			return nil, err
		}
		if !message.keepsUnknown {
			value.kind, value.message = singular, message
		}
	}
	m.put(value)
	return m, nil
}

// isMessage reports whether t is a struct or a pointer to one.
func isMessage(t reflect.Type) bool {
	return t.Kind() == reflect.Struct || t.Kind() == reflect.Pointer && t.Elem().Kind() == reflect.Struct
}

// spreadMaps sets hasMap of every type, as long as that changes others. Types may contain each other in a circle.
func spreadMaps(known map[reflect.Type]*Message) {
	for changed := true; changed; {
		changed = false
		for _, m := range known {
			if !m.hasMap && m.holdsMap() {
				m.hasMap, changed = true, true
			}
		}
	}
}

func (m *Message) holdsMap() bool {
	for _, f := range m.fields {
		if f.kind == entries || f.message != nil && f.message.hasMap {
			return true
		}
	}
	return false
}

// field is the known field of a number, nil if unknown.
func (m *Message) field(n protowire.Number) *field {
	if int(n) < len(m.dense) {
		return m.dense[n]
	}
	return m.fields[n]
}
