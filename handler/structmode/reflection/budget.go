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

// What an endpoint may send for one Fetch. The largest public schemas stay far below.
const (
	MaxFiles    = 1024    // files, and so requests
	MaxBytes    = 8 << 20 // bytes of all answers
	MaxElements = 1 << 17 // messages and list elements in all answers
	MaxDepth    = 64      // messages inside one another, in an answer

	// MaxNameBytes bounds the full names of all declarations together: a name is repeated in each one inside it.
	MaxNameBytes = 32 << 20

	// MaxImportSteps bounds the walks from each file through the public imports of its imports. A few files that import
	// each other's imports publicly can have more of these paths than anybody can follow.
	MaxImportSteps = 1 << 22
)

// elementBytes is what a message or list element may become in memory.
const elementBytes = 1 << 10

// budget counts what an endpoint has sent. The zero budget is full.
type budget struct {
	files, bytes, elements, nameBytes, importSteps int

	taker Taker // nil for no bound but those of one endpoint
}

// take is asked before n bytes of memory are taken.
func (b *budget) take(n int) error {
	if b.taker == nil {
		return nil
	}
	return b.taker.Take(int64(n))
}

// spend adds n to a counter of b and refuses to pass max.
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

// parseFile unmarshals a file of an answer, whose bytes have been counted. Custom options stay unknown fields, so that
// the schemas that happen to be linked into framegate do not change what a file means. Its source_code_info is passed
// over: it can be larger than all the rest, and nobody reads it.
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

// countElements walks the fields of msg, a d, before they are unmarshalled, and takes no memory for them.
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

// consume reads the first field of msg: its number and type, the length of all of it, and its value, which is a part
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

// withoutField returns msg without the fields of a number. It does not change msg.
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

// countNames counts the full names that the declarations of f will have.
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

// messageNames returns the length of the full names of m and of what it declares, in a scope whose name has scope
// bytes. It cannot overflow: it is at most MaxElements times MaxBytes.
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
