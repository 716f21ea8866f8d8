package rule

import (
	"fmt"
	"strings"

	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/pb"
	"github.com/google/cel-go/common/types/ref"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/dynamicpb"
)

// schema is the types.Provider and types.Adapter for the messages of one schema. It never uses Go's global registry of
// types, which may have files and types with the same names as the schema: cel-go's own provider would use those. It is
// immutable once it is made.
type schema struct {
	types.Provider               // for types that are not in files: CEL's own, and well-known types that the files do not import
	base           types.Adapter // for values that are not messages of files

	files    *protoregistry.Files
	dynamic  *dynamicpb.Types
	celTypes map[protoreflect.FullName]*types.Type      // the types of messages, as values of CEL
	mapKeys  map[protoreflect.Kind]*pb.FieldDescription // cel-go's descriptions of keys of maps
}

var (
	_ types.Provider = (*schema)(nil)
	_ types.Adapter  = (*schema)(nil)
)

func newSchema(files *protoregistry.Files, provider types.Provider, adapter types.Adapter) (*schema, error) {
	s := &schema{
		Provider: provider, base: adapter, files: files, dynamic: dynamicpb.NewTypes(files),
		celTypes: map[protoreflect.FullName]*types.Type{}, mapKeys: map[protoreflect.Kind]*pb.FieldDescription{},
	}
	files.RangeFiles(func(fd protoreflect.FileDescriptor) bool {
		s.addTypes(fd.Messages())
		return true
	})
	for name, kinds := range map[string][]protoreflect.Kind{
		"BoolValue":   {protoreflect.BoolKind},
		"StringValue": {protoreflect.StringKind},
		"Int32Value":  {protoreflect.Int32Kind, protoreflect.Sint32Kind, protoreflect.Sfixed32Kind},
		"Int64Value":  {protoreflect.Int64Kind, protoreflect.Sint64Kind, protoreflect.Sfixed64Kind},
		"UInt32Value": {protoreflect.Uint32Kind, protoreflect.Fixed32Kind},
		"UInt64Value": {protoreflect.Uint64Kind, protoreflect.Fixed64Kind},
	} { // only cel-go can make a FieldDescription: those of the wrappers serve for keys of the same kind
		t, ok := pb.DefaultDb.DescribeType("google.protobuf." + name)
		if !ok {
			return nil, fmt.Errorf("cel has no google.protobuf.%s", name)
		}
		f, ok := t.FieldByName("value")
		if !ok {
			return nil, fmt.Errorf("cel's google.protobuf.%s has no value", name)
		}
		for _, k := range kinds {
			s.mapKeys[k] = f
		}
	}
	return s, nil
}

// addTypes adds the types of messages, and of the messages in them, to celTypes.
func (s *schema) addTypes(messages protoreflect.MessageDescriptors) {
	for i := range messages.Len() {
		md := messages.Get(i)
		s.celTypes[md.FullName()] = types.NewObjectType(string(md.FullName()))
		s.addTypes(md.Messages())
	}
}

// messageType returns the type of messages with a name that an expression uses.
func (s *schema) messageType(name string) (protoreflect.MessageDescriptor, bool) {
	d, err := s.files.FindDescriptorByName(protoreflect.FullName(strings.TrimPrefix(name, ".")))
	if err != nil {
		return nil, false
	}
	md, ok := d.(protoreflect.MessageDescriptor)
	return md, ok && !md.IsMapEntry()
}

// EnumValue implements types.Provider.
func (s *schema) EnumValue(name string) ref.Val {
	if n, ok := s.enumValue(name); ok {
		return types.Int(n)
	}
	return s.Provider.EnumValue(name)
}

// enumValue returns the number of an enum value, by its name in CEL, pkg.Enum.VALUE. (Its name in protobuf is pkg.VALUE.)
func (s *schema) enumValue(name string) (protoreflect.EnumNumber, bool) {
	i := strings.LastIndexByte(name, '.')
	if i < 0 {
		return 0, false
	}
	d, err := s.files.FindDescriptorByName(protoreflect.FullName(strings.TrimPrefix(name[:i], ".")))
	if err != nil {
		return 0, false
	}
	ed, ok := d.(protoreflect.EnumDescriptor)
	if !ok {
		return 0, false
	}
	v := ed.Values().ByName(protoreflect.Name(name[i+1:]))
	if v == nil {
		return 0, false
	}
	return v.Number(), true
}

// FindIdent implements types.Provider.
func (s *schema) FindIdent(name string) (ref.Val, bool) {
	if n, ok := s.enumValue(name); ok {
		return types.Int(n), true
	}
	if md, ok := s.messageType(name); ok {
		return s.typeOf(md), true
	}
	return s.Provider.FindIdent(name)
}

// typeOf returns the type of messages of type md, as a value of CEL.
func (s *schema) typeOf(md protoreflect.MessageDescriptor) *types.Type {
	if t, ok := s.celTypes[md.FullName()]; ok {
		return t
	}
	return types.NewObjectType(string(md.FullName()))
}

// FindStructType implements types.Provider.
func (s *schema) FindStructType(name string) (*types.Type, bool) {
	if md, ok := s.messageType(name); ok {
		return types.NewTypeTypeWithParam(types.NewObjectType(string(md.FullName()))), true
	}
	return s.Provider.FindStructType(name)
}

