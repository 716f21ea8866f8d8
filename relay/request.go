package relay

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/codes"

	"github.com/framegate/framegate/handler/header"
	"github.com/framegate/framegate/handler/local"
	"github.com/framegate/framegate/relay/h2"
	"github.com/framegate/framegate/relay/h2/hpack"
	"github.com/framegate/framegate/resolver/spec"
)

// request is what the headers of a request say, apart from the call.
type request struct {
	method, authority string
	problem           *local.Error // of a request that HTTP/2 does not allow; nil for others. Then nothing below is set
	refusal           *refusal     // nil for a call of gRPC. Then nothing below is set
	builtin           bool         // the Kitex server has the method
	via               []string
	timeout           *hpack.Field   // grpc-timeout; nil for none
	limit             time.Duration  // that timeout says
	forwarded         []*hpack.Field // what is forwarded whatever becomes of the call, behind :method, :scheme, :path and :authority
}

// requestOf returns what a request says. It is valid until the next requestOf, unless h stays.
func (p *Plane) requestOf(s *shard, h *h2.Head) *request {
	if r, ok := h.Memo.(*request); ok {
		return r
	}
	r := &s.request
	if h.Stays {
		r = new(request)
		h.Memo = r
	}
	*r = request{method: pathOf(h), authority: authorityOf(h.Fields), via: r.via[:0], forwarded: r.forwarded[:0]}
	if r.problem = problem(h); r.problem != nil {
		return r
	}
	if r.refusal = check(h); r.refusal != nil {
		return r
	}
	r.builtin = p.isBuiltin(r.method)
	for _, f := range h.Fields {
		switch {
		case f.Kind == hpack.GRPCTimeout:
			if d, _ := parseTimeout(f.Value); r.timeout == nil || d < r.limit { // check has seen that it is one
				r.timeout, r.limit = f, max(d, 1)
			}
		case f.Kind.Pseudo(), f.Kind == hpack.Host:
		default:
			if f.Name == header.Via {
				r.via = append(r.via, f.Value)
			}
			r.forwarded = append(r.forwarded, f)
		}
	}
	return r
}

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
