package rule

import (
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/framegate/framegate/resolver/spec"
)

// edit is a kind of change. The methods of path and step that edit a message report whether they changed it. The message
// must be of the type that the path was resolved for.
type edit uint8

const (
	editSet  edit = iota
	editCopy      // sets a copy in each place
	editClear
	editRedact
)

// set assigns v to the fields or elements that the path leads to. It makes messages on the way that are missing. If v is
// invalid, it clears the fields.
func (p path) set(m protoreflect.Message, v protoreflect.Value) bool {
	switch {
	case !v.IsValid():
		return p.edit(m, editClear, v)
	case p.many(): // a message must not be in two places
		return p.edit(m, editCopy, v)
	}
	return p.edit(m, editSet, v)
}

func (p path) clear(m protoreflect.Message) bool { return p.edit(m, editClear, protoreflect.Value{}) }

func (p path) redact(m protoreflect.Message) bool { return p.edit(m, editRedact, protoreflect.Value{}) }

// many reports whether the path may lead to more than one place.
func (p path) many() bool {
	for i := range p {
		if p[i].each {
			return true
		}
	}
	return false
}

// edit makes the change e in each place that the path leads to from m.
func (p path) edit(m protoreflect.Message, e edit, v protoreflect.Value) (changed bool) {
	st := &p[0]
	if len(p) == 1 {
		switch e {
		case editSet:
			return st.set(m, v)
		case editCopy:
			return st.set(m, copied(m, st, v))
		case editClear:
			return st.clear(m)
		}
		return st.redact(m)
	}
	p = p[1:]
	has := m.Has(st.fd)
	switch {
	case st.each && !has:
	case st.each && st.fd.IsList():
		list := m.Mutable(st.fd).List()
		for i := range list.Len() {
			changed = p.edit(list.Get(i).Message(), e, v) || changed
		}
	case st.each:
		values := m.Mutable(st.fd).Map()
		values.Range(func(_ protoreflect.MapKey, value protoreflect.Value) bool {
			changed = p.edit(value.Message(), e, v) || changed
			return true
		})
	case st.hasKey:
		has = has && m.Get(st.fd).Map().Has(st.mapKey)
		if has || e <= editCopy {
			changed = p.edit(m.Mutable(st.fd).Map().Mutable(st.mapKey).Message(), e, v) || !has
		}
	case has || e <= editCopy:
		changed = p.edit(m.Mutable(st.fd).Message(), e, v) || !has
	}
	return changed
}

// set assigns v to the field or elements of m that the step leads to.
func (st *step) set(m protoreflect.Message, v protoreflect.Value) (changed bool) {
	switch {
	case st.each && !m.Has(st.fd):
	case st.each && st.fd.IsList():
		list := m.Mutable(st.fd).List()
		for i := range list.Len() {
			if !list.Get(i).Equal(v) {
				list.Set(i, cloned(v))
				changed = true
			}
		}
	case st.each:
		values := m.Mutable(st.fd).Map()
		values.Range(func(k protoreflect.MapKey, old protoreflect.Value) bool {
			if !old.Equal(v) {
				values.Set(k, cloned(v))
				changed = true
			}
			return true
		})
	case st.hasKey:
		if m.Has(st.fd) {
			if old := m.Get(st.fd).Map().Get(st.mapKey); old.IsValid() && old.Equal(v) {
				return false
			}
		}
		m.Mutable(st.fd).Map().Set(st.mapKey, cloned(v))
		return true
	default:
		if (m.Has(st.fd) || !st.fd.HasPresence()) && m.Get(st.fd).Equal(v) {
			return false
		}
		m.Set(st.fd, v)
		return true
	}
	return changed
}

// cloned returns v, or a copy of it if it is a message.
func cloned(v protoreflect.Value) protoreflect.Value {
	if m, ok := v.Interface().(protoreflect.Message); ok {
		return protoreflect.ValueOfMessage(proto.Clone(m.Interface()).ProtoReflect())
	}
	return v
}

// copied returns a copy of v for the field of m that st leads to. It returns v itself for elements, which step.set copies.
func copied(m protoreflect.Message, st *step, v protoreflect.Value) protoreflect.Value {
	switch {
	case st.single():
		return v // step.set copies it
	case st.fd.IsList():
		out := m.NewField(st.fd)
		for i := range v.List().Len() {
			out.List().Append(cloned(v.List().Get(i)))
		}
		return out
	case st.fd.IsMap():
		out := m.NewField(st.fd)
		v.Map().Range(func(k protoreflect.MapKey, value protoreflect.Value) bool {
			out.Map().Set(k, cloned(value))
			return true
		})
		return out
	}
	return cloned(v)
}

// clear clears the field of m, all elements of a field with [], or the entry of a map.
func (st *step) clear(m protoreflect.Message) bool {
	if !m.Has(st.fd) {
		return false
	}
	if st.hasKey {
		values := m.Mutable(st.fd).Map()
		if !values.Has(st.mapKey) {
			return false
		}
		values.Clear(st.mapKey)
		return true
	}
	m.Clear(st.fd)
	return true
}

// redact replaces strings by spec.Redacted and makes bytes empty, also those in a repeated field or a map. It clears fields of
// other types.
func (st *step) redact(m protoreflect.Message) (changed bool) {
	v, ok := redactedValue(st.elem())
	switch {
	case !ok:
		return st.clear(m)
	case !m.Has(st.fd):
		return false
	case st.fd.IsList() || st.fd.IsMap() && !st.hasKey:
		all := *st
		all.each = true
		return all.set(m, v)
	case st.hasKey && !m.Get(st.fd).Map().Has(st.mapKey):
		return false
	}
	return st.set(m, v)
}

// redactedValue returns the value that replaces a redacted value of the field, or false if redaction clears the field.
func redactedValue(fd protoreflect.FieldDescriptor) (protoreflect.Value, bool) {
	switch fd.Kind() {
	case protoreflect.StringKind:
		return protoreflect.ValueOfString(spec.Redacted), true
	case protoreflect.BytesKind:
		return protoreflect.ValueOfBytes(nil), true
	}
	return protoreflect.Value{}, false
}
