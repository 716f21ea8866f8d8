package rule

import (
	"errors"
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"
)

// Two bytes of the wire may make a message, and one an element of a packed list. So a bound on the encoding is none on
// the memory that its message takes, which is estimated before it is taken.
const (
	// MaxMemory is how much memory a decoded message may take beside the bytes of its texts, as it is estimated: small
	// ones may take MinMemory and MemoryPerByte for each byte of their encoding.
	MaxMemory     = 256 << 20
	MinMemory     = 8 << 20
	MemoryPerByte = 40

	messageWeight = 256 // of a message or a map's entry
	valueWeight   = 32  // of every other field, and of an element of a packed list
)

// An encoding of at most SmallBytes is not looked at: its message takes at most SmallGrowth times as many, since two bytes
// may make a message.
const (
	SmallBytes  = 4 << 10
	SmallGrowth = messageWeight / 2
)

// MaxNesting is how many messages may lie in each other. Other implementations than Go's stop at 100; a group in a group
// takes time that grows with both.
const MaxNesting = 256

// ErrTooLarge means that a message would take more memory than it may. It is wrapped.
var ErrTooLarge = errors.New("message takes too much memory when decoded")

var errMalformed = errors.New("not in the wire format of its type")

// weigh returns how much memory the message with this encoding may take, at most, or an error if it would be too much. An
// encoding that is malformed may pass: what decodes it says so. A small one is not looked at.
func weigh(data []byte, md protoreflect.MessageDescriptor, types *dynamicpb.Types) (int, error) {
	if len(data) <= SmallBytes {
		return SmallGrowth * len(data), nil
	}
	s := scale{left: memoryFor(len(data)), types: types}
	if err := s.message(data, md, 0); errors.Is(err, ErrTooLarge) {
		return 0, fmt.Errorf("%w: more than %d bytes", err, memoryFor(len(data)))
	}
	return memoryFor(len(data)) - s.left, nil
}

// memoryFor returns how much memory the message of an encoding of n bytes may take.
func memoryFor(n int) int { return min(MaxMemory, MinMemory+MemoryPerByte*n) }

type scale struct {
	left  int
	types *dynamicpb.Types // of extensions
	known map[extension]protoreflect.FieldDescriptor
}

type extension struct {
	of  protoreflect.FullName
	num protowire.Number
}

// extension returns the extension of a message that has the number, or nil.
func (s *scale) extension(of protoreflect.FullName, num protowire.Number) protoreflect.FieldDescriptor {
	key := extension{of, num}
	fd, ok := s.known[key]
	if !ok {
		if x, err := s.types.FindExtensionByNumber(of, num); err == nil {
			fd = x.TypeDescriptor()
		}
		if s.known == nil {
			s.known = map[extension]protoreflect.FieldDescriptor{}
		}
		if len(s.known) < maxKnownExtensions {
			s.known[key] = fd
		}
	}
	return fd
}

// maxKnownExtensions bounds the extensions that are remembered; a message may name any number of those that do not exist.
const maxKnownExtensions = 1000

func (s *scale) add(weight int) error {
	if s.left -= weight; s.left < 0 {
		return ErrTooLarge
	}
	return nil
}

func (s *scale) message(data []byte, md protoreflect.MessageDescriptor, depth int) error {
	if depth > MaxNesting {
		return errMalformed
	}
	fields := md.Fields()
	for len(data) > 0 {
		num, typ, n := protowire.ConsumeTag(data)
		if n < 0 {
			return errMalformed
		}
		data = data[n:]
		size := protowire.ConsumeFieldValue(num, typ, data)
		if size < 0 {
			return errMalformed
		}
		fd := fields.ByNumber(num)
		if fd == nil && md.ExtensionRanges().Has(num) {
			fd = s.extension(md.FullName(), num)
		}
		if err := s.field(fd, typ, data[:size], depth); err != nil {
			return err
		}
		data = data[size:]
	}
	return nil
}

// field weighs one field, nil for one that the type does not know, with its value on the wire.
func (s *scale) field(fd protoreflect.FieldDescriptor, typ protowire.Type, value []byte, depth int) error {
	switch {
	case fd == nil: // kept as it is
		return nil
	case fd.Message() != nil && typ == protowire.BytesType:
		inner, _ := protowire.ConsumeBytes(value)
		if err := s.add(messageWeight); err != nil {
			return err
		}
		return s.message(inner, fd.Message(), depth+1)
	case fd.Message() != nil && typ == protowire.StartGroupType:
		if err := s.add(messageWeight); err != nil {
			return err
		}
		inner, _ := protowire.ConsumeGroup(fd.Number(), value)
		return s.message(inner, fd.Message(), depth+1)
	case fd.IsList() && typ == protowire.BytesType && fd.Kind() != protoreflect.StringKind && fd.Kind() != protoreflect.BytesKind:
		packed, _ := protowire.ConsumeBytes(value)
		return s.add(valueWeight * elements(fd.Kind(), packed))
	}
	return s.add(valueWeight)
}

// elements returns how many numbers a packed list has.
func elements(kind protoreflect.Kind, packed []byte) (n int) {
	switch kind {
	case protoreflect.Fixed32Kind, protoreflect.Sfixed32Kind, protoreflect.FloatKind:
		return len(packed) / 4
	case protoreflect.Fixed64Kind, protoreflect.Sfixed64Kind, protoreflect.DoubleKind:
		return len(packed) / 8
	}
	for _, b := range packed {
		if b < 0x80 { // the last byte of a varint
			n++
		}
	}
	return n
}

// WeighJSON returns how much memory the message in ProtoJSON may take, at most, beside the bytes of its texts, or an
// ErrTooLarge if that is too much or there is more of it than MaxJSONBytes. What is no JSON may pass.
func WeighJSON(data []byte) (int, error) {
	if len(data) > MaxJSONBytes {
		return 0, fmt.Errorf("%w: %d bytes of JSON, want at most %d", ErrTooLarge, len(data), MaxJSONBytes)
	}
	if len(data) <= SmallBytes {
		return SmallGrowth * len(data), nil
	}
	s := scale{left: memoryFor(len(data))}
	inText := false
	for i := 0; i < len(data); i++ {
		weight := 0
		switch c := data[i]; {
		case inText && c == '\\':
			i++ // what is escaped
		case c == '"':
			inText = !inText
		case inText:
		case c == '{':
			weight = messageWeight
		case c == ',' || c == '[':
			weight = valueWeight
		}
		if err := s.add(weight); err != nil {
			return 0, fmt.Errorf("%w: more than %d bytes", err, memoryFor(len(data)))
		}
	}
	return memoryFor(len(data)) - s.left, nil
}

// MaxJSONBytes and MaxJSONNesting bound ProtoJSON: what is in an Any is read once more for each Any around it.
const (
	MaxJSONBytes   = 8 << 20
	MaxJSONNesting = 64
)
