package stream

import (
	"context"
	"net"

	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/metadata"
	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/status"
)

// Downstream is the client's side of a call. At a time one goroutine may read and one may write; any goroutine may call the
// other methods.
type Downstream interface {
	// Context returns the context of the call, which has the client's deadline. It ends when the client cancels the call or its
	// connection breaks, when the deadline passes, and after End.
	Context() context.Context

	// Method returns the path of the request: /pkg.Service/Method if it is one of gRPC.
	Method() string

	// Metadata returns the fields of the request by their names in lower case, with :authority, content-type and user-agent but
	// without the encodings. It may be nil, and it is the call's: the caller may change it.
	Metadata() metadata.MD

	// ContentSubtype returns what follows application/grpc+ in the request's content-type; empty for application/grpc.
	ContentSubtype() string

	// Encoding returns the grpc-encoding of the request; empty for none.
	Encoding() string

	// AcceptEncoding returns the grpc-accept-encoding of the request; empty for none.
	AcceptEncoding() string

	// RemoteAddr returns the address that the client's connection comes from; nil if it has none.
	RemoteAddr() net.Addr

	// Conn returns a value, which can be compared, that stands for the client's connection.
	Conn() any

	// RequestEnded reports whether the client has half-closed. If so, the rest of the request is in memory, at most as much as
	// a stream's flow-control window.
	RequestEnded() bool

	// RequestEmpty reports whether the client has half-closed without sending any data. It must be called before the first
	// Read. A request that is empty must not be read.
	RequestEmpty() bool

	// Read fills p with DATA or fails: with io.EOF if the client has half-closed, with io.ErrUnexpectedEOF if it has within p.
	Read(p []byte) (int, error)

	// Piece returns n bytes for Write.
	Piece(n int) []byte

	// Write sends p as DATA, blocking while the client's flow-control window is full. It takes p over, which Piece must have
	// returned. It fails when the call has ended.
	Write(p []byte) error

	// SendHeaders sends the headers of the answer, with that grpc-encoding unless it is empty, before the first Write. It keeps
	// md. It fails when the call has ended.
	SendHeaders(encoding string, md metadata.MD) error

	// End ends the call with a status and trailers, neither of which it changes. Later calls of End do nothing.
	End(st *status.Status, trailer metadata.MD)
}
