package reflection

import (
	"errors"
	"fmt"

	reflectionpb "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
)

// Bounds of what an endpoint may send for one Fetch. The largest public schemas stay far below.
const (
	MaxFiles    = 1024    // files, and so requests
	MaxBytes    = 8 << 20 // bytes of all answers
	MaxElements = 1 << 17 // messages and list elements in all answers
	MaxDepth    = 64      // depth of nested messages in an answer

	// MaxNameBytes bounds the sum of the lengths of the full names of all declarations: the full name of a declaration
	// contains the names of all declarations around it.
	MaxNameBytes = 32 << 20

	// MaxImportSteps bounds the steps of walks through public imports, which linking takes along every path. The number of
	// paths may grow exponentially with the number of files.
	MaxImportSteps = 1 << 22
)

// elementBytes bounds the memory of a decoded message or list element, besides its bytes.
const elementBytes = 1 << 10

// budget counts what an endpoint has sent, against the bounds above. The zero budget has counted nothing.
type budget struct {
	files, bytes, elements, nameBytes, importSteps int

	taker Taker // may be nil
}

// take is called before n bytes of memory are allocated; see Taker.
func (b *budget) take(n int) error {
	if b.taker == nil {
		return nil
	}
	return b.taker.Take(int64(n))
}

// spend adds n to a counter, or returns a LimitError if it would exceed max.
func spend(counter *int, n, max int, what string) error {
	if n > max-*counter {
		return &LimitError{What: what, Max: max}
	}
	*counter += n
	return nil
}

var errMalformed = errors.New("malformed protobuf")

// parseAnswer unmarshals an answer.
func (b *budget) parseAnswer(msg []byte) (*reflectionpb.ServerReflectionResponse, error) {
	if err := spend(&b.bytes, len(msg), MaxBytes, "bytes of answers"); err != nil {
		return nil, err
	}
	m := &reflectionpb.ServerReflectionResponse{}
	return m, b.parse(msg, m)
}

// parseFile unmarshals a file of an answer, whose bytes have been counted. Custom options stay unknown fields, so that the
// result does not depend on the schemas that are linked into framegate. The source_code_info is left out, because it is not
// used and may be larger than the rest of the file.
func (b *budget) parseFile(raw []byte) (*descriptorpb.FileDescriptorProto, error) {
	if err := spend(&b.files, 1, MaxFiles, "files"); err != nil {
		return nil, err
	}
	f := &descriptorpb.FileDescriptorProto{}
	raw, err := withoutField(raw, f.ProtoReflect().Descriptor().Fields().ByName("source_code_info").Number())
	if err != nil {
		return nil, err
	}
	if err := b.parse(raw, f); err != nil {
		return nil, err
	}
	return f, b.countNames(f)
}

// parse unmarshals msg into m, after it has counted the elements of msg.
func (b *budget) parse(msg []byte, m proto.Message) error {
	before := b.elements
	if err := b.countElements(msg, m.ProtoReflect().Descriptor(), MaxDepth); err != nil {
		return err
	}
	if err := b.take(len(msg) + elementBytes*(b.elements-before)); err != nil {
		return err
	}
	opts := proto.UnmarshalOptions{Resolver: &protoregistry.Types{}, RecursionLimit: MaxDepth + 1}
	if err := opts.Unmarshal(msg, m); err != nil {
		return fmt.Errorf("%w: %w", errMalformed, err)
	}
	return nil
}

// countElements counts the messages and list elements in msg, the encoding of a message of type d. It runs before msg is
// unmarshalled, and allocates nothing. depth is how deep messages may still be nested.
func (b *budget) countElements(msg []byte, d protoreflect.MessageDescriptor, depth int) error {
	if depth == 0 {
		return &LimitError{What: "messages inside one another", Max: MaxDepth}
	}
	for len(msg) > 0 {
		num, typ, whole, value, err := consume(msg)
		if err != nil {
			return err
		}
		msg = msg[whole:]
		f := d.Fields().ByNumber(num)
		if f == nil || !f.IsList() && f.Message() == nil {
			continue
		}
		if err := spend(&b.elements, 1, MaxElements, "messages and list elements"); err != nil {
			return err
		}
		if f.Message() != nil && typ == protowire.BytesType {
			inner, _ := protowire.ConsumeBytes(value)
			if err := b.countElements(inner, f.Message(), depth-1); err != nil {
				return err
			}
		}
	}
	return nil
}

// consume returns the number, the wire type, the whole length and the value of the first field of msg. The value is a part
// of msg.
func consume(msg []byte) (protowire.Number, protowire.Type, int, []byte, error) {
	num, typ, tag := protowire.ConsumeTag(msg)
	if tag < 0 {
		return 0, 0, 0, nil, fmt.Errorf("%w: %w", errMalformed, protowire.ParseError(tag))
	}
	n := protowire.ConsumeFieldValue(num, typ, msg[tag:])
	if n < 0 {
		return 0, 0, 0, nil, fmt.Errorf("%w: %w", errMalformed, protowire.ParseError(n))
	}
	return num, typ, tag + n, msg[tag : tag+n], nil
}

// withoutField returns a copy of msg without the fields that have the number.
func withoutField(msg []byte, number protowire.Number) ([]byte, error) {
	kept := make([]byte, 0, len(msg))
	for len(msg) > 0 {
		num, _, whole, _, err := consume(msg)
		if err != nil {
			return nil, err
		}
		if num != number {
			kept = append(kept, msg[:whole]...)
		}
		msg = msg[whole:]
	}
	return kept, nil
}

// countNames counts the lengths of the full names of all declarations in f.
func (b *budget) countNames(f *descriptorpb.FileDescriptorProto) error {
	scope := len(f.GetPackage())
	n := scope
	for _, m := range f.GetMessageType() {
		n += messageNames(m, scope)
	}
	n += enumNames(f.GetEnumType(), scope)
	n += names(f.GetExtension(), scope)
	n += names(f.GetService(), scope)
	for _, s := range f.GetService() {
		n += names(s.GetMethod(), scope+1+len(s.GetName()))
	}
	if err := spend(&b.nameBytes, n, MaxNameBytes, "bytes of full names"); err != nil {
		return err
	}
	return b.take(n)
}

// messageNames returns the sum of the lengths of the full names of m and of the declarations in it. The name of the scope
// around m has scope bytes. The result cannot overflow, because it is at most MaxElements times MaxBytes.
func messageNames(m *descriptorpb.DescriptorProto, scope int) int {
	scope += 1 + len(m.GetName())
	n := scope
	for _, inner := range m.GetNestedType() {
		n += messageNames(inner, scope)
	}
	n += enumNames(m.GetEnumType(), scope)
	n += names(m.GetField(), scope) + names(m.GetExtension(), scope) + names(m.GetOneofDecl(), scope)
	return n
}

func enumNames(enums []*descriptorpb.EnumDescriptorProto, scope int) int {
	n := names(enums, scope)
	for _, e := range enums {
		n += names(e.GetValue(), scope) // an enum's values are in the scope around it
	}
	return n
}

func names[D interface{ GetName() string }](list []D, scope int) int {
	n := 0
	for _, d := range list {
		n += scope + 1 + len(d.GetName())
	}
	return n
}
