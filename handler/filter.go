package handler

import (
	"context"
	"errors"
	"fmt"
	"reflect"

	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/codes"
	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/status"
	"google.golang.org/protobuf/proto"

	"github.com/framegate/framegate/handler/wire"
	"github.com/framegate/framegate/resolver"
)

// Filter sees each message of one method as its generated type: Req and Resp are types of kitex_gen, or of
// google.golang.org/protobuf. It works on routes in struct mode, after their rules, on messages in the wire format of
// Protocol Buffers, which alone generated code reads.
//
// A function gets the context of the call (its deadline, and its metadata as Kitex's metadata package has it) and a
// message of its own, once a message and in their order, the two functions at the same time. It returns that message,
// changed or not, or another, or nil to take the message out of its stream, or an error to end the call: a status of
// Kitex's status package ends it with that code and message, another error with INTERNAL. A nil function passes all. What
// the type does not know of a message is kept, and a message that is not changed is forwarded byte for byte.
//
// A single message of a call that is dropped ends the call with FAILED_PRECONDITION where the schema says that it is the
// only one; without a schema the endpoint gets none.
//
// A route whose filters keep something from its endpoints must have a schema. Without one, code that Kitex generated
// reads the message as it came, and it does not see all that an endpoint may see: only the last part of a message or a
// packed list that was sent in parts, say.
type Filter[Req, Resp any] struct {
	Request  func(ctx context.Context, m *Req) (*Req, error)
	Response func(ctx context.Context, m *Resp) (*Resp, error)
}

// MethodFilter is a Filter for one method, ready for Config.
type MethodFilter struct {
	method            string
	request, response messageFilter
}

// NewFilter returns the filter of a method, /pkg.Service/Method. It fails if that is none, or if Req or Resp is not a
// generated type.
func NewFilter[Req, Resp any](method string, f Filter[Req, Resp]) (MethodFilter, error) {
	var err3 error
	if p, err := resolver.ParsePattern(method); err != nil || p.Kind != resolver.KindExact {
		err3 = fmt.Errorf("method: %q, want /pkg.Service/Method", method)
	}
	request, err := newMessageFilter(f.Request)
	response, err2 := newMessageFilter(f.Response)
	if err := errors.Join(err, err2, err3); err != nil {
		return MethodFilter{}, fmt.Errorf("filter of %s: %w", method, err)
	}
	return MethodFilter{method: method, request: request, response: response}, nil
}

// messageFilter filters the encoding of a message. It returns what is to be forwarded, message itself if that is
// unchanged, nil for nothing; or why the call ends.
type messageFilter func(ctx context.Context, message []byte) ([]byte, *localError)

// kitexMessage is what Kitex generates.
type kitexMessage interface {
	Marshal(in []byte) ([]byte, error)
	Unmarshal(in []byte) error
}

// generated decodes and encodes one generated type.
type generated struct {
	unmarshal func(b []byte, m any) error
	marshal   func(m any) ([]byte, error)
	merge     func(original, before, after []byte) ([]byte, error) // puts back what the type does not know
}

func generatedOf[T any]() (generated, error) {
	switch any(new(T)).(type) {
	case kitexMessage:
		shape, err := wire.Describe(reflect.TypeFor[T]())
		if err != nil {
			return generated{}, err
		}
		return generated{
			unmarshal: func(b []byte, m any) error { return m.(kitexMessage).Unmarshal(b) },
			marshal:   func(m any) ([]byte, error) { return m.(kitexMessage).Marshal(nil) },
			merge:     shape.Merge,
		}, nil
	case proto.Message:
		opts := proto.MarshalOptions{AllowPartial: true, Deterministic: true}
		return generated{
			unmarshal: func(b []byte, m any) error {
				return proto.UnmarshalOptions{AllowPartial: true}.Unmarshal(b, m.(proto.Message))
			},
			marshal: func(m any) ([]byte, error) { return opts.Marshal(m.(proto.Message)) },
			merge:   func(_, _, after []byte) ([]byte, error) { return after, nil },
		}, nil
	}
	return generated{}, fmt.Errorf("%v, want a type that Kitex or protoc-gen-go generated", reflect.TypeFor[T]())
}

func newMessageFilter[T any](f func(context.Context, *T) (*T, error)) (messageFilter, error) {
	g, err := generatedOf[T]()
	if err != nil || f == nil {
		return nil, err
	}
	return func(ctx context.Context, message []byte) ([]byte, *localError) {
		if message == nil {
			message = []byte{} // an empty message is not none
		}
		m := new(T)
		if err := g.unmarshal(message, m); err != nil {
			return nil, localErrorf(codes.InvalidArgument, ReasonDecodeFailed, "cannot be decoded: %s", printable(err.Error()))
		}
		before, err := g.marshal(m)
		if err != nil {
			return nil, localErrorf(codes.Internal, ReasonRuleFailed, "filter: %s", printable(err.Error()))
		}
		m, err = f(ctx, m)
		switch {
		case err != nil:
			return nil, filterError(err)
		case m == nil:
			return nil, nil
		}
		after, err := g.marshal(m)
		if err != nil {
			return nil, localErrorf(codes.Internal, ReasonRuleFailed, "filter: %s", printable(err.Error()))
		}
		if string(before) == string(after) {
			return message, nil
		}
		merged, err := g.merge(message, before, after)
		if err != nil {
			return nil, localErrorf(codes.Internal, ReasonRuleFailed, "filter: %s", printable(err.Error()))
		}
		if merged == nil {
			merged = []byte{} // an empty message is not none
		}
		return merged, nil
	}, nil
}

// filterError is the local error for what a filter returned.
func filterError(err error) *localError {
	if st, ok := status.FromError(err); ok {
		return localErrorf(st.Code(), ReasonRejected, "%s", st.Message())
	}
	return localErrorf(codes.Internal, ReasonRuleFailed, "filter: %s", printable(err.Error()))
}
