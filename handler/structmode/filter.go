package structmode

import (
	"context"
	"errors"
	"fmt"

	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/codes"
	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/status"

	"github.com/framegate/framegate/handler/local"
	"github.com/framegate/framegate/resolver/spec"
)

// Filter sees each message of one method as its generated type: Req and Resp are types of Kitex, generated from a .proto
// with the line "//prutalgen:unknown_fields" above its syntax, or of google.golang.org/protobuf. It works on routes in struct mode, after their rules, on messages in the wire format of
// Protocol Buffers, which alone generated code reads.
//
// A function gets the context of the call (its deadline, and its metadata as Kitex's metadata package has it) and a
// message of its own, once a message and in their order, the two functions at the same time. It returns that message,
// changed or not, or another, or nil to take the message out of its stream, or an error to end the call: a status of
// Kitex's status package ends it with that code and message, another error with INTERNAL. A nil function passes all. The
// fields that the type does not know stay in the message, and one that is not changed is forwarded byte for byte.
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
// generated type that keeps the fields it does not know.
func NewFilter[Req, Resp any](method string, f Filter[Req, Resp]) (MethodFilter, error) {
	var err3 error
	if p, err := spec.ParsePattern(method); err != nil || p.Kind != spec.KindExact {
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
type messageFilter func(ctx context.Context, message []byte) ([]byte, *local.Error)

func newMessageFilter[T any](f func(context.Context, *T) (*T, error)) (messageFilter, error) {
	g, err := generatedOf[T]()
	if err != nil || f == nil {
		return nil, err
	}
	return func(ctx context.Context, message []byte) ([]byte, *local.Error) {
		if message == nil {
			message = []byte{} // an empty message is not none
		}
		m := new(T)
		if err := g.unmarshal(message, m); err != nil {
			return nil, local.Errorf(codes.InvalidArgument, local.ReasonDecodeFailed, "cannot be decoded: %s", local.Printable(err.Error()))
		}
		before, err := g.marshal(m)
		if err != nil {
			return nil, local.Errorf(codes.Internal, local.ReasonRuleFailed, "filter: %s", local.Printable(err.Error()))
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
			return nil, local.Errorf(codes.Internal, local.ReasonRuleFailed, "filter: %s", local.Printable(err.Error()))
		}
		if string(before) == string(after) {
			return message, nil
		}
		if after == nil {
			after = []byte{} // an empty message is not none
		}
		return after, nil
	}, nil
}

// filterError is the local error for what a filter returned.
func filterError(err error) *local.Error {
	if st, ok := status.FromError(err); ok {
		return local.Errorf(st.Code(), local.ReasonRejected, "%s", st.Message())
	}
	return local.Errorf(codes.Internal, local.ReasonRuleFailed, "filter: %s", local.Printable(err.Error()))
}
