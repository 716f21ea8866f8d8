package frame

import (
	"errors"

	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/codes"

	"github.com/framegate/framegate/handler/local"
)

// Errors of Redirect.Step for frames that are malformed or too long.
var (
	ErrTooLarge  = errors.New("message is over the limit")
	ErrBadFlag   = errors.New("compressed flag of a frame is neither 0 nor 1")
	ErrTruncated = errors.New("stream ended within a message")
)

type (
	// ReadError says that the source failed: the peer that sends the frames.
	ReadError struct{ Err error }

	// WriteError says that the destination failed: the peer that receives the frames.
	WriteError struct{ Err error }
)

func (e ReadError) Error() string { return "read: " + e.Err.Error() }

func (e ReadError) Unwrap() error { return e.Err }

func (e WriteError) Error() string { return "write: " + e.Err.Error() }

func (e WriteError) Unwrap() error { return e.Err }

// LocalError returns the local error for a message that a Redirect or its Taker refused, or nil for any other error, such as a
// ReadError. framing is the reason for malformed frames; whose names the message in the error's text.
func LocalError(err error, framing local.Reason, whose string) *local.Error {
	var known *local.Error
	switch {
	case errors.As(err, &known):
		return known
	case errors.Is(err, ErrTooLarge):
		return local.Errorf(codes.ResourceExhausted, local.ReasonMessageTooLarge, "%s %v", whose, err)
	case errors.Is(err, ErrBadFlag), errors.Is(err, ErrTruncated):
		return local.Errorf(codes.Internal, framing, "%s: %v", whose, err)
	}
	return nil
}

// ErrEnded says that the call has ended, so that nothing is forwarded any more.
var ErrEnded = errors.New("the call has ended")
