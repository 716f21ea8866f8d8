// Package transport is the contract between package pool, which keeps connections to endpoints by a policy, and what makes
// those connections. Package kitexconn implements it with Kitex's HTTP/2.
package transport

import (
	"context"
	"net"

	"github.com/framegate/framegate/pool/policy"
)

// Dialer makes connections. It is safe for concurrent use.
type Dialer interface {
	// Dial connects to an endpoint (host:port or unix:/path) as the policy says, and waits until the endpoint is known to
	// speak HTTP/2, which takes at most ConnectTimeout. ctx is the connection's: Dial fails when it ends. p must not be
	// changed while the connection lives.
	//
	// The connection calls o from any goroutine, also before Dial returns, and without a lock held that a method of the Conn
	// takes. After a Dial that failed it does not call Ended.
	Dial(ctx context.Context, address string, p *policy.Policy, o Owner) (Conn, error)
}

// Conn is one connection to an endpoint. Its methods are called by any goroutine.
type Conn interface {
	// Open opens a stream in a slot that its owner has taken; the stream counts in Owner.Streams already. It does not wait.
	// The stream ends with ctx, whose deadline the endpoint is told. hdr is not changed, and not kept after Open.
	//
	// If it fails, nothing of the stream was sent, and the slot is still the caller's. The error is that of ctx if that has
	// ended, ErrOverLimit, a *HeaderError, or says that the connection takes no streams any more.
	Open(ctx context.Context, hdr *Header) (Stream, error)

	// MaxStreams returns the peer's MAX_CONCURRENT_STREAMS (RFC 9113 §6.5.2): math.MaxUint32 if it set none.
	MaxStreams() uint32

	// LocalAddr returns the address of this end, for the log.
	LocalAddr() net.Addr

	// Close closes a connection that has no streams and gets no more.
	Close()

	// CloseNow closes the connection. Its streams fail with err. It may be called more than once.
	CloseNow(err error)
}

// Owner is what a connection knows of the pool that it belongs to. Its methods do not block.
type Owner interface {
	// Streams returns how many slots are in use: the streams, and those that are being opened.
	Streams() int

	// Release gives back the slot of a stream that was opened.
	Release()

	// LimitChanged is called after Conn.MaxStreams has changed.
	LimitChanged()

	// Retire is called when the connection takes no new streams any more: the peer has sent a GOAWAY, the stream identifiers
	// run out, or the connection has ended. If that ends streams, they end after Retire has returned, so that a call does not
	// get the same connection again. It may be called more than once.
	Retire()

	// Ended is called once, with the reason, when the connection has ended. Retire was called before, and no goroutine of the
	// connection runs any more but the caller.
	Ended(err error)
}

// Stream is what package pool knows of a call's stream. The rest of it is between its transport and those who make calls.
type Stream interface {
	// Conn returns the stream's connection.
	Conn() Conn

	// Close ends the stream, if it has not ended, and gives back its slot. It is called exactly once.
	Close()
}

// Header is what a request begins with.
type Header struct {
	Authority   string
	Method      string // /pkg.Service/Method
	ContentType string // as the client wrote it; empty for application/grpc
	UserAgent   string // as the client wrote it; empty for the transport's own
	Encoding    string // grpc-encoding; empty for none

	// Metadata are the other fields, by their names in lower case, grpc-accept-encoding among them. The values of -bin names are
	// not base64. Pseudo-header fields and those that have a place above, or that the transport makes itself (te, grpc-timeout),
	// are not sent from here.
	Metadata map[string][]string
}
