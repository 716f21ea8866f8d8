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

// messageCodec decodes and encodes the messages of one content-subtype (gRPC over HTTP/2, "Content-Type"). It takes what a
// message needs of a share of the budget, before its memory; a nil share has no bound. What is not needed any more stays
// taken.
type messageCodec interface {
	decode(b []byte, r *rule.Rules, share *budget.Share) (protoreflect.Message, error)
	// encode returns m, which was decoded from the bytes in from and then changed. It fails where something of from would
	// be lost that m has no place for.
	encode(m protoreflect.Message, from []byte, share *budget.Share) ([]byte, error)
	// growth is what encode is likely to take for a message that was decoded from those bytes.
	growth(from []byte) int64
}

// messageCodecOf returns the codec of a content-subtype; types find extensions and what is in an Any.
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

// protoCodec is the wire format of Protocol Buffers. What is missing of required fields is none of a proxy's business.
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

// usualChange is more than rules usually add to a message.
const usualChange = 4 << 10

// jsonCodec is ProtoJSON. A message has no place for keys that the schema does not know: what has any can be read, but
// not changed.
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

// jsonGrowth is how many times longer ProtoJSON may become when it is written again: a number becomes the name of an
// enum's value, say. What is longer still is counted when it is there.
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
	weight, _ := rule.WeighJSON(from) // which decode has found to be in bounds
	return int64(weight) + jsonGrowth*int64(len(from)) + usualChange
}

// Decode returns a message of a content-subtype, decompressed, for people.
func Decode(plain []byte, subtype string, program *rule.Program, rules *rule.Rules) (protoreflect.Message, error) {
	codec, err := messageCodecOf(subtype, program.Types())
	if err != nil {
		return nil, err
	}
	return codec.decode(plain, rules, nil)
}
