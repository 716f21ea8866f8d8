package structmode

import (
	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/codes"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/framegate/framegate/handler/budget"
	"github.com/framegate/framegate/handler/local"
	"github.com/framegate/framegate/handler/structmode/rule"
)

// messageCodec decodes and encodes the messages of one content-subtype (gRPC over HTTP/2, "Content-Type"). It takes the
// bytes that it needs from share before it allocates them, and gives none back. A nil share has no bound.
type messageCodec interface {
	// decode returns the message with the encoding b, of the type that r are rules for.
	decode(b []byte, r *rule.Rules, share *budget.Share) (protoreflect.Message, error)
	// encode returns the encoding of m, which was decoded from the bytes in from and may have been changed since. It fails if
	// from has something that m cannot represent, and that would be lost.
	encode(m protoreflect.Message, from []byte, share *budget.Share) ([]byte, error)
	// growth returns how many bytes encode is likely to take for a message that was decoded from the bytes in from.
	growth(from []byte) int64
}

// messageCodecOf returns the codec of a content-subtype. types resolves the types of extensions and of messages in an Any.
func messageCodecOf(subtype string, types *dynamicpb.Types) (messageCodec, error) {
	switch subtype {
	case "", "proto":
		return protoCodec{}, nil
	case "json":
		return jsonCodec{types}, nil
	}
	return nil, local.Errorf(codes.Unimplemented, local.ReasonDecodeFailed,
		"content-type application/grpc+%s cannot be decoded, want +proto or +json", local.Printable(subtype))
}

// protoCodec is the wire format of Protocol Buffers. It accepts messages without their required fields: only the endpoint
// needs them.
type protoCodec struct{}

func (protoCodec) decode(b []byte, r *rule.Rules, share *budget.Share) (protoreflect.Message, error) {
	return r.Decode(b, func(weight int) error { return share.Take(int64(weight) + int64(len(b))) })
}

func (protoCodec) encode(m protoreflect.Message, _ []byte, share *budget.Share) ([]byte, error) { // m keeps unknown fields
	opts := proto.MarshalOptions{AllowPartial: true, Deterministic: true}
	size := opts.Size(m.Interface())
	if err := share.Take(int64(size)); err != nil {
		return nil, err
	}
	return opts.MarshalAppend(make([]byte, 0, size), m.Interface())
}

func (protoCodec) growth(from []byte) int64 { return int64(len(from)) + usualChange }

// usualChange is a bound, in bytes, of what rules usually add to a message.
const usualChange = 4 << 10

// jsonCodec is ProtoJSON. A message cannot represent keys that its schema does not have: JSON with such keys can be decoded,
// but encode fails.
type jsonCodec struct{ types *dynamicpb.Types }

func (c jsonCodec) decode(b []byte, r *rule.Rules, share *budget.Share) (protoreflect.Message, error) {
	weight, err := rule.WeighJSON(b)
	if err != nil {
		return nil, err
	}
	if err := share.Take(int64(weight) + int64(len(b))); err != nil {
		return nil, err
	}
	m := r.New()
	return m, protojson.UnmarshalOptions{AllowPartial: true, DiscardUnknown: true, Resolver: c.types, RecursionLimit: rule.MaxJSONNesting}.Unmarshal(b, m.Interface())
}

// jsonGrowth is how many times longer ProtoJSON is expected to become when it is decoded and encoded again: a number may
// become the name of an enum value, for example.
const jsonGrowth = 8

func (c jsonCodec) encode(m protoreflect.Message, from []byte, share *budget.Share) ([]byte, error) {
	if err := share.Take(c.growth(from)); err != nil {
		return nil, err
	}
	strict := protojson.UnmarshalOptions{AllowPartial: true, Resolver: c.types}
	if err := strict.Unmarshal(from, m.New().Interface()); err != nil {
		return nil, err
	}
	return protojson.MarshalOptions{AllowPartial: true, Resolver: c.types}.Marshal(m.Interface())
}

func (c jsonCodec) growth(from []byte) int64 {
	weight, _ := rule.WeighJSON(from) // does not fail: decode has called it before
	return int64(weight) + jsonGrowth*int64(len(from)) + usualChange
}

// Decode decodes a message of a content-subtype, which is decompressed, to show it. The memory is not taken from a budget.
func Decode(plain []byte, subtype string, compiled *rule.Compiled, rules *rule.Rules) (protoreflect.Message, error) {
	codec, err := messageCodecOf(subtype, compiled.Types())
	if err != nil {
		return nil, err
	}
	return codec.decode(plain, rules, nil)
}

// JSON returns a message that Decode made as ProtoJSON, to show it: with the names of the schema.
func JSON(m protoreflect.Message, compiled *rule.Compiled) ([]byte, error) {
	return protojson.MarshalOptions{AllowPartial: true, UseProtoNames: true, Resolver: compiled.Types()}.Marshal(m.Interface())
}
