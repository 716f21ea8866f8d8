package transport

import (
	"errors"
	"math"

	"golang.org/x/net/http2"
)

// ErrOverLimit says that the peer has lowered its MAX_CONCURRENT_STREAMS after a slot was taken. Another connection, or the
// same one later, may have room for the stream.
var ErrOverLimit = errors.New("over the peer's limit on streams")

// HeaderError says that the call's headers are longer than the endpoint's MAX_HEADER_LIST_SIZE. The call was not sent.
// Another connection to the endpoint would not help.
type HeaderError struct{ Err error }

func (e *HeaderError) Error() string { return e.Err.Error() }
func (e *HeaderError) Unwrap() error { return e.Err }

// ConnectionError says that a stream has ended because its connection has.
type ConnectionError struct{ Reason string }

func (e ConnectionError) Error() string { return "the connection broke: " + e.Reason }

// Codes of a stream that its endpoint ended in a way for which HTTP/2 has no error code.
const (
	// BareEnd stands for DATA with END_STREAM: that is valid HTTP/2, but without the trailers that gRPC requires.
	BareEnd = http2.ErrCode(math.MaxUint32)

	// HeadersTooLarge stands for headers or trailers that are longer than Policy.MaxHeaderBytes.
	HeadersTooLarge = http2.ErrCode(math.MaxUint32 - 1)
)
