package handler

import (
	"errors"

	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/codes"
)

// Errors of redirect.step that say what is wrong with the frames themselves.
var (
	errTooLarge  = errors.New("message is over the limit")
	errBadFlag   = errors.New("compressed flag of a frame is neither 0 nor 1")
	errTruncated = errors.New("stream ended within a message")
)

// readError and writeError tell whose stream failed.
type (
	readError  struct{ err error }
	writeError struct{ err error }
)

func (e readError) Error() string { return "read: " + e.err.Error() }

func (e readError) Unwrap() error { return e.err }

func (e writeError) Error() string { return "write: " + e.err.Error() }

func (e writeError) Unwrap() error { return e.err }

// messageError is the local error for messages that redirect or its taker refused, or nil for other errors.
func messageError(err error, framing Reason, whose string) *localError {
	var known *localError
	switch {
	case errors.As(err, &known):
		return known
	case errors.Is(err, errTooLarge):
		return localErrorf(codes.ResourceExhausted, ReasonMessageTooLarge, "%s %v", whose, err)
	case errors.Is(err, errBadFlag), errors.Is(err, errTruncated):
		return localErrorf(codes.Internal, framing, "%s: %v", whose, err)
	}
	return nil
}
