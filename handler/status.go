package handler

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/codes"
	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/status"
	"golang.org/x/net/http2"

	"github.com/framegate/framegate/handler/transserver"
	"github.com/framegate/framegate/pool"
	"github.com/framegate/framegate/pool/h2conn"
	"github.com/framegate/framegate/resolver/cluster"
)

// endLocal ends the call with a local error.
func (d serverStream) endLocal(e *localError) {
	_ = d.s.SetTrailer(e.trailer())
	d.end(status.New(e.code, e.Error()))
}

// What endOverloaded sends, made once: to refuse must cost little.
var (
	overloadedTrailer = errOverloaded.trailer()
	overloadedStatus  = status.New(errOverloaded.code, errOverloaded.Error())
)

// endOverloaded ends the call with errOverloaded and a hint when to come again.
func (d serverStream) endOverloaded() {
	_ = d.s.SetTrailer(overloadedTrailer) // copies it
	d.end(overloadedStatus)
}

// Errors that end a call from outside its two directions.
var (
	errDraining = localErrorf(codes.Unavailable, ReasonDraining, "the server is shutting down")
	errNotReady = localErrorf(codes.Unavailable, ReasonNotReady, "the server has just started and does not know its routes yet")
	errPanic    = localErrorf(codes.Internal, ReasonInternal, "internal error")
	errTimeout  = localErrorf(codes.DeadlineExceeded, ReasonTimeout, "deadline exceeded")

	errOverloaded   = &localError{codes.ResourceExhausted, ReasonOverloaded, "the listener has as many calls as it takes", overloadedHint, "max_calls"}
	errIdle         = localErrorf(codes.DeadlineExceeded, ReasonIdleTimeout, "no message for as long as the route allows")
	errMaxStreamAge = localErrorf(codes.Unavailable, ReasonMaxStreamAge, "the call has lasted as long as the route allows")
	errEndpointLeft = localErrorf(codes.Unavailable, ReasonDraining, "the endpoint has left")
)

// ErrManyWatches is what framegate's own health service returns for a watch for which there is no room.
var ErrManyWatches error = &localError{codes.ResourceExhausted, ReasonOverloaded, "there are as many health watches as there may be", overloadedHint, "max_health_watches"}

// targetError is the local error of a call that its target does not admit, or has no endpoint for.
func targetError(t *cluster.Target, err error) *localError {
	var over *cluster.OverloadError
	if errors.As(err, &over) {
		e := localErrorf(codes.ResourceExhausted, ReasonOverloaded, "route %s is over %s", t.Route, over.Limit)
		e.pushback, e.limit = over.RetryAfter, over.Limit
		return e
	}
	return localErrorf(codes.Unavailable, ReasonNoEndpoint, "route %s has no endpoint that may be used", t.Route)
}

// refusalError is the local error of a request that is no call, and the HTTP status that goes with it.
func refusalError(r *transserver.Refusal) (e *localError, status int) {
	switch r.Fault {
	case transserver.NotPOST:
		return localErrorf(codes.Internal, ReasonBadRequest, "%s", r.Detail), http.StatusMethodNotAllowed
	case transserver.NotGRPC:
		// gRPC over HTTP/2: so that no other client takes a status of 200 for a success.
		return localErrorf(codes.InvalidArgument, ReasonBadRequest, "%s", r.Detail), http.StatusUnsupportedMediaType
	case transserver.HeadersTooLarge:
		return localErrorf(codes.ResourceExhausted, ReasonHeadersTooLarge, "request: the headers are longer than the listener's max_header_bytes"), http.StatusOK
	}
	return localErrorf(codes.Internal, ReasonBadRequest, "request: %s", r.Detail), http.StatusOK
}

// errBadPath is the local error of a call whose path names no method.
func errBadPath(path string) *localError {
	return localErrorf(codes.InvalidArgument, ReasonBadRequest, "path %q, want /pkg.Service/Method with names of letters, digits and _ - $", printable(path))
}

// errNoMethod is the local error of a call in struct mode whose method is not in the schema.
func errNoMethod(t *cluster.Target, method string) *localError {
	return localErrorf(codes.Unimplemented, ReasonDecodeFailed, "the schema of route %s has no method %s", t.Route, printable(method))
}

// errClientBroke is the local error of a call whose request cannot be read to its end.
func errClientBroke(err error) *localError {
	return localErrorf(codes.Canceled, ReasonCanceled, "the client's stream broke: %v", err)
}

// openError is the local error for a stream that could not be opened.
func openError(ctx context.Context, err error) *localError {
	var header *pool.HeaderError
	switch {
	case expired(ctx):
		return errTimeout
	case ctx.Err() != nil:
		return localErrorf(codes.Canceled, ReasonCanceled, "canceled") // nobody hears it
	case errors.As(err, &header):
		return localErrorf(codes.ResourceExhausted, ReasonHeadersTooLarge, "%v", err)
	case errors.As(err, new(*pool.FullError)):
		e := localErrorf(codes.ResourceExhausted, ReasonOverloaded, "%v", err)
		e.limit, e.pushback = "when_full", pendingHint
		return e
	case errors.Is(err, pool.ErrClosed):
		return errDraining
	}
	return localErrorf(codes.Unavailable, ReasonConnectFailed, "%v", err)
}

// resetError is the local error for an upstream's RST_STREAM, with the code that a gRPC client would give it (gRPC over
// HTTP/2, "Errors").
func resetError(code http2.ErrCode) *localError {
	switch code {
	case h2conn.BareEnd:
		return localErrorf(codes.Internal, ReasonBadResponseFraming, "response: the endpoint ended the stream without trailers")
	case h2conn.HeadersTooLarge:
		return localErrorf(codes.ResourceExhausted, ReasonHeadersTooLarge, "response: the endpoint's headers or trailers are longer than max_header_bytes")
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
	return localErrorf(c, ReasonUpstreamReset, "the endpoint reset the stream: %v", code)
}

// expired reports whether ctx ended because its deadline passed.
func expired(ctx context.Context) bool { return errors.Is(ctx.Err(), context.DeadlineExceeded) }

// deadlineSkew is how much earlier than ours an endpoint's timer for the same deadline may fire.
const deadlineSkew = 10 * time.Millisecond

// nearlyExpired reports whether the deadline of ctx has passed or is about to.
func nearlyExpired(ctx context.Context) bool {
	d, ok := ctx.Deadline()
	return ok && time.Until(d) < deadlineSkew
}
