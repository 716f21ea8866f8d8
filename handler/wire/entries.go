package wire

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"
)

// The fields of a map's entry.
const (
	entryKey   protowire.Number = 1
	entryValue protowire.Number = 2
)

// keyKind is how the key of an entry is read, so that equal keys are found equal however they were encoded.
type keyKind uint8

const (
	keyBytes    keyKind = iota // as it is: strings and fixed-size integers
	keyVarint64                // 64 bits
	keyVarint32                // the low 32 bits
	keyZigzag32                // the low 32 bits once decoded
	keyBool                    // zero or not
)

// keyKindOf is the kind of keys with the tag protobuf_key and the Go type.
func keyKindOf(tag string, t reflect.Type) (keyKind, error) {
	encoding, _, _ := strings.Cut(tag, ",")
	switch encoding {
	case "bytes", "fixed32", "fixed64":
		return keyBytes, nil
	case "zigzag32":
		return keyZigzag32, nil
	case "zigzag64":
		return keyVarint64, nil
	case "varint":
		switch t.Kind() {
		case reflect.Bool:
			return keyBool, nil
		case reflect.Int32, reflect.Uint32:
			return keyVarint32, nil
		case reflect.Int64, reflect.Uint64:
			return keyVarint64, nil
		}
	}
	return 0, fmt.Errorf("map key %v with tag %q, want a type and an encoding that protobuf has for keys", t, tag)
}

// keyOf is the key of an entry, as a string that equals that of another entry if the keys are equal.
func (k keyKind) keyOf(entry []byte) (string, error) {
	var key string
	var keys, values int
	for at := 0; at < len(entry); {
		r, err := next(entry[at:])
		if err != nil {
			return "", err
		}
		switch r.number {
		case entryKey:
			keys++
			if key, err = k.normal(r, entry[at:]); err != nil {
				return "", err
			}
		case entryValue:
			values++
		}
		at += r.end
	}
	if keys != 1 || values != 1 {
		return "", fmt.Errorf("%w: a map entry with %d keys and %d values", ErrAmbiguous, keys, values)
	}
	return key, nil
}

func (k keyKind) normal(r record, b []byte) (string, error) {
	if k == keyBytes {
		if r.typ == protowire.BytesType {
			return string(r.payload(b)), nil
		}
		return string(b[r.value:r.end]), nil
	}
	if r.typ != protowire.VarintType {
		return "", fmt.Errorf("%w: a map key of wire type %d, want %d", ErrAmbiguous, r.typ, protowire.VarintType)
	}
	v, _ := protowire.ConsumeVarint(b[r.value:r.end])
	switch k {
	case keyVarint32:
		v = uint64(uint32(v))
	case keyZigzag32:
		v = uint64(uint32(protowire.DecodeZigZag(v)))
	case keyBool:
		v = uint64(protowire.EncodeBool(v != 0))
	}
	return string(binary.LittleEndian.AppendUint64(nil, v)), nil
}

// byKey is where in e each key is, the last time if it is there several times.
func (k keyKind) byKey(e elements) (map[string]int, error) {
	places := make(map[string]int, e.len())
	for i := range e.parts {
		key, err := k.keyOf(e.at(i))
		if err != nil {
			return nil, err
		}
		places[key] = i
	}
	return places, nil
}

// appendEntries appends a map: the entries of original that are still there, in their order, then the others.
func (c *change) appendEntries(out, original []byte, depth int) ([]byte, error) {
	came := elements{original, c.parts}
	before, err := elementsOf(c.before)
	if err != nil {
		return nil, err
	}
	after, err := elementsOf(c.after)
	if err != nil {
		return nil, err
	}
	placesCame, err := c.field.key.byKey(came)
	if err != nil {
		return nil, err
	}
	placesBefore, err := c.field.key.byKey(before)
	if err != nil {
		return nil, err
	}
	placesAfter, err := c.field.key.byKey(after)
	if err != nil {
		return nil, err
	}
	if !sameKeys(placesCame, placesBefore) {
		return nil, fmt.Errorf("%w: a map of %d keys, of which %d were decoded",
			ErrAmbiguous, len(placesCame), len(placesBefore))
	}
	for i := range came.parts {
		key, err := c.field.key.keyOf(came.at(i))
		if err != nil {
			return nil, err
		}
		j, stays := placesAfter[key]
		if !stays || placesCame[key] != i {
			continue
		}
		was := before.at(placesBefore[key])
		out, err = c.field.message.appendMessage(out, c.number, came.at(i), was, after.at(j), depth-1)
		if err != nil {
			return nil, fmt.Errorf("map entry %d: %w", i, err)
		}
	}
	for j := range after.parts {
		key, err := c.field.key.keyOf(after.at(j))
		if err != nil {
			return nil, err
		}
		if _, ok := placesCame[key]; !ok {
			out = protowire.AppendTag(out, c.number, protowire.BytesType)
			out = protowire.AppendBytes(out, after.at(j))
		}
	}
	return out, nil
}

func sameKeys(x, y map[string]int) bool {
	for key := range x {
		if _, ok := y[key]; !ok {
			return false
		}
	}
	return len(x) == len(y)
}

// canonicalElements are copies of e with the entries of maps sorted.
func (m *Message) canonicalElements(e elements, depth int) (elements, error) {
	out := elements{b: make([]byte, 0, len(e.b)), parts: make([]part, 0, len(e.parts))}
	for i := range e.parts {
		start := len(out.b)
		b, err := m.appendCanonical(out.b, e.at(i), depth)
		if err != nil {
			return elements{}, err
		}
		out.b, out.parts = b, append(out.parts, part{int32(start), int32(len(b))})
	}
	return out, nil
}

// appendCanonical appends b with its fields, and the entries of its maps, sorted.
func (m *Message) appendCanonical(out, b []byte, depth int) ([]byte, error) {
	if !m.hasMap {
		return append(out, b...), nil
	}
	if depth == 0 {
		return nil, ErrTooDeep
	}
	b, spans, err := m.spans(nil, b)
	if err != nil {
		return nil, err
	}
	for _, s := range spans {
		f := m.field(s.number)
		if f == nil || f.message == nil {
			out = append(out, b[s.start:s.end]...)
			continue
		}
		e, err := elementsOf(b[s.start:s.end])
		if err != nil {
			return nil, err
		}
		if e, err = f.message.canonicalElements(e, depth-1); err != nil {
			return nil, err
		}
		if f.kind == entries {
			slices.SortFunc(e.parts, func(x, y part) int { return bytes.Compare(e.b[x.start:x.end], e.b[y.start:y.end]) })
		}
		for i := range e.parts {
			out = protowire.AppendTag(out, s.number, protowire.BytesType)
			out = protowire.AppendBytes(out, e.at(i))
		}
	}
	return out, nil
}
