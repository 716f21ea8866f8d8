package reflection

import (
	"fmt"
	"strconv"

	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/codes"
)

// An AnswerError is an error_response: the endpoint understood the question and did not answer it.
type AnswerError struct {
	Asked   string     // what was asked for: `symbol "pkg.Service"` or `file "pkg/file.proto"`
	Code    codes.Code // NotFound if the endpoint does not have it
	Message string     // the endpoint's words, shortened
}

func (e *AnswerError) Error() string {
	return fmt.Sprintf("%s: the endpoint answers %v: %s", e.Asked, e.Code, strconv.Quote(e.Message))
}

// A ProtocolError is an answer that cannot be used: malformed, of another question, or with files that do not fit
// together. To ask again brings the same until the endpoint is mended.
type ProtocolError struct {
	Asked string // what was asked for, or the file or service that is wrong
	Err   error
}

func (e *ProtocolError) Error() string { return e.Asked + ": " + e.Err.Error() }

// Unwrap returns what is wrong.
func (e *ProtocolError) Unwrap() error { return e.Err }

func protocolErrorf(asked, format string, args ...any) *ProtocolError {
	return &ProtocolError{Asked: asked, Err: fmt.Errorf(format, args...)}
}

// A LimitError is an endpoint that sends more than one of the bounds.
type LimitError struct {
	What string // what there is too much of, with its unit: "bytes of answers"
	Max  int
}

func (e *LimitError) Error() string {
	return fmt.Sprintf("too many %s, want at most %d", e.What, e.Max)
}

// maxQuoted is how many bytes of a peer's text go into an error.
const maxQuoted = 200

// cut returns at most maxQuoted bytes of s.
func cut(s string) string {
	if len(s) > maxQuoted {
		return s[:maxQuoted] + "..."
	}
	return s
}

// shortened returns s quoted, and not all of it if it is long.
func shortened(s string) string { return strconv.Quote(cut(s)) }
