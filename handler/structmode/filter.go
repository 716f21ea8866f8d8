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

// Filter sees and may change each message of one method, as its generated type. Req and Resp are types that Kitex generated
// from a .proto with the line "//prutalgen:unknown_fields" above its syntax, or types of google.golang.org/protobuf. A
// filter works on routes in struct mode, after their rules. It sees messages in the wire format of Protocol Buffers only,
// because generated code reads no other.
//
// Each function is called once for each message of its direction, in their order; the two functions may run at the same
// time. It gets the context of the call, with its deadline and with its metadata for Kitex's metadata package, and a message
// that it owns. It returns that message, changed or not, or another one; or nil to drop the message from its stream; or an
// error to end the call. A status of Kitex's status package ends the call with that code and message, another error with
// INTERNAL. A nil function passes all messages. Fields that the type does not know stay in the message, and a message that
// is not changed is forwarded byte for byte.
//
// If a message is dropped that the schema says is the only one in its direction, the call ends with FAILED_PRECONDITION.
// Without a schema the stream goes on without the message.
//
// If endpoints must not see what a filter removes, the route must have a schema. Without a schema the filter gets the
// message as it came, and code that Kitex generated does not read all that an endpoint may read: of a message field or a
// packed list that was sent in parts, for example, it reads the last part only.
type Filter[Req, Resp any] struct {
	Request  func(ctx context.Context, m *Req) (*Req, error)
	Response func(ctx context.Context, m *Resp) (*Resp, error)
}

// MethodFilter is a Filter of one method; see NewFilter and Config.Filters.
type MethodFilter struct {
	method            string
	request, response messageFilter
}

// NewFilter returns the filter of a method. It fails if method is not of the form /pkg.Service/Method, or if Req or Resp is
// not a generated type that keeps the fields it does not know.
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

// messageFilter filters a message by its encoding. It returns the encoding to forward, which is message itself if nothing
// changed, nil to drop the message, or the local error that ends the call.
type messageFilter func(ctx context.Context, message []byte) ([]byte, *local.Error)

// newMessageFilter returns the messageFilter that decodes a message as a T and calls f; nil if f is nil.
func newMessageFilter[T any](f func(context.Context, *T) (*T, error)) (messageFilter, error) {
	g, err := generatedOf[T]()
	if err != nil || f == nil {
		return nil, err
	}
	return func(ctx context.Context, message []byte) ([]byte, *local.Error) {
		if message == nil {
			message = []byte{} // nil stands for a dropped message, not for an empty one
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
			after = []byte{} // nil stands for a dropped message, not for an empty one
		}
		return after, nil
	}, nil
}

// filterError returns the local error for an error of a filter.
func filterError(err error) *local.Error {
	if st, ok := status.FromError(err); ok {
		return local.Errorf(st.Code(), local.ReasonRejected, "%s", st.Message())
	}
	return local.Errorf(codes.Internal, local.ReasonRuleFailed, "filter: %s", local.Printable(err.Error()))
}
