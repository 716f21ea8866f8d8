package handler

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/codes"
	"golang.org/x/net/http2"

	"github.com/framegate/framegate/handler/local"
	"github.com/framegate/framegate/handler/stream"
	"github.com/framegate/framegate/handler/transserver"
	"github.com/framegate/framegate/pool"
	"github.com/framegate/framegate/pool/transport"
	"github.com/framegate/framegate/resolver/cluster"
)

// The trailer and the status of endOverloaded, made once because refusing a call must cost little.
var (
	overloadedTrailer = local.ErrOverloaded.Trailer()
	overloadedStatus  = local.ErrOverloaded.Status()
)

// endOverloaded ends a call with local.ErrOverloaded and its pushback.
func endOverloaded(d stream.Downstream) { d.End(overloadedStatus, overloadedTrailer) }

// Errors that end a call from outside its two directions.
var (
	errNotReady = local.Errorf(codes.Unavailable, local.ReasonNotReady, "the server has just started and does not know its routes yet")
	errPanic    = local.Errorf(codes.Internal, local.ReasonInternal, "internal error")

	ErrIdle         = local.Errorf(codes.DeadlineExceeded, local.ReasonIdleTimeout, "no message for as long as the route allows")
	ErrMaxStreamAge = local.Errorf(codes.Unavailable, local.ReasonMaxStreamAge, "the call has lasted as long as the route allows")
)

// ErrManyWatches is the error of framegate's own health service for a Watch over limits.max_health_watches.
var ErrManyWatches error = &local.Error{Code: codes.ResourceExhausted, Reason: local.ReasonOverloaded, Message: "there are as many health watches as there may be", Pushback: local.OverloadedHint, Limit: "max_health_watches"}

// TargetError returns the local error of a call that its target refuses for a limit, or has no endpoint for.
func TargetError(t *cluster.Target, err error) *local.Error {
	var over *cluster.OverloadError
	if errors.As(err, &over) {
		e := local.Errorf(codes.ResourceExhausted, local.ReasonOverloaded, "route %s is over %s", t.Route, over.Limit)
		e.Pushback, e.Limit = over.RetryAfter, over.Limit
		return e
	}
	return local.Errorf(codes.Unavailable, local.ReasonNoEndpoint, "route %s has no endpoint that may be used", t.Route)
}

// refusalError returns the local error of a request that is not gRPC, and the HTTP status to send with it.
func refusalError(r *transserver.Refusal) (e *local.Error, status int) {
	switch r.Fault {
	case transserver.NotPOST:
		return local.Errorf(codes.Internal, local.ReasonBadRequest, "%s", r.Detail), http.StatusMethodNotAllowed
	case transserver.NotGRPC:
		// gRPC over HTTP/2, "Requests": 415, so that an HTTP client does not take a status of 200 for a success.
		return local.Errorf(codes.InvalidArgument, local.ReasonBadRequest, "%s", r.Detail), http.StatusUnsupportedMediaType
	case transserver.HeadersTooLarge:
		return local.Errorf(codes.ResourceExhausted, local.ReasonHeadersTooLarge, "request: the headers are longer than the listener's max_header_bytes"), http.StatusOK
	}
	return local.Errorf(codes.Internal, local.ReasonBadRequest, "request: %s", r.Detail), http.StatusOK
}

// errBadPath returns the local error of a call whose path names no method.
func errBadPath(path string) *local.Error {
	return local.Errorf(codes.InvalidArgument, local.ReasonBadRequest, "path %q, want /pkg.Service/Method with names of letters, digits and _ - $", local.Printable(path))
}

// errClientBroke returns the local error of a call whose request cannot be read to its end.
func errClientBroke(err error) *local.Error {
	return local.Errorf(codes.Canceled, local.ReasonCanceled, "the client's stream broke: %v", err)
}

// openError returns the local error for a stream that could not be opened.
func openError(ctx context.Context, err error) *local.Error {
	var header *transport.HeaderError
	switch {
	case ctx.Err() != nil:
		return local.ContextError(ctx)
	case errors.As(err, &header):
		return local.Errorf(codes.ResourceExhausted, local.ReasonHeadersTooLarge, "%v", err)
	case errors.As(err, new(*pool.FullError)):
		e := local.Errorf(codes.ResourceExhausted, local.ReasonOverloaded, "%v", err)
		e.Limit, e.Pushback = "when_full", pendingHint
		return e
	case errors.Is(err, pool.ErrClosed):
		return local.ErrDraining
	}
	return local.Errorf(codes.Unavailable, local.ReasonConnectFailed, "%v", err)
}

// ResetError returns the local error for an endpoint's RST_STREAM, with the status code that a gRPC client derives from the
// HTTP/2 code (gRPC over HTTP/2, "Errors").
func ResetError(code http2.ErrCode) *local.Error {
	switch code {
	case transport.BareEnd:
		return local.Errorf(codes.Internal, local.ReasonBadResponseFraming, "response: the endpoint ended the stream without trailers")
	case transport.HeadersTooLarge:
		return local.Errorf(codes.ResourceExhausted, local.ReasonHeadersTooLarge, "response: the endpoint's headers or trailers are longer than max_header_bytes")
	}
	c := codes.Internal
	switch code {
	case http2.ErrCodeRefusedStream:
		c = codes.Unavailable
	case http2.ErrCodeCancel:
		c = codes.Canceled
	case http2.ErrCodeEnhanceYourCalm:
		c = codes.ResourceExhausted
	case http2.ErrCodeInadequateSecurity:
		c = codes.PermissionDenied
	}
	return local.Errorf(c, local.ReasonUpstreamReset, "the endpoint reset the stream: %v", code)
}

// expired reports whether ctx ended because its deadline passed.
func expired(ctx context.Context) bool { return errors.Is(ctx.Err(), context.DeadlineExceeded) }

// DeadlineSkew is how much earlier than framegate's timer an endpoint's timer for the same deadline may fire.
const DeadlineSkew = 10 * time.Millisecond

// nearlyExpired reports whether the deadline of ctx has passed or is about to.
func nearlyExpired(ctx context.Context) bool {
	d, ok := ctx.Deadline()
	return ok && time.Until(d) < DeadlineSkew
}
