package rule

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"google.golang.org/protobuf/reflect/protoreflect"
)

const (
	maxPathBytes = 512
	maxPathSteps = 32
)

// step is one name of a path: it leads to a field, to each of its elements, or to one entry of a map.
type step struct {
	name   string
	each   bool // name[]: each element
	hasKey bool // name["key"]: one entry
	key    string

	// set by resolve
	fd     protoreflect.FieldDescriptor
	mapKey protoreflect.MapKey // key, converted to the type of the map's keys
}

// path leads from a message to one or more fields or elements.
type path []step

// parsePath parses a path such as a.b, a[].b or a["key"].b.
func parsePath(s string) (path, error) {
	bad := fmt.Errorf(`%.256q, want names joined by ".", each maybe with [] or ["key"] behind it`, s)
	if len(s) > maxPathBytes {
		return nil, fmt.Errorf("a path of %d bytes, want at most %d", len(s), maxPathBytes)
	}
	if strings.HasPrefix(s, "(") || strings.HasPrefix(s, "[") {
		return nil, fmt.Errorf("%.256q, want no extension: those cannot be addressed", s)
	}
	var p path
	for rest := s; ; {
		n := 0
		for n < len(rest) && isNameByte(rest[n], n) {
			n++
		}
		if n == 0 {
			return nil, bad
		}
		st := step{name: rest[:n]}
		rest = rest[n:]
		if after, ok := strings.CutPrefix(rest, "[]"); ok {
			st.each, rest = true, after
		} else if after, ok := strings.CutPrefix(rest, "["); ok {
			quoted, err := strconv.QuotedPrefix(after)
			if err != nil || quoted[0] != '"' {
				return nil, bad
			}
			if st.key, err = strconv.Unquote(quoted); err != nil || !utf8.ValidString(st.key) {
				return nil, bad
			}
			st.hasKey = true
			if rest, ok = strings.CutPrefix(after[len(quoted):], "]"); !ok {
				return nil, bad
			}
		}
		if p = append(p, st); len(p) > maxPathSteps {
			return nil, fmt.Errorf("a path of more than %d names, want at most that", maxPathSteps)
		}
		if rest == "" {
			return p, nil
		}
		var ok bool
		if rest, ok = strings.CutPrefix(rest, "."); !ok {
			return nil, bad
		}
	}
}

func isNameByte(c byte, i int) bool {
	return c == '_' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || i > 0 && '0' <= c && c <= '9'
}

// within reports whether p leads to q or to a part of it.
func (p path) within(q path) bool {
	if len(p) < len(q) {
		return false
	}
	for i, st := range q {
		if p[i].name != st.name || p[i].each != st.each || p[i].hasKey != st.hasKey || p[i].key != st.key {
			// Two steps with the same name may differ only at the end of q: there a contains a[] and a["b"], and a[] contains
			// a["b"]. Before the end, a[] and a["b"] are different.
			return i == len(q)-1 && p[i].name == st.name && (!st.each && !st.hasKey || st.each && p[i].hasKey)
		}
	}
	return true
}

// resolve returns a copy of p for messages of type md, with the descriptors of its fields.
func (p path) resolve(md protoreflect.MessageDescriptor) (path, error) {
	out := make(path, len(p))
	for i, st := range p {
		st.fd = md.Fields().ByName(protoreflect.Name(st.name))
		if st.fd == nil {
			return nil, fmt.Errorf("%s has no field %q", md.FullName(), st.name)
		}
		if err := st.index(md); err != nil {
			return nil, err
		}
		out[i] = st
		if i == len(p)-1 {
			break
		}
		next := st.elem()
		switch {
		case next.Message() == nil:
			return nil, fmt.Errorf("%s.%s is of type %s, want a message to find %q in", md.FullName(), st.name,
				kindName(next), p[i+1].name)
		case !st.each && !st.hasKey && st.fd.IsMap():
			return nil, fmt.Errorf(`%s.%s is a map, want %s["key"] or %s[] to find %q in`, md.FullName(), st.name,
				st.name, st.name, p[i+1].name)
		case !st.each && st.fd.IsList():
			return nil, fmt.Errorf("%s.%s is repeated, want %s[] to find %q in", md.FullName(), st.name, st.name,
				p[i+1].name)
		}
		md = next.Message()
	}
	return out, nil
}

// index checks that the field may have [] or ["key"], and sets mapKey.
func (st *step) index(md protoreflect.MessageDescriptor) error {
	switch {
	case st.each && !st.fd.IsList() && !st.fd.IsMap():
		return fmt.Errorf("%s.%s is not repeated, want %s without []", md.FullName(), st.name, st.name)
	case !st.hasKey:
		return nil
	case !st.fd.IsMap():
		return fmt.Errorf("%s.%s is not a map, want %s without [%q]", md.FullName(), st.name, st.name, st.key)
	}
	var err error
	var v any
	switch kind := st.fd.MapKey().Kind(); kind {
	case protoreflect.StringKind:
		v = st.key
	case protoreflect.BoolKind:
		v, err = strconv.ParseBool(st.key)
	case protoreflect.Int32Kind, protoreflect.Sint32Kind, protoreflect.Sfixed32Kind:
		var n int64
		n, err = strconv.ParseInt(st.key, 10, 32)
		v = int32(n)
	case protoreflect.Int64Kind, protoreflect.Sint64Kind, protoreflect.Sfixed64Kind:
		v, err = strconv.ParseInt(st.key, 10, 64)
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
		var n uint64
		n, err = strconv.ParseUint(st.key, 10, 32)
		v = uint32(n)
	default:
		v, err = strconv.ParseUint(st.key, 10, 64)
	}
	if err != nil {
		return fmt.Errorf("%s.%s has keys of type %s, got %q", md.FullName(), st.name, st.fd.MapKey().Kind(), st.key)
	}
	st.mapKey = protoreflect.ValueOf(v).MapKey()
	return nil
}

// single reports whether the step leads to elements, to one or to each, not to a field as a whole.
func (st *step) single() bool { return st.each || st.hasKey }

// elem returns the descriptor of one element: for a map, the field of its values; for a field that is not repeated, the field.
func (st *step) elem() protoreflect.FieldDescriptor {
	if st.fd.IsMap() {
		return st.fd.MapValue()
	}
	return st.fd
}

// kindName returns the name of the type of a field, or of its elements, as a .proto file has it.
func kindName(fd protoreflect.FieldDescriptor) string {
	switch {
	case fd.Message() != nil:
		return string(fd.Message().FullName())
	case fd.Enum() != nil:
		return string(fd.Enum().FullName())
	}
	return fd.Kind().String()
}
