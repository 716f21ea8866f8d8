package rule

import (
	"encoding/base64"
	"errors"
	"fmt"
	"time"

	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/common/types/traits"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// maxJSONDepth bounds the nesting of a value that an expression assigns to a google.protobuf.Struct, Value or ListValue.
const maxJSONDepth = 32

// setWellKnown sets m, a new message of the well-known type called name, to val. It returns false if val stands for no
// message.
func (s *schema) setWellKnown(m protoreflect.Message, name string, val ref.Val) (bool, error) {
	md := m.Descriptor()
	switch name {
	case "Timestamp":
		t, ok := val.(types.Timestamp)
		if !ok {
			return false, mismatch(val, "timestamp")
		}
		return true, setSeconds(m, t.Unix(), int32(t.Nanosecond()))
	case "Duration":
		d, ok := val.(types.Duration)
		if !ok {
			return false, mismatch(val, "duration")
		}
		return true, setSeconds(m, int64(d.Duration/time.Second), int32(d.Duration%time.Second))
	case "Any":
		return s.setAny(m, val)
	case "Struct", "Value", "ListValue":
		return true, s.setJSON(m, name, val, 0)
	}
	fd := md.Fields().ByNumber(1)
	if fd == nil || fd.Cardinality() == protoreflect.Repeated || fd.Message() != nil {
		return false, errNotKnown(md)
	}
	v, err := scalarValue(fd, val)
	if err != nil {
		return false, err
	}
	m.Set(fd, v)
	return true, nil
}

// errNotKnown is the error for a message type of the schema that has the name of a well-known type, but other fields.
func errNotKnown(md protoreflect.MessageDescriptor) error {
	return fmt.Errorf("the schema's %s does not have the fields that it should have", md.FullName())
}

func setSeconds(m protoreflect.Message, sec int64, nanos int32) error {
	secField := fieldOf(m.Descriptor(), 1, protoreflect.Int64Kind)
	nanoField := fieldOf(m.Descriptor(), 2, protoreflect.Int32Kind)
	if secField == nil || nanoField == nil {
		return errNotKnown(m.Descriptor())
	}
	m.Set(secField, protoreflect.ValueOfInt64(sec))
	m.Set(nanoField, protoreflect.ValueOfInt32(nanos))
	return nil
}

func (s *schema) setAny(m protoreflect.Message, val ref.Val) (bool, error) {
	urlField := fieldOf(m.Descriptor(), 1, protoreflect.StringKind)
	valueField := fieldOf(m.Descriptor(), 2, protoreflect.BytesKind)
	if urlField == nil || valueField == nil {
		return false, errNotKnown(m.Descriptor())
	}
	in, ok := val.Value().(proto.Message)
	if !ok {
		return false, mismatch(val, "a message")
	}
	if !in.ProtoReflect().IsValid() {
		return false, nil
	}
	data, err := proto.MarshalOptions{AllowPartial: true}.Marshal(in)
	if err != nil {
		return false, err
	}
	m.Set(urlField, protoreflect.ValueOfString("type.googleapis.com/"+string(in.ProtoReflect().Descriptor().FullName())))
	m.Set(valueField, protoreflect.ValueOfBytes(data))
	return true, nil
}

// setJSON sets a Struct, a Value or a ListValue, whose name is given, to val.
func (s *schema) setJSON(m protoreflect.Message, name string, val ref.Val, depth int) error {
	if err, ok := val.(*types.Err); ok {
		return err
	}
	if depth > maxJSONDepth {
		return fmt.Errorf("a value that nests more than %d deep, want at most that", maxJSONDepth)
	}
	md := m.Descriptor()
	switch name {
	case "Value":
		return s.setJSONValue(m, val, depth)
	case "ListValue":
		list, ok := val.(traits.Lister)
		if !ok {
			return mismatch(val, "a list")
		}
		values := md.Fields().ByNumber(1)
		if values == nil || !values.IsList() || values.Message() == nil {
			return errNotKnown(md)
		}
		out := m.Mutable(values).List()
		for it := list.Iterator(); it.HasNext() == types.True; {
			if err := s.setJSON(out.AppendMutable().Message(), "Value", it.Next(), depth+1); err != nil {
				return err
			}
		}
		return nil
	}
	entries, ok := val.(traits.Mapper)
	if !ok {
		return mismatch(val, "a map")
	}
	fields := md.Fields().ByNumber(1)
	if fields == nil || !fields.IsMap() || fields.MapKey().Kind() != protoreflect.StringKind ||
		fields.MapValue().Message() == nil {
		return errNotKnown(md)
	}
	out := m.Mutable(fields).Map()
	for it := entries.Iterator(); it.HasNext() == types.True; {
		key := it.Next()
		k, err := scalarValue(fields.MapKey(), key)
		if err != nil {
			return fmt.Errorf("key %v: %w", key.Value(), err)
		}
		if err := s.setJSON(out.Mutable(k.MapKey()).Message(), "Value", entries.Get(key), depth+1); err != nil {
			return err
		}
	}
	return nil
}

func (s *schema) setJSONValue(m protoreflect.Message, val ref.Val, depth int) error {
	fields := m.Descriptor().Fields()
	for i, kind := range []protoreflect.Kind{
		protoreflect.EnumKind, protoreflect.DoubleKind, protoreflect.StringKind, protoreflect.BoolKind,
		protoreflect.MessageKind, protoreflect.MessageKind,
	} { // the kinds of fields 1 to 6 in google/protobuf/struct.proto
		fd := fields.ByNumber(protoreflect.FieldNumber(i + 1))
		if fd == nil || fd.Kind() != kind || fd.IsList() || fd.IsMap() {
			return errNotKnown(m.Descriptor())
		}
	}
	switch v := val.(type) {
	case types.Null:
		m.Set(fields.ByNumber(1), protoreflect.ValueOfEnum(0))
	case types.Double, types.Int, types.Uint:
		f, err := floatOf(v)
		if err != nil {
			return err
		}
		m.Set(fields.ByNumber(2), protoreflect.ValueOfFloat64(f))
	case types.String:
		str, err := scalarValue(fields.ByNumber(3), v)
		if err != nil {
			return err
		}
		m.Set(fields.ByNumber(3), str)
	case types.Bytes: // this case and the next one convert as ProtoJSON does
		m.Set(fields.ByNumber(3), protoreflect.ValueOfString(base64.StdEncoding.EncodeToString(v)))
	case types.Timestamp, types.Duration:
		str, ok := v.ConvertToType(types.StringType).(types.String)
		if !ok {
			return errors.New("a time that cannot be written as text")
		}
		m.Set(fields.ByNumber(3), protoreflect.ValueOfString(string(str)))
	case types.Bool:
		m.Set(fields.ByNumber(4), protoreflect.ValueOfBool(bool(v)))
	case traits.Mapper:
		return s.setJSON(m.Mutable(fields.ByNumber(5)).Message(), "Struct", v, depth+1)
	case traits.Lister:
		return s.setJSON(m.Mutable(fields.ByNumber(6)).Message(), "ListValue", v, depth+1)
	default:
		return mismatch(val, "null, a number, text, a bool, a list or a map")
	}
	return nil
}
