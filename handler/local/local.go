package local

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/codes"
	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/metadata"
	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/status"

	"github.com/framegate/framegate/handler/budget"
	"github.com/framegate/framegate/resolver/plain"
)

// ReasonTrailer is the trailer that tells the statuses made by framegate from those of endpoints: all of the former carry
// it, and none of the latter.
const ReasonTrailer = "framegate-error"

// PushbackTrailer tells the client how long to wait before it tries again, in milliseconds; a negative number says that it
// should not (gRFC A6).
const PushbackTrailer = "grpc-retry-pushback-ms"

// Reason says why framegate made a status. It is the value of ReasonTrailer.
type Reason string

// The reasons. The README of handler says in which situation a call ends with which.
const (
	ReasonBadRequest         Reason = "bad_request" // no gRPC request
	ReasonNoRoute            Reason = "no_route"
	ReasonNotReady           Reason = "not_ready" // the process has no routes yet
	ReasonLoopDetected       Reason = "loop_detected"
	ReasonNoEndpoint         Reason = "no_endpoint"
	ReasonConnectFailed      Reason = "connect_failed"
	ReasonUpstreamReset      Reason = "upstream_reset"
	ReasonTimeout            Reason = "timeout"
	ReasonMessageTooLarge    Reason = "message_too_large"
	ReasonHeadersTooLarge    Reason = "headers_too_large"
	ReasonOverloaded         Reason = "overloaded"
	ReasonIdleTimeout        Reason = "idle_timeout"
	ReasonMaxStreamAge       Reason = "max_stream_age"
	ReasonDraining           Reason = "draining"
	ReasonBadRequestFraming  Reason = "bad_request_framing"
	ReasonBadResponseFraming Reason = "bad_response_framing"
	ReasonDecodeFailed       Reason = "decode_failed" // struct mode
	ReasonRejected           Reason = "rejected"      // by a rule or a filter
	ReasonRuleFailed         Reason = "rule_failed"   // a rule or a filter could not decide
	ReasonCanceled           Reason = "canceled"      // the client gave up; only observers see this reason
	ReasonUnanswered         Reason = "unanswered"    // no backend or mirror of the route was selected to answer
	ReasonNoQuorum           Reason = "no_quorum"     // too few targets of a fan-out answered alike
	ReasonOwnService         Reason = "own_service"   // an answer of framegate's own health service
	ReasonInternal           Reason = "internal"
)

// NoRetry is the Pushback of an error after which the client should not try again.
const NoRetry = time.Duration(-1)

// Error is a status that framegate makes itself.
type Error struct {
	Code     codes.Code
	Reason   Reason
	Message  string        // without the prefix
	Pushback time.Duration // how long the client should wait before it tries again; 0 sends no pushback; or NoRetry
	Limit    string        // the key of the limit that the call was over, for ReasonOverloaded
}

// Error returns the message that the client is sent.
func (e *Error) Error() string { return "framegate: " + e.Message }

// Errorf returns an Error with a formatted message. Control characters in the message are replaced; see plain.Line.
func Errorf(code codes.Code, reason Reason, format string, args ...any) *Error {
	return &Error{Code: code, Reason: reason, Message: plain.Line(fmt.Sprintf(format, args...))}
}

// OverloadedHint is the pushback of calls that are refused because the process or the listener has as much to do as it may:
// clients that tried again at once would keep it full.
const OverloadedHint = time.Second

// Trailer returns the trailers of the error's status: its reason, and its pushback if it has one.
func (e *Error) Trailer() metadata.MD {
	md := metadata.MD{ReasonTrailer: {string(e.Reason)}}
	switch {
	case e.Pushback == NoRetry:
		md[PushbackTrailer] = []string{"-1"}
	case e.Pushback > 0:
		md[PushbackTrailer] = []string{strconv.FormatInt((e.Pushback + time.Millisecond - 1).Milliseconds(), 10)}
	}
	return md
}

// Status returns the error's status.
func (e *Error) Status() *status.Status { return status.New(e.Code, e.Error()) }

// RoomError returns the local error for an error of package budget that says that it has no room for a message; whose names
// the message in the error's text. Any other error is returned as it is.
func RoomError(err error, whose string) error {
	switch {
	case errors.Is(err, budget.ErrOver):
		return ErrNoRoom
	case errors.Is(err, budget.ErrNever):
		return Errorf(codes.ResourceExhausted, ReasonMessageTooLarge, "%s takes more memory than there is for all", whose)
	}
	return err
}

// Printable cuts a peer's text to a length that an error message may quote.
func Printable(s string) string {
	const maxBytes = 256
	if len(s) > maxBytes {
		s = strings.ToValidUTF8(s[:maxBytes], "") + "..."
	}
	return s
}

// ErrNoRoom ends a call when the budget of max_decoded_bytes has no room for its messages.
var ErrNoRoom = &Error{codes.ResourceExhausted, ReasonOverloaded, "the messages of other calls take all memory that there is for them", OverloadedHint, "max_decoded_bytes"}

// Errors of calls that end for what the process does.
var (
	ErrDraining     = Errorf(codes.Unavailable, ReasonDraining, "the server is shutting down")
	ErrEndpointLeft = Errorf(codes.Unavailable, ReasonDraining, "the endpoint has left")
)

// ErrOverloaded ends a call that is over the listener's max_calls.
var ErrOverloaded = &Error{codes.ResourceExhausted, ReasonOverloaded, "the listener has as many calls as it takes", OverloadedHint, "max_calls"}

// ErrUnread ends a call whose peers do not read, while the memory for what waits for such peers is short.
var ErrUnread = &Error{codes.ResourceExhausted, ReasonOverloaded, "too much waits for peers that read slowly, and what this call has sent does not move", OverloadedHint, "max_buffered_bytes"}

// ErrTimeout ends a call whose deadline has passed.
var ErrTimeout = Errorf(codes.DeadlineExceeded, ReasonTimeout, "deadline exceeded")

// ContextError returns the local error of a call whose context has ended.
func ContextError(ctx context.Context) *Error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return ErrTimeout
	}
	return Errorf(codes.Canceled, ReasonCanceled, "canceled") // for observers: the client does not see it
}
