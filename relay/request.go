package relay

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/codes"

	"github.com/framegate/framegate/handler/local"
	"github.com/framegate/framegate/relay/h2"
	"github.com/framegate/framegate/relay/h2/hpack"
	"github.com/framegate/framegate/resolver/spec"
)

// refusal is why a request is not forwarded, and the HTTP status to say so with.
type refusal struct {
	status int
	err    *local.Error
}

// check returns why a request is no call of gRPC (gRPC over HTTP/2, "Requests"), or nil. That it is a request of HTTP/2, h2 has
// seen.
func check(h *h2.Head) *refusal {
	if h.Method.Value != http.MethodPost {
		return &refusal{http.StatusMethodNotAllowed, badRequest(codes.Internal, ":method %s, want POST", quoted(h.Method.Value))}
	}
	var faults hpack.Faults
	var contentType, timeout *hpack.Field
	for _, f := range h.Fields {
		faults |= f.Faults &^ hpack.PaddedValue
		if f.Kind == hpack.GRPCTimeout {
			if timeout == nil || !isTimeout(f.Value) {
				timeout = f
			}
		}
		if f.Kind == hpack.ContentType && (contentType == nil || !isGRPC(contentType.Value)) {
			contentType = f
		}
	}
	switch {
	// gRPC over HTTP/2, "Requests": 415, so that an HTTP client does not take a status of 200 for a success.
	case contentType == nil || contentType.Value == "":
		return &refusal{http.StatusUnsupportedMediaType, badRequest(codes.InvalidArgument, "no content-type, want application/grpc")}
	case !isGRPC(contentType.Value):
		return &refusal{http.StatusUnsupportedMediaType, badRequest(codes.InvalidArgument, "content-type %s, want application/grpc", quoted(contentType.Value))}
	case faults != 0:
		return &refusal{http.StatusOK, faultOf(h.Fields)}
	case timeout != nil && !isTimeout(timeout.Value):
		return &refusal{http.StatusOK, badRequest(codes.Internal, "request: grpc-timeout %s, want at most 8 digits and one of H, M, S, m, u, n", quoted(timeout.Value))}
	case !spec.ValidMethod(h.Path.Value):
		return &refusal{http.StatusOK, badPath(h.Path.Value)}
	}
	return nil
}

// faultOf names the first field that has a fault, and what was wanted.
func faultOf(fields []*hpack.Field) *local.Error {
	for _, f := range fields {
		switch {
		case f.Faults&hpack.BadBinary != 0:
			return badRequest(codes.Internal, "request: %s %s, want base64", quoted(f.Name), quoted(f.Value))
		case f.Faults&^hpack.PaddedValue != 0:
			return badRequest(codes.Internal, "request: the value of %s is %s, want no control characters", quoted(f.Name), quoted(f.Value))
		}
	}
	return badRequest(codes.Internal, "request: a field is malformed") // not reached
}

func badPath(path string) *local.Error {
	return badRequest(codes.InvalidArgument, "path %s, want /pkg.Service/Method with names of letters, digits and _ - $", quoted(path))
}

func badRequest(code codes.Code, format string, args ...any) *local.Error {
	return local.Errorf(code, local.ReasonBadRequest, format, args...)
}

// isGRPC reports whether v is a content-type of gRPC.
func isGRPC(v string) bool {
	rest, ok := strings.CutPrefix(v, "application/grpc")
	return ok && (rest == "" || rest[0] == '+' || rest[0] == ';')
}

// quoted returns a peer's text for an error message: cut to a bounded length, and quoted in ASCII.
func quoted(s string) string {
	const maxBytes = 64
	if len(s) > maxBytes {
		return strconv.QuoteToASCII(s[:maxBytes]) + "..."
	}
	return strconv.QuoteToASCII(s)
}

// errTooLarge ends a call whose headers are over the listener's max_header_bytes.
var errTooLarge = local.Errorf(codes.ResourceExhausted, local.ReasonHeadersTooLarge, "request: the headers are longer than the listener's max_header_bytes")

// codeOf returns the code that gRPC derives from the HTTP status of an answer that is not gRPC (grpc,
// doc/http-grpc-status-mapping.md).
func codeOf(status int) codes.Code {
	switch status {
	case http.StatusBadRequest:
		return codes.Internal
	case http.StatusUnauthorized:
		return codes.Unauthenticated
	case http.StatusForbidden:
		return codes.PermissionDenied
	case http.StatusNotFound:
		return codes.Unimplemented
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return codes.Unavailable
	}
	return codes.Unknown
}

// checkAnswer returns the local error of an answer that is no gRPC, or nil. address is the endpoint's. The HTTP status of an answer
// of gRPC does not count beside its grpc-status (grpc, doc/http-grpc-status-mapping.md).
func checkAnswer(h *h2.Head, address string) *local.Error {
	for _, f := range h.Fields {
		if f.Kind == hpack.ContentType && isGRPC(f.Value) {
			return nil
		}
	}
	return local.Errorf(codeOf(h.Status), local.ReasonBadResponseFraming, "response of %s: HTTP status %d%s", address, h.Status, contentTypeOf(h))
}

func contentTypeOf(h *h2.Head) string {
	for _, f := range h.Fields {
		if f.Kind == hpack.ContentType {
			return fmt.Sprintf(" with content-type %s, want application/grpc", quoted(f.Value))
		}
	}
	return " without content-type, want application/grpc"
}

// statusOf returns the grpc-status of trailers, the last if there are several, or UNKNOWN and false if there is none that is a number
// of a code (an int32, as grpc-go has it).
func statusOf(fields []*hpack.Field) (code codes.Code, ok bool) {
	for _, f := range slices.Backward(fields) {
		if f.Kind == hpack.GRPCStatus {
			if n, err := strconv.ParseInt(f.Value, 10, 32); err == nil && n >= 0 {
				return codes.Code(n), true
			}
			break
		}
	}
	return codes.Unknown, false
}
