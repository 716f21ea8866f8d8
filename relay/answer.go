package relay

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"

	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/codes"

	"github.com/framegate/framegate/handler/local"
	"github.com/framegate/framegate/relay/h2"
	"github.com/framegate/framegate/relay/h2/hpack"
)

// answer is what the headers or trailers of an answer say, apart from the call.
type answer struct {
	isGRPC    bool           // of headers
	code      codes.Code     // of the last fields of an answer
	noStatus  bool           // there is no grpc-status that is one
	forwarded []*hpack.Field // with a status in the place of what is none
}

// answerOf returns what the headers or trailers of an answer say. It is valid until the next answerOf, unless h stays.
func (s *shard) answerOf(h *h2.Head) *answer {
	if a, ok := h.Memo.(*answer); ok {
		return a
	}
	a := &s.answer
	if h.Stays {
		a = new(answer)
		h.Memo = a
	}
	*a = answer{isGRPC: !h.Trailer && hasGRPC(h.Fields), forwarded: a.forwarded[:0]}
	for _, f := range h.Fields {
		if f.Kind != hpack.ContentLength {
			a.forwarded = append(a.forwarded, f)
		}
	}
	if h.End {
		a.setStatus()
	}
	return a
}

// setStatus takes the status of an answer's last fields. One that is none becomes UNKNOWN, as grpc-go has it: other clients do not
// bear it.
func (a *answer) setStatus() {
	var ok bool
	if a.code, ok = statusOf(a.forwarded); ok {
		return
	}
	a.noStatus = true
	for i, f := range a.forwarded {
		if f.Kind == hpack.GRPCStatus {
			a.forwarded[i] = statusField(codes.Unknown)
			return
		}
	}
	a.forwarded = append(a.forwarded, statusField(codes.Unknown))
}

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

// hasGRPC reports whether the headers of an answer are those of gRPC. The HTTP status of an answer of gRPC does not count beside its
// grpc-status (grpc, doc/http-grpc-status-mapping.md).
func hasGRPC(fields []*hpack.Field) bool {
	for _, f := range fields {
		if f.Kind == hpack.ContentType && isGRPC(f.Value) {
			return true
		}
	}
	return false
}

// notGRPC returns the local error of an answer that is no gRPC. address is the endpoint's.
func notGRPC(h *h2.Head, address string) *local.Error {
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
