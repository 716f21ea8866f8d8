package rule

import (
	"errors"
	"fmt"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"google.golang.org/protobuf/reflect/protoreflect"
)

func isDyn(t *cel.Type) bool { return t.Kind() == types.DynKind || t.Kind() == types.AnyKind }

// takes reports whether a value of type t may be given to what the step leads to. What a dyn is is seen at run time.
func (st *step) takes(t *cel.Type) bool {
	if isDyn(t) || t.Kind() == types.NullTypeKind {
		return true
	}
	switch {
	case st.single():
		return elemTakes(st.elem(), t)
	case st.fd.IsMap():
		return t.Kind() == types.MapKind && elemTakes(st.fd.MapKey(), t.Parameters()[0]) &&
			elemTakes(st.fd.MapValue(), t.Parameters()[1])
	case st.fd.IsList():
		return t.Kind() == types.ListKind && elemTakes(st.fd, t.Parameters()[0])
	}
	return elemTakes(st.fd, t)
}

func elemTakes(fd protoreflect.FieldDescriptor, t *cel.Type) bool {
	kind := t.Kind()
	if isDyn(t) || kind == types.TypeParamKind { // the type of an element of []
		return true
	}
	if fd.Message() != nil {
		return messageTakes(fd.Message(), t)
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

func messageTakes(md protoreflect.MessageDescriptor, t *cel.Type) bool {
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
		return t.Kind() == types.MapKind && keyIsText(t.Parameters()[0])
	case "ListValue":
		return t.Kind() == types.ListKind
	case "Value":
		switch t.Kind() {
		case types.StructKind, types.OpaqueKind, types.TypeKind:
			return false
		}
		return true
	}
	value := md.Fields().ByNumber(1) // of a wrapper
	return value != nil && value.Message() == nil && elemTakes(value, t)
}

func keyIsText(t *cel.Type) bool {
	return isDyn(t) || t.Kind() == types.StringKind || t.Kind() == types.TypeParamKind
}

// wants says for people what takes takes.
func (st *step) wants() string {
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

// stepValue converts the value of an expression to one that path.set gives to what st leads to.
func (s *schema) stepValue(st *step, val ref.Val) (v protoreflect.Value, err error) {
	if st.single() {
		v, err = s.elemValue(st.elem(), val)
	} else {
		v, err = s.fieldValue(st.fd, val)
	}
	if err == nil && !v.IsValid() && st.fd.Cardinality() == protoreflect.Required {
		err = errRequired
	}
	return v, err
}
