package rule

import (
	"fmt"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"
)

// Decode decodes a message of the direction's type. The message does not refer to data. Required fields may be missing, and
// unknown fields are kept, because only the endpoint has to judge them. The error is an ErrTooLarge if the message would
// take too much memory; see MaxMemory. Messages that are nested more than MaxNesting deep are an error.
//
// admit, which may be nil, is called before memory is allocated, with a bound of how much that will be besides the bytes of
// strings and bytes fields. If it returns an error, Decode fails with that error.
func (r *Rules) Decode(data []byte, admit func(weight int) error) (protoreflect.Message, error) {
	m := r.New()
	weight, err := weigh(data, m.Descriptor(), r.schema.dynamic)
	if err != nil {
		return nil, err
	}
	if admit != nil {
		if err := admit(weight); err != nil {
			return nil, err
		}
	}
	if err := unmarshal(data, m, r.schema.dynamic); err != nil {
		return nil, err
	}
	return m, nil
}

// unmarshal decodes data into m, a new message. It turns a panic into an error, because proto.Unmarshal (v1.36.12) panics on
// a map entry of a dynamic message that has a key and then a second key of the wrong wire type, which a peer may send.
func unmarshal(data []byte, m protoreflect.Message, resolver *dynamicpb.Types) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("an encoding that cannot be decoded: %v", r)
		}
	}()
	return proto.UnmarshalOptions{AllowPartial: true, Resolver: resolver, RecursionLimit: MaxNesting}.Unmarshal(data, m.Interface())
}
