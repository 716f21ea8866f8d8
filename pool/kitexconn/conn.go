package kitexconn

import (
	"context"
	"errors"
	"net"
	"time"

	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/codes"
	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/grpc"
	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/metadata"
	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/status"

	"github.com/framegate/framegate/pool/h2conn"
	"github.com/framegate/framegate/pool/transport"
)

// Conn implements transport.Conn with a Kitex client transport.
type Conn struct {
	owner   transport.Owner
	address string
	tr      grpc.ClientTransport
	h2      *h2conn.Conn
	lost    chan struct{} // closed by onClose, when the transport has closed itself
	lostErr error         // why the connection ended; set before lost is closed
}

// wornStreamID is the stream identifier from which on a connection is retired. Identifiers are used once, and a client that
// has none left must make another connection (RFC 9113 §5.1.1), but Kitex breaks the connection. The identifiers above
// wornStreamID are left for streams that are being opened at that moment.
const wornStreamID = 1<<31 - 1<<20

// Open implements transport.Conn. It does not wait, because the transport has room for the stream (see h2conn.Conn.Reserve).
// The returned Stream is a *Stream.
func (c *Conn) Open(ctx context.Context, hdr *transport.Header) (transport.Stream, error) {
	c.h2.Reserve()
	defer c.h2.Unreserve()
	if uint32(c.owner.Streams()) > c.h2.MaxStreams() {
		return nil, transport.ErrOverLimit
	}
	s := &Stream{conn: c, heard: c.h2.Heard()}
	s.hdr = grpc.CallHdr{Host: hdr.Authority, Method: hdr.Method, ContentSubtype: subtype(hdr.ContentType)}
	var err error
	if s.kitex, err = c.tr.NewStream(outgoing(ctx, hdr), &s.hdr); err != nil {
		return nil, openError(ctx, err)
	}
	if streamID(s.kitex) >= wornStreamID {
		c.owner.Retire()
	}
	return s, nil
}

// outgoing returns ctx with the metadata of a call.
//
// Kitex would write a grpc-accept-encoding of its own if CallHdr.SendCompress were set, and drops grpc-encoding from
// metadata. It looks for reserved names before it converts names to lower case, so the name "Grpc-Encoding" is not dropped,
// and the endpoint gets grpc-encoding.
func outgoing(ctx context.Context, hdr *transport.Header) context.Context {
	if hdr.Metadata != nil {
		ctx = metadata.NewOutgoingContext(ctx, hdr.Metadata)
	}
	if hdr.Encoding != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, "Grpc-Encoding", hdr.Encoding)
	}
	return ctx
}

// subtype returns the content subtype in the content-type of a gRPC request, as Kitex's server finds it.
func subtype(contentType string) string {
	const grpc = "application/grpc"
	if len(contentType) <= len(grpc) {
		return ""
	}
	return contentType[len(grpc)+1:] // behind a + or a ;
}

// openError returns the error of Open for one of Kitex's.
func openError(ctx context.Context, err error) error {
	if ctxErr := ctx.Err(); ctxErr != nil {
		return ctxErr
	}
	var st *status.Error
	if errors.As(err, &st) && st.GRPCStatus().Code() == codes.Internal {
		return &transport.HeaderError{Err: errors.New(st.GRPCStatus().Message())}
	}
	return err // the transport is closing, or has got a GOAWAY
}

// MaxStreams implements transport.Conn. It is 0 until the peer's SETTINGS have come.
func (c *Conn) MaxStreams() uint32 { return c.h2.MaxStreams() }

// LocalAddr implements transport.Conn.
func (c *Conn) LocalAddr() net.Addr { return c.h2.LocalAddr() }

// Close implements transport.Conn.
func (c *Conn) Close() { c.tr.GracefulClose() }

// CloseNow implements transport.Conn.
func (c *Conn) CloseNow(err error) { _ = c.tr.Close(err) }

// errCrashed is the error of calls on a connection whose transport has crashed: one of its goroutines has panicked.
var errCrashed = transport.ConnectionError{Reason: "its transport has failed"}

// overGrace is how long the transport of a connection that is over may take to read what the peer sent before, and to close
// itself.
const overGrace = time.Second

// monitor is a goroutine of the connection. It runs the keepalive until the connection is over or a ping is not answered,
// makes sure that the transport is closed, and tells the owner.
func (c *Conn) monitor(k h2conn.Keepalive) {
	err := c.h2.RunKeepalive(c.h2.Over(), k, c.owner.Streams)
	if err == nil {
		c.owner.Retire()
		err = c.awaitEnd()
	}
	if err != nil {
		c.CloseNow(err)
	}
	<-c.lost
	c.owner.Ended(c.lostErr)
}

// awaitEnd waits until the transport of a connection that is over has closed itself, and returns nil, or the error with which
// it is to be closed because it does not do so.
func (c *Conn) awaitEnd() error {
	grace := time.NewTimer(overGrace)
	defer grace.Stop()
	select {
	case <-c.h2.Crashed():
		return errCrashed
	case <-c.lost:
		return nil
	case <-grace.C:
		return grpc.ErrConnClosing
	}
}

// onClose is called when the transport closes itself, before it ends its streams.
func (c *Conn) onClose(err error) {
	c.lostErr = err
	close(c.lost)
	c.owner.Retire()
}

func (c *Conn) isLost() bool {
	select {
	case <-c.lost:
		return true
	default:
		return false
	}
}
