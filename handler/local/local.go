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

	"github.com/framegate/framegate/handler/budget"
	"github.com/framegate/framegate/resolver/plain"
)

// ReasonTrailer is the trailer that every status made by framegate carries, and no other.
const ReasonTrailer = "framegate-error"

// PushbackTrailer says when to try again, in milliseconds (gRFC A6).
const PushbackTrailer = "grpc-retry-pushback-ms"

// Reason is the value of ReasonTrailer.
type Reason string

// The reasons. DESIGN: "What a caller gets when framegate itself must answer".
const (
	ReasonBadRequest         Reason = "bad_request" // no gRPC request
	ReasonNoRoute            Reason = "no_route"
	ReasonNotReady           Reason = "not_ready" // the first routes are not in force yet
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
	ReasonCanceled           Reason = "canceled"      // the client gave up, and does not hear it
	ReasonOwnService         Reason = "own_service"   // an answer of framegate's own health service
	ReasonInternal           Reason = "internal"
)

// NoRetry as a pushback says that trying again does not help.
const NoRetry = time.Duration(-1)

// Error is a status that framegate makes itself.
type Error struct {
	Code     codes.Code
	Reason   Reason
	Message  string        // without the prefix
	Pushback time.Duration // how long the client should wait before it tries again; 0 says nothing, noRetry never to
	Limit    string        // the key of the limit that the call was over, of ReasonOverloaded
}

func (e *Error) Error() string { return "framegate: " + e.Message }

func Errorf(code codes.Code, reason Reason, format string, args ...any) *Error {
	return &Error{Code: code, Reason: reason, Message: plain.Line(fmt.Sprintf(format, args...))}
}

// OverloadedHint is how long clients of a listener that has too many calls should wait: retries that come at once would
// keep it full.
const OverloadedHint = time.Second

// Trailer returns what the error's status carries.
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

// RoomError is the local error of a message for which the budget has no room. Any other error is returned as it is.
func RoomError(err error, whose string) error {
	switch {
	case errors.Is(err, budget.ErrOver):
		return ErrNoRoom
	case errors.Is(err, budget.ErrNever):
		return Errorf(codes.ResourceExhausted, ReasonMessageTooLarge, "%s takes more memory than there is for all", whose)
	}
	return err
}

// Printable bounds the length of a peer's text in a message.
func Printable(s string) string {
	const most = 256
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + "..."
	}
	return s
}

// ErrNoRoom ends a call for whose messages there is no memory.
var ErrNoRoom = &Error{codes.ResourceExhausted, ReasonOverloaded, "the messages of other calls take all memory that there is for them", OverloadedHint, "max_decoded_bytes"}

// ErrTimeout ends a call whose deadline has passed.
var ErrTimeout = Errorf(codes.DeadlineExceeded, ReasonTimeout, "deadline exceeded")

// ContextError is the local error of a call whose context has ended.
func ContextError(ctx context.Context) *Error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return ErrTimeout
	}
	return Errorf(codes.Canceled, ReasonCanceled, "canceled") // nobody hears it
}
