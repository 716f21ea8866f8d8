package handler

import (
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

// pushbackTrailer says when to try again, in milliseconds (gRFC A6).
const pushbackTrailer = "grpc-retry-pushback-ms"

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

// noRetry as a pushback says that trying again does not help.
const noRetry = time.Duration(-1)

// localError is a status that framegate makes itself.
type localError struct {
	code     codes.Code
	reason   Reason
	msg      string        // without the prefix
	pushback time.Duration // how long the client should wait before it tries again; 0 says nothing, noRetry never to
	limit    string        // the key of the limit that the call was over, of ReasonOverloaded
}

func (e *localError) Error() string { return "framegate: " + e.msg }

func localErrorf(code codes.Code, reason Reason, format string, args ...any) *localError {
	return &localError{code: code, reason: reason, msg: plain.Line(fmt.Sprintf(format, args...))}
}

// overloadedHint is how long clients of a listener that has too many calls should wait: retries that come at once would
// keep it full.
const overloadedHint = time.Second

// trailer returns what the error's status carries.
func (e *localError) trailer() metadata.MD {
	md := metadata.MD{ReasonTrailer: {string(e.reason)}}
	switch {
	case e.pushback == noRetry:
		md[pushbackTrailer] = []string{"-1"}
	case e.pushback > 0:
		md[pushbackTrailer] = []string{strconv.FormatInt((e.pushback + time.Millisecond - 1).Milliseconds(), 10)}
	}
	return md
}

// roomError is the local error of a message for which the budget has no room. Any other error is returned as it is.
func roomError(err error, whose string) error {
	switch {
	case errors.Is(err, budget.ErrOver):
		return errNoRoom
	case errors.Is(err, budget.ErrNever):
		return localErrorf(codes.ResourceExhausted, ReasonMessageTooLarge, "%s takes more memory than there is for all", whose)
	}
	return err
}

// printable bounds the length of a peer's text in a message.
func printable(s string) string {
	const most = 256
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + "..."
	}
	return s
}

// errNoRoom ends a call for whose messages there is no memory.
var errNoRoom = &localError{codes.ResourceExhausted, ReasonOverloaded, "the messages of other calls take all memory that there is for them", overloadedHint, "max_decoded_bytes"}
