package reflection

import (
	"fmt"
	"strconv"

	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/codes"
)

// AnswerError is an error_response of the reflection service: the endpoint understood the question, and has no files for it.
type AnswerError struct {
	Asked   string     // what was asked for: `symbol "pkg.Service"` or `file "pkg/file.proto"`
	Code    codes.Code // NotFound if the endpoint does not have it
	Message string     // the endpoint's message, shortened
}

func (e *AnswerError) Error() string {
	return fmt.Sprintf("%s: the endpoint answers %v: %s", e.Asked, e.Code, strconv.Quote(e.Message))
}

// ProtocolError says that an answer cannot be used: it is malformed, answers another question, or has files that do not
// link. Asking again does not help until the endpoint is corrected.
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

// LimitError says that an endpoint's answers are over one of the bounds in budget.go.
type LimitError struct {
	What string // what there is too much of, with its unit: "bytes of answers"
	Max  int
}

func (e *LimitError) Error() string {
	return fmt.Sprintf("too many %s, want at most %d", e.What, e.Max)
}

// maxQuoted bounds a peer's text in an error, in bytes.
const maxQuoted = 200

// cut returns at most maxQuoted bytes of s.
func cut(s string) string {
	if len(s) > maxQuoted {
		return s[:maxQuoted] + "..."
	}
	return s
}

// shortened returns s in quotes, cut to maxQuoted bytes.
func shortened(s string) string { return strconv.Quote(cut(s)) }
