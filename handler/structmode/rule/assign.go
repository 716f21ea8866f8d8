package rule

import (
	"errors"
	"fmt"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/types"
	"google.golang.org/protobuf/reflect/protoreflect"
)

func isDyn(t *cel.Type) bool { return t.Kind() == types.DynKind || t.Kind() == types.AnyKind }

// accepts reports whether an expression of type t may be assigned to the field or element that the step leads to. It accepts
// dyn: the type of such a value is checked when it is assigned.
func (st *step) accepts(t *cel.Type) bool {
	if isDyn(t) || t.Kind() == types.NullTypeKind {
		return true
	}
	switch {
	case st.single():
		return elemAccepts(st.elem(), t)
	case st.fd.IsMap():
		return t.Kind() == types.MapKind && elemAccepts(st.fd.MapKey(), t.Parameters()[0]) &&
			elemAccepts(st.fd.MapValue(), t.Parameters()[1])
	case st.fd.IsList():
		return t.Kind() == types.ListKind && elemAccepts(st.fd, t.Parameters()[0])
	}
	return elemAccepts(st.fd, t)
}

// elemAccepts is accepts for a singular field, or for one element of a repeated field.
func elemAccepts(fd protoreflect.FieldDescriptor, t *cel.Type) bool {
	kind := t.Kind()
	if isDyn(t) || kind == types.TypeParamKind { // the element type of an empty list is a type parameter
		return true
	}
	if fd.Message() != nil {
		return messageAccepts(fd.Message(), t)
	}
	switch fd.Kind() {
	case protoreflect.BoolKind:
		return kind == types.BoolKind
	case protoreflect.StringKind:
		return kind == types.StringKind
	case protoreflect.BytesKind:
		return kind == types.BytesKind
	case protoreflect.EnumKind:
		return kind == types.IntKind || kind == types.StringKind
	case protoreflect.DoubleKind, protoreflect.FloatKind:
		return kind == types.DoubleKind || kind == types.IntKind || kind == types.UintKind
	}
	return kind == types.IntKind || kind == types.UintKind
}

// messageAccepts is accepts for a field of a message type. Values of well-known types have types of CEL's own.
func messageAccepts(md protoreflect.MessageDescriptor, t *cel.Type) bool {
	switch name := wellKnownName(md); name {
	case "":
		return t.Kind() == types.StructKind && t.TypeName() == string(md.FullName())
	case "Any":
		return t.Kind() == types.StructKind
	case "Timestamp":
		return t.Kind() == types.TimestampKind
	case "Duration":
		return t.Kind() == types.DurationKind
	case "Struct":
		return t.Kind() == types.MapKind && acceptsStringKey(t.Parameters()[0])
	case "ListValue":
		return t.Kind() == types.ListKind
	case "Value":
		switch t.Kind() {
		case types.StructKind, types.OpaqueKind, types.TypeKind:
			return false
		}
		return true
	}
	value := md.Fields().ByNumber(1) // md is a wrapper such as google.protobuf.StringValue
	return value != nil && value.Message() == nil && elemAccepts(value, t)
}

// acceptsStringKey reports whether t, the type of a map's keys, may be string.
func acceptsStringKey(t *cel.Type) bool {
	return isDyn(t) || t.Kind() == types.StringKind || t.Kind() == types.TypeParamKind
}

// acceptedType names the type that accepts accepts, for an error message.
func (st *step) acceptedType() string {
	switch {
	case st.single():
		return kindName(st.elem())
	case st.fd.IsMap():
		return fmt.Sprintf("map(%s, %s)", kindName(st.fd.MapKey()), kindName(st.fd.MapValue()))
	case st.fd.IsList():
		return fmt.Sprintf("list(%s)", kindName(st.fd))
	}
	return kindName(st.fd)
}

var errRequired = errors.New("null, want a value: the field is required")