// FindStructFieldNames implements types.Provider.
func (s *schema) FindStructFieldNames(name string) ([]string, bool) {
	md, ok := s.messageType(name)
	if !ok {
		return s.Provider.FindStructFieldNames(name)
	}
	names := make([]string, md.Fields().Len())
	for i := range names {
		names[i] = string(md.Fields().Get(i).Name())
	}
	return names, true
}

// FindStructFieldType implements types.Provider.
func (s *schema) FindStructFieldType(name, field string) (*types.FieldType, bool) {
	md, ok := s.messageType(name)
	if !ok {
		return s.Provider.FindStructFieldType(name, field)
	}
	fd := md.Fields().ByName(protoreflect.Name(field))
	if fd == nil {
		return nil, false
	}
	return &types.FieldType{
		Type:    celType(fd),
		IsSet:   func(target any) bool { return s.isSet(target, fd) },
		GetFrom: func(target any) (any, error) { return s.getFrom(target, fd) },
	}, true
}

// celType returns the type of a field's value.
func celType(fd protoreflect.FieldDescriptor) *types.Type {
	switch {
	case fd.IsMap():
		return types.NewMapType(celElemType(fd.MapKey()), celElemType(fd.MapValue()))
	case fd.IsList():
		return types.NewListType(celElemType(fd))
	}
	return celElemType(fd)
}

// celElemType returns the type of the value of a singular field, or of one element of a repeated field.
func celElemType(fd protoreflect.FieldDescriptor) *types.Type {
	switch fd.Kind() {
	case protoreflect.MessageKind, protoreflect.GroupKind:
		return types.NewObjectType(string(fd.Message().FullName()))
	case protoreflect.EnumKind:
		return types.IntType
	}
	return types.ProtoCELPrimitives[fd.Kind()]
}

// reflectOf returns target as a message, with its field that corresponds to fd: the descriptor of target may be another one
// of the same name, when the message came from another registry. The field is nil if target is no message or has no such
// field.
func reflectOf(target any, fd protoreflect.FieldDescriptor) (protoreflect.Message, protoreflect.FieldDescriptor) {
	v, ok := target.(proto.Message)
	if !ok {
		return nil, nil
	}
	m := v.ProtoReflect()
	if md := m.Descriptor(); md != fd.ContainingMessage() {
		fd = md.Fields().ByName(fd.Name())
	}
	return m, fd
}

// isSet reports whether target, a message, has the field fd.
func (s *schema) isSet(target any, fd protoreflect.FieldDescriptor) bool {
	m, fd := reflectOf(target, fd)
	return fd != nil && m.Has(fd)
}

// getFrom returns the value of a field of target, for CEL. The value of a message field is the message itself, which the
// next selection reads without a wrapper.
func (s *schema) getFrom(target any, fd protoreflect.FieldDescriptor) (any, error) {
	m, fd := reflectOf(target, fd)
	if fd == nil {
		return nil, fmt.Errorf("a value of type %T has no such field", target)
	}
	v := m.Get(fd)
	switch {
	case fd.IsMap():
		return s.mapOf(v.Map(), fd), nil
	case fd.IsList():
		return v.List(), nil
	}
	switch fd.Kind() {
	case protoreflect.StringKind:
		return types.String(v.String()), nil
	case protoreflect.BoolKind:
		return types.Bool(v.Bool()), nil
	case protoreflect.EnumKind:
		return types.Int(v.Enum()), nil
	case protoreflect.MessageKind, protoreflect.GroupKind:
		if isWellKnown(fd.Message()) {
			return s.wellKnown(v.Message()), nil
		}
		return v.Message().Interface(), nil
	}
	return v.Interface(), nil
}

// mapOf returns a map field as cel-go's type for it.
func (s *schema) mapOf(m protoreflect.Map, fd protoreflect.FieldDescriptor) *pb.Map {
	key := s.mapKeys[fd.MapKey().Kind()]
	return &pb.Map{Map: m, KeyType: key, ValueType: key}
}

// NewValue implements types.Provider. It returns the message of an expression such as pkg.Type{field: value}.
func (s *schema) NewValue(name string, fields map[string]ref.Val) ref.Val {
	md, ok := s.messageType(name)
	if !ok {
		return s.Provider.NewValue(name, fields)
	}
	m := dynamicpb.NewMessage(md)
	for field, val := range fields {
		fd := md.Fields().ByName(protoreflect.Name(field))
		if fd == nil {
			return types.NewErr("no such field: %s", field)
		}
		v, err := s.fieldValue(fd, val)
		if err != nil {
			return types.NewErr("%s.%s: %v", md.FullName(), field, err)
		}
		if v.IsValid() {
			m.Set(fd, v)
		}
	}
	return s.NativeToValue(m)
}

// NativeToValue implements types.Adapter.
func (s *schema) NativeToValue(value any) ref.Val {
	switch v := value.(type) {
	case ref.Val:
		return v
	case string:
		return types.String(v)
	case int64:
		return types.Int(v)
	case proto.Message:
		return s.message(v.ProtoReflect())
	case protoreflect.Message:
		return s.message(v)
	case protoreflect.List:
		return newList(s, v)
	case *pb.Map:
		return types.NewProtoMap(s, v)
	case protoreflect.EnumNumber:
		return types.Int(v)
	case protoreflect.Value:
		return s.NativeToValue(v.Interface())
	}
	return s.base.NativeToValue(value)
}

// message returns a message as a value of CEL.
func (s *schema) message(m protoreflect.Message) ref.Val {
	if isWellKnown(m.Descriptor()) {
		return s.wellKnown(m)
	}
	return &object{schema: s, message: m}
}
