package rule

import (
	"math"
	"strings"
	"time"

	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// maxAnyBytes bounds the value of a google.protobuf.Any that an expression may read: it is decoded each time it is read.
const maxAnyBytes = 64 << 10

const wellKnownPackage = "google.protobuf."

// wellKnownName returns the name, without its package, of a type of google.protobuf for which CEL has a type of its own,
// such as Timestamp. It returns "" for all other types.
func wellKnownName(md protoreflect.MessageDescriptor) string {
	name, ok := strings.CutPrefix(string(md.FullName()), wellKnownPackage)
	if !ok {
		return ""
	}
	switch name {
	case "Any", "Duration", "Timestamp", "Struct", "Value", "ListValue",
		"BoolValue", "BytesValue", "DoubleValue", "FloatValue", "Int32Value", "Int64Value", "StringValue",
		"UInt32Value", "UInt64Value":
		return name
	}
	return ""
}

func isWellKnown(md protoreflect.MessageDescriptor) bool { return wellKnownName(md) != "" }

// fieldOf returns the field of a well-known type that has the number and the kind, or nil if the schema's type of that name
// has no such field.
func fieldOf(
	md protoreflect.MessageDescriptor, n protoreflect.FieldNumber, k protoreflect.Kind,
) protoreflect.FieldDescriptor {
	fd := md.Fields().ByNumber(n)
	if fd == nil || fd.Kind() != k || fd.Cardinality() == protoreflect.Repeated {
		return nil
	}
	return fd
}

// The range of a Timestamp, as in timestamp.proto, and of a Duration, which is the part of the range in duration.proto that
// fits into a time.Duration.
const (
	minTimestamp = -62135596800 // 0001-01-01T00:00:00Z
	maxTimestamp = 253402300799 // 9999-12-31T23:59:59Z
	maxDuration  = int64(math.MaxInt64/time.Second) - 1
	maxNanos     = 999_999_999
)

// notKnown is errNotKnown as a value of CEL.
func notKnown(md protoreflect.MessageDescriptor) ref.Val {
	return types.NewErr("the schema's %s does not have the fields that it should have", md.FullName())
}

// wellKnown returns a message of a well-known type as a value of CEL. It returns null for a wrapper, a Value or an Any that
// is absent. The value refers to the message, except that of an Any, which is decoded.
func (s *schema) wellKnown(m protoreflect.Message) ref.Val {
	md := m.Descriptor()
	switch name := wellKnownName(md); name {
	case "Any":
		return s.openAny(m)
	case "Timestamp", "Duration":
		seconds, nanos := fieldOf(md, 1, protoreflect.Int64Kind), fieldOf(md, 2, protoreflect.Int32Kind)
		if seconds == nil || nanos == nil {
			return notKnown(md)
		}
		sec, nano := m.Get(seconds).Int(), m.Get(nanos).Int()
		if name == "Timestamp" {
			if sec < minTimestamp || sec > maxTimestamp || nano < 0 || nano > maxNanos {
				return types.NewErr("a google.protobuf.Timestamp of %d seconds and %d nanoseconds is out of range", sec, nano)
			}
			return types.Timestamp{Time: time.Unix(sec, nano).UTC()}
		}
		if sec < -maxDuration || sec > maxDuration || nano < -maxNanos || nano > maxNanos {
			return types.NewErr("a google.protobuf.Duration of %d seconds and %d nanoseconds is out of range", sec, nano)
		}
		return types.Duration{Duration: time.Duration(sec)*time.Second + time.Duration(nano)}
	case "Struct":
		fields := md.Fields().ByNumber(1)
		if fields == nil || !fields.IsMap() || fields.MapKey().Kind() != protoreflect.StringKind {
			return notKnown(md)
		}
		return types.NewProtoMap(s, s.mapOf(m.Get(fields).Map(), fields))
	case "ListValue":
		values := md.Fields().ByNumber(1)
		if values == nil || !values.IsList() {
			return notKnown(md)
		}
		return newList(s, m.Get(values).List())
	case "Value":
		return s.jsonValue(m)
	}
	if !m.IsValid() {
		return types.NullValue // an absent wrapper
	}
	value := md.Fields().ByNumber(1)
	if value == nil || value.Cardinality() == protoreflect.Repeated || value.Message() != nil {
		return notKnown(md)
	}
	return s.NativeToValue(m.Get(value).Interface())
}

// jsonValue returns a google.protobuf.Value as a value of CEL.
func (s *schema) jsonValue(m protoreflect.Message) ref.Val {
	md := m.Descriptor()
	if md.Oneofs().Len() != 1 {
		return notKnown(md)
	}
	fd := m.WhichOneof(md.Oneofs().Get(0))
	if fd == nil || fd.Kind() == protoreflect.EnumKind {
		return types.NullValue
	}
	return s.NativeToValue(m.Get(fd).Interface())
}

// openAny decodes the message in a google.protobuf.Any, whose type must be in the schema.
func (s *schema) openAny(m protoreflect.Message) ref.Val {
	md := m.Descriptor()
	urlField, valueField := fieldOf(md, 1, protoreflect.StringKind), fieldOf(md, 2, protoreflect.BytesKind)
	if urlField == nil || valueField == nil {
		return notKnown(md)
	}
	url, value := m.Get(urlField).String(), m.Get(valueField).Bytes()
	if url == "" {
		return types.NullValue
	}
	if len(value) > maxAnyBytes {
		return types.NewErr("a google.protobuf.Any of %d bytes, want at most %d to look into it", len(value), maxAnyBytes)
	}
	typ, err := s.dynamic.FindMessageByURL(url)
	if err != nil {
		return types.NewErr("a google.protobuf.Any of type %.256q, want a type of the schema", url)
	}
	inner := typ.New()
	if err := unmarshal(value, inner, s.dynamic); err != nil {
		return types.NewErr("a google.protobuf.Any of type %.256q: %v", url, err)
	}
	return s.NativeToValue(inner)
}
