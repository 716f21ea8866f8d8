package handler

import (
	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/codes"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/framegate/framegate/handler/rule"
)

// messageCodec decodes and encodes the messages of one content-subtype (gRPC over HTTP/2, "Content-Type").
type messageCodec interface {
	decode(b []byte, r *rule.Rules) (protoreflect.Message, error)
	// encode returns m, which was decoded from the bytes in from and then changed. It fails where something of from would
	// be lost that m has no place for.
	encode(m protoreflect.Message, from []byte) ([]byte, error)
}

// messageCodecOf returns the codec of a content-subtype; types find extensions and what is in an Any.
func messageCodecOf(subtype string, types *dynamicpb.Types) (messageCodec, error) {
	switch subtype {
	case "", "proto":
		return protoCodec{}, nil
	case "json":
		return jsonCodec{types}, nil
	}
	return nil, localErrorf(codes.Unimplemented, ReasonDecodeFailed,
		"content-type application/grpc+%s cannot be decoded, want +proto or +json", printable(subtype))
}

// protoCodec is the wire format of Protocol Buffers. What is missing of required fields is none of a proxy's business.
type protoCodec struct{}

func (protoCodec) decode(b []byte, r *rule.Rules) (protoreflect.Message, error) { return r.Decode(b) }

func (protoCodec) encode(m protoreflect.Message, _ []byte) ([]byte, error) { // m keeps unknown fields
	return proto.MarshalOptions{AllowPartial: true, Deterministic: true}.Marshal(m.Interface())
}

// jsonCodec is ProtoJSON. A message has no place for keys that the schema does not know: what has any can be read, but
// not changed.
type jsonCodec struct{ types *dynamicpb.Types }

func (c jsonCodec) decode(b []byte, r *rule.Rules) (protoreflect.Message, error) {
	if err := rule.WeighJSON(b); err != nil {
		return nil, err
	}
	m := r.New()
	return m, protojson.UnmarshalOptions{AllowPartial: true, DiscardUnknown: true, Resolver: c.types, RecursionLimit: rule.MaxJSONNesting}.Unmarshal(b, m.Interface())
}

func (c jsonCodec) encode(m protoreflect.Message, from []byte) ([]byte, error) {
	strict := protojson.UnmarshalOptions{AllowPartial: true, Resolver: c.types}
	if err := strict.Unmarshal(from, m.New().Interface()); err != nil {
		return nil, err
	}
	return protojson.MarshalOptions{AllowPartial: true, Resolver: c.types}.Marshal(m.Interface())
}
