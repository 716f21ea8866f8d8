// Package stream has the two sides of a call as package handler and those below it see them, whatever the transport.
package stream

import (
	"context"
	"time"

	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/metadata"
	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/status"
	"golang.org/x/net/http2"

	"github.com/framegate/framegate/pool"
	"github.com/framegate/framegate/pool/policy"
	"github.com/framegate/framegate/pool/transport"
)

// Upstream is the endpoint's side of a call: a stream on a connection of package pool. At a time one goroutine may write and
// one may read; any goroutine may call the other methods.
type Upstream interface {
	transport.Stream

	// Address returns the address of the endpoint.
	Address() string

	// Write sends p as DATA, blocking while the stream's flow-control window is full. It takes p over, which package frame has
	// allocated: the caller must not change p any more. It fails when the stream has ended.
	Write(p []byte) error

	// CloseSend half-closes the stream. Write must not be called afterwards. It fails when the stream has ended.
	CloseSend() error

	// Read fills p with DATA or fails: with io.EOF if the stream has ended, with io.ErrUnexpectedEOF if it ended within p, with
	// a transport.ConnectionError if the connection broke, or with the error of Reset. A *status.Error says that the answer is
	// not one of gRPC, with the code that a gRPC client derives from it.
	Read(p []byte) (int, error)

	// Header waits for the headers of the answer and returns them, or fails as Read does. The caller may change them.
	Header() (metadata.MD, error)

	// TrailersOnly waits for the headers of the answer, and reports whether they are its trailers, too. It is false for a
	// stream that has ended without any.
	TrailersOnly() bool

	// Encoding returns the grpc-encoding of the answer, whose headers have come; empty for none.
	Encoding() string

	// Done returns a channel that is closed when the stream has ended.
	Done() <-chan struct{}

	// Status returns the status of a stream that has ended: that of the trailers, or one that the transport made.
	Status() *status.Status

	// Trailer returns the trailers of a stream that the endpoint has ended, without its status. The caller may change them.
	Trailer() metadata.MD

	// TrailerValues returns the values of one trailer of a stream that has ended, also by Reset.
	TrailerValues(name string) []string

	// ResetCode returns the code of a stream that has ended without trailers: that of the endpoint's RST_STREAM, or
	// transport.BareEnd or transport.HeadersTooLarge. It returns false for a stream that ended otherwise.
	ResetCode() (http2.ErrCode, bool)

	// Unprocessed reports whether the endpoint has certainly not processed the stream (RFC 9113 §8.7): it refused the stream,
	// or sent a GOAWAY with a lower stream identifier, and has sent no headers. It may block until the headers have come or the
	// stream has ended.
	Unprocessed() bool

	// Silent reports whether the peer has sent nothing on the stream's connection since the stream was opened: no DATA or
	// HEADERS on any stream, and no answer to a keepalive ping. It tells a stopped process from a slow method.
	Silent() bool

	// Reset ends the stream with RST_STREAM CANCEL, unless it has ended. A read or write that is blocked fails with err.
	Reset(err error)
}

// Opener opens streams to endpoints; see pool.Group, for the errors too.
type Opener interface {
	Open(ctx context.Context, addr string, hdr *transport.Header, opts pool.OpenOptions) (Upstream, error)

	// Patience is how long a call without a deadline waits for a stream; 0 if calls do not wait for one.
	Patience() time.Duration
}

// Opening is a Downstream whose calls go to endpoints on the connections of an Opener of its own.
type Opening interface {
	// Opener returns the Opener for backends with a policy; nil means the default policy.
	Opener(p *policy.Policy) Opener
}

// From returns an Opener of streams on the connections of g, whose transport's streams must implement Upstream.
func From(g *pool.Group) Opener { return opener{g} }

type opener struct{ *pool.Group }

// Open implements Opener.
func (o opener) Open(ctx context.Context, addr string, hdr *transport.Header, opts pool.OpenOptions) (Upstream, error) {
	s, err := o.Group.Open(ctx, addr, hdr, opts)
	if err != nil {
		return nil, err
	}
	return s.(Upstream), nil
}
