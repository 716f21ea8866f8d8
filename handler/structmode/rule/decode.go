package rule

import (
	"fmt"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"
)

// Decode returns the message that data is the encoding of. Required fields may be missing, and unknown ones are kept:
// the message is the service's to judge. The message keeps nothing of data. The error is an ErrTooLarge if the message
// would take too much memory, see MaxMemory. Messages in each other more than MaxNesting deep are an error.
//
// admit is asked before memory is taken, how much that may be beside the bytes of texts; its error is returned. It may be
// nil.
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

// unmarshal fills m, a new message. It never panics, as proto.Unmarshal does (in v1.36.12) when it fills the map of a
// dynamic message from an entry that has a key and then another one of the wrong wire type: a peer may send such an entry.
func unmarshal(data []byte, m protoreflect.Message, resolver *dynamicpb.Types) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("an encoding that cannot be decoded: %v", r)
		}
	}()
	return proto.UnmarshalOptions{AllowPartial: true, Resolver: resolver, RecursionLimit: MaxNesting}.Unmarshal(data, m.Interface())
}
