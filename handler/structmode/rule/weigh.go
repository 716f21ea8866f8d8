package rule

import (
	"errors"
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"
)

// The weight of a message is an estimate, in bytes, of the memory that it takes when it is decoded, besides the bytes of its
// strings and bytes fields. It is computed from the encoding before the message is decoded. The length of the encoding does
// not bound it well, because 2 bytes may encode a message, and 1 byte an element of a packed list.
const (
	// A message with an encoding of n bytes may weigh MinMemory + n * MemoryPerByte, but at most MaxMemory.
	MaxMemory     = 256 << 20
	MinMemory     = 8 << 20
	MemoryPerByte = 40

	messageWeight = 256 // of a message, or an entry of a map
	valueWeight   = 32  // of any other field, and of an element of a packed list
)

// An encoding of at most SmallBytes is not examined: its message is taken to weigh SmallGrowth times its length, which is
// the most that it can, because the encoding of a message takes at least 2 bytes.
const (
	SmallBytes  = 4 << 10
	SmallGrowth = messageWeight / 2
)

// MaxNesting bounds how deep messages may be nested. Most implementations of protobuf refuse more than 100 levels. The time
// to decode nested groups grows with their length times their depth.
const MaxNesting = 256

// ErrTooLarge says that a message would take more memory than it may; see MaxMemory. Errors wrap it.
var ErrTooLarge = errors.New("message takes too much memory when decoded")

var errMalformed = errors.New("not in the wire format of its type")

// weigh returns the weight of the message that data encodes, or an ErrTooLarge. It may return a weight for a malformed
// encoding: the decoder finds that out.
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

// memoryFor returns how much a message with an encoding of n bytes may weigh.
func memoryFor(n int) int { return min(MaxMemory, MinMemory+MemoryPerByte*n) }

// scale weighs one message.
type scale struct {
	left  int                                        // how much more the message may weigh
	types *dynamicpb.Types                           // resolves extensions
	known map[extension]protoreflect.FieldDescriptor // extensions that were looked up; nil for those that do not exist
}

// extension identifies an extension by the message that it extends and its number.
type extension struct {
	of  protoreflect.FullName
	num protowire.Number
}

// extension returns the descriptor of an extension of a message, or nil if there is none with the number.
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

// maxKnownExtensions bounds scale.known: a message may have any number of extensions that do not exist.
const maxKnownExtensions = 1000

// add adds a weight, and returns ErrTooLarge if the message is too heavy.
func (s *scale) add(weight int) error {
	if s.left -= weight; s.left < 0 {
		return ErrTooLarge
	}
	return nil
}

// message weighs the fields of a message of type md at that depth of nesting.
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

// field weighs one field, by its value on the wire. fd is nil for a field that the type does not have.
func (s *scale) field(fd protoreflect.FieldDescriptor, typ protowire.Type, value []byte, depth int) error {
	switch {
	case fd == nil: // its bytes are kept, and not decoded
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

// elements returns the number of elements of a packed list.
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

// WeighJSON returns the weight of the message that data encodes in ProtoJSON, or an ErrTooLarge if it is too heavy or data
// is longer than MaxJSONBytes. It may return a weight for data that is not JSON: the decoder finds that out.
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
			i++ // skip the escaped character
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

// MaxJSONBytes and MaxJSONNesting bound ProtoJSON further, because the time to decode nested Any grows with their length
// times their depth: the content of an Any is read again for each Any around it.
const (
	MaxJSONBytes   = 8 << 20
	MaxJSONNesting = 64
)
