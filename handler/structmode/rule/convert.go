package rule

import (
	"errors"
	"fmt"
	"math"
	"unicode/utf8"

	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/common/types/traits"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"
)

// fieldValue converts the value of an expression to a value of the field fd. The result refers to nothing that may change.
// It is invalid if the field is to be cleared, because val is null or an absent message.
func (s *schema) fieldValue(fd protoreflect.FieldDescriptor, val ref.Val) (protoreflect.Value, error) {
	var none protoreflect.Value
	switch {
	case !fd.IsMap() && !fd.IsList():
		return s.elemValue(fd, val)
	case val == types.NullValue:
		return none, nil
	case fd.IsMap():
		return s.mapValue(fd, val)
	}
	list, ok := val.(traits.Lister)
	if !ok {
		return none, mismatch(val, "a list")
	}
	out := newField(fd)
	for it := list.Iterator(); it.HasNext() == types.True; {
		v, err := s.elemValue(fd, it.Next())
		if err != nil {
			return none, fmt.Errorf("element %d: %w", out.List().Len(), err)
		}
		if !v.IsValid() {
			return none, fmt.Errorf("element %d: null, want a value", out.List().Len())
		}
		out.List().Append(v)
	}
	return out, nil
}

// newField returns a new list or map for the field.
func newField(fd protoreflect.FieldDescriptor) protoreflect.Value {
	return dynamicpb.NewMessage(fd.ContainingMessage()).NewField(fd)
}

func (s *schema) mapValue(fd protoreflect.FieldDescriptor, val ref.Val) (protoreflect.Value, error) {
	values, ok := val.(traits.Mapper)
	if !ok {
		return protoreflect.Value{}, mismatch(val, "a map")
	}
	out := newField(fd)
	for it := values.Iterator(); it.HasNext() == types.True; {
		key := it.Next()
		k, err := s.elemValue(fd.MapKey(), key)
		if err != nil {
			return protoreflect.Value{}, fmt.Errorf("key %v: %w", key.Value(), err)
		}
		v, err := s.elemValue(fd.MapValue(), values.Get(key))
		if err != nil {
			return protoreflect.Value{}, fmt.Errorf("value of %v: %w", key.Value(), err)
		}
		if !k.IsValid() || !v.IsValid() {
			return protoreflect.Value{}, fmt.Errorf("value of %v: null, want a value", key.Value())
		}
		out.Map().Set(k.MapKey(), v)
	}
	return out, nil
}

// elemValue is fieldValue for a singular field, or for one element of a repeated field.
func (s *schema) elemValue(fd protoreflect.FieldDescriptor, val ref.Val) (protoreflect.Value, error) {
	if err, ok := val.(*types.Err); ok {
		return protoreflect.Value{}, err
	}
	if fd.Message() != nil {
		return s.messageValue(fd.Message(), val)
	}
	if val == types.NullValue {
		return protoreflect.Value{}, nil
	}
	return scalarValue(fd, val)
}

func scalarValue(fd protoreflect.FieldDescriptor, val ref.Val) (protoreflect.Value, error) {
	var none protoreflect.Value
	switch kind := fd.Kind(); kind {
	case protoreflect.BoolKind:
		if b, ok := val.(types.Bool); ok {
			return protoreflect.ValueOfBool(bool(b)), nil
		}
		return none, mismatch(val, "bool")
	case protoreflect.StringKind:
		str, ok := val.(types.String)
		if !ok {
			return none, mismatch(val, "string")
		}
		if !utf8.ValidString(string(str)) {
			return none, errors.New("a string that is not UTF-8, want UTF-8")
		}
		return protoreflect.ValueOfString(string(str)), nil
	case protoreflect.BytesKind:
		if b, ok := val.(types.Bytes); ok {
			return protoreflect.ValueOfBytes(append([]byte{}, b...)), nil
		}
		return none, mismatch(val, "bytes")
	case protoreflect.DoubleKind, protoreflect.FloatKind:
		f, err := floatOf(val)
		if err != nil {
			return none, err
		}
		if kind == protoreflect.DoubleKind {
			return protoreflect.ValueOfFloat64(f), nil
		}
		if math.Abs(f) > math.MaxFloat32 && !math.IsInf(f, 0) {
			return none, fmt.Errorf("%v, want a number that fits into a float", f)
		}
		return protoreflect.ValueOfFloat32(float32(f)), nil
	case protoreflect.EnumKind:
		return enumValue(fd.Enum(), val)
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
		n, err := unsignedOf(val, math.MaxUint32)
		return protoreflect.ValueOfUint32(uint32(n)), err
	case protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		n, err := unsignedOf(val, math.MaxUint64)
		return protoreflect.ValueOfUint64(n), err
	case protoreflect.Int32Kind, protoreflect.Sint32Kind, protoreflect.Sfixed32Kind:
		n, err := signedOf(val, math.MinInt32, math.MaxInt32)
		return protoreflect.ValueOfInt32(int32(n)), err
	}
	n, err := signedOf(val, math.MinInt64, math.MaxInt64)
	return protoreflect.ValueOfInt64(n), err
}

func signedOf(val ref.Val, low, high int64) (int64, error) {
	switch n := val.(type) {
	case types.Int:
		if int64(n) >= low && int64(n) <= high {
			return int64(n), nil
		}
	case types.Uint:
		if uint64(n) <= uint64(high) {
			return int64(n), nil
		}
	default:
		return 0, mismatch(val, "int")
	}
	return 0, fmt.Errorf("%v, want %d to %d", val.Value(), low, high)
}

func unsignedOf(val ref.Val, high uint64) (uint64, error) {
	switch n := val.(type) {
	case types.Int:
		if n >= 0 && uint64(n) <= high {
			return uint64(n), nil
		}
	case types.Uint:
		if uint64(n) <= high {
			return uint64(n), nil
		}
	default:
		return 0, mismatch(val, "uint")
	}
	return 0, fmt.Errorf("%v, want 0 to %d", val.Value(), high)
}

func floatOf(val ref.Val) (float64, error) {
	switch n := val.(type) {
	case types.Double:
		return float64(n), nil
	case types.Int:
		return float64(n), nil
	case types.Uint:
		return float64(n), nil
	}
	return 0, mismatch(val, "double")
}

func enumValue(ed protoreflect.EnumDescriptor, val ref.Val) (protoreflect.Value, error) {
	if name, ok := val.(types.String); ok {
		v := ed.Values().ByName(protoreflect.Name(name))
		if v == nil {
			return protoreflect.Value{}, fmt.Errorf("%.256q, want a value of %s", string(name), ed.FullName())
		}
		return protoreflect.ValueOfEnum(v.Number()), nil
	}
	n, err := signedOf(val, math.MinInt32, math.MaxInt32)
	if err != nil {
		return protoreflect.Value{}, err
	}
	if ed.IsClosed() && ed.Values().ByNumber(protoreflect.EnumNumber(n)) == nil {
		return protoreflect.Value{}, fmt.Errorf("%d, want a value of %s", n, ed.FullName())
	}
	return protoreflect.ValueOfEnum(protoreflect.EnumNumber(n)), nil
}

// messageValue converts val to a new message of type md. The result is invalid if val is null or an absent message.
func (s *schema) messageValue(md protoreflect.MessageDescriptor, val ref.Val) (protoreflect.Value, error) {
	name := wellKnownName(md)
	if val == types.NullValue && name != "Value" {
		return protoreflect.Value{}, nil
	}
	out := dynamicpb.NewMessage(md)
	if name != "" {
		set, err := s.setWellKnown(out, name, val)
		if err != nil || !set {
			return protoreflect.Value{}, err
		}
		return protoreflect.ValueOfMessage(out), nil
	}
	in, ok := val.Value().(proto.Message)
	if !ok || in.ProtoReflect().Descriptor().FullName() != md.FullName() {
		return protoreflect.Value{}, mismatch(val, string(md.FullName()))
	}
	if !in.ProtoReflect().IsValid() {
		return protoreflect.Value{}, nil
	}
	if in.ProtoReflect().Descriptor() == md {
		return protoreflect.ValueOfMessage(proto.Clone(in).ProtoReflect()), nil
	}
	data, err := proto.MarshalOptions{AllowPartial: true}.Marshal(in)
	if err == nil {
		err = unmarshal(data, out, s.dynamic)
	}
	return protoreflect.ValueOfMessage(out), err
}

// mismatch is the error for a value of the wrong type.
func mismatch(val ref.Val, want string) error {
	return fmt.Errorf("a value of type %s, want %s", val.Type().TypeName(), want)
}

// stepValue converts the value of an expression to the type of the field or element that st leads to, for path.set. The
// result is invalid if the field is to be cleared.
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
