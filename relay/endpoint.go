package relay

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/codes"
	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/metadata"
	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/status"
	"golang.org/x/net/http2"

	"github.com/framegate/framegate/handler/stream"
	"github.com/framegate/framegate/pool"
	"github.com/framegate/framegate/pool/transport"
	"github.com/framegate/framegate/relay/h2"
	"github.com/framegate/framegate/relay/h2/hpack"
	"github.com/framegate/framegate/resolver/plain"
)

// endpointStream is the endpoint's side of a call that package handler makes: a stream.Upstream.
type endpointStream struct {
	side
	memory h2.Stream
	conn   *upstreamConn
	heard  int64 // h2.Conn.Heard when it was opened
	unhook func() bool

	headed chan struct{} // closed when the headers of the answer have come, or the stream has ended
	done   chan struct{} // closed when the stream has ended

	// Guarded by the shard's mu until the channel is closed that says that they are set.
	md           metadata.MD // with headed
	encoding     string
	trailersOnly bool
	notGRPC      *status.Status // the headers are not those of gRPC
	hasHead      bool
	status       *status.Status // with done
	trailer      metadata.MD
	code         http2.ErrCode
	isReset      bool
	unprocessed  bool
}

var _ stream.Upstream = (*endpointStream)(nil)

// Open implements transport.Conn.
func (u *upstreamConn) Open(ctx context.Context, hdr *transport.Header) (transport.Stream, error) {
	s := u.shard
	s.lock()
	defer s.unlockSoon()
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case !u.takesStreams():
		return nil, transport.ConnectionError{Reason: "it takes no streams any more"}
	case uint32(u.h2.Streams()) >= u.MaxStreams():
		return nil, transport.ErrOverLimit
	}
	e := &endpointStream{conn: u, headed: make(chan struct{}), done: make(chan struct{})}
	e.init(u.shard, &e.memory)
	e.memory.Owner = e
	fields := append(s.scratch[:0], fieldPOST, fieldHTTP, s.fields.Field(":path", hdr.Method, false))
	if hdr.Authority != "" {
		fields = append(fields, s.fields.Field(":authority", hdr.Authority, false))
	}
	contentType := hdr.ContentType
	if contentType == "" {
		contentType = "application/grpc"
	}
	fields = append(fields, s.fields.Field("content-type", contentType, false), fieldTE)
	if hdr.UserAgent != "" {
		fields = append(fields, s.fields.Field("user-agent", hdr.UserAgent, false))
	}
	if hdr.Encoding != "" {
		fields = append(fields, s.fields.Field("grpc-encoding", hdr.Encoding, false))
	}
	if deadline, ok := ctx.Deadline(); ok {
		fields = append(fields, hpack.NewField("grpc-timeout", formatTimeout(time.Until(deadline)), false))
	}
	s.scratch = appendMetadata(fields, s.fields, without(hdr.Metadata, "content-type", "user-agent", "te", "grpc-timeout", "grpc-encoding"))
	s.handled[e] = struct{}{}
	e.heard = u.h2.Heard()
	u.h2.Open(&e.memory, s.scratch, false)
	u.opened()
	e.unhook = context.AfterFunc(ctx, func() { e.Reset(ctx.Err()) })
	return e, nil
}

// takesStreams reports whether the connection takes another stream. It may be about to end, and its pool not know yet.
func (u *upstreamConn) takesStreams() bool { return !u.h2.IsLeaving() && !u.shut && u.h2.IDsLeft() > 0 }

// hasRoom reports whether the connection takes another stream, and the endpoint allows one.
func (u *upstreamConn) hasRoom() bool {
	return u.takesStreams() && uint32(u.h2.Streams()) < u.MaxStreams()
}

// release gives back a slot for which there is no room. A connection that takes no streams any more is retired: its pool may not know
// yet, and would give the slot again.
func (u *upstreamConn) release(slot pool.Slot) {
	if !u.takesStreams() {
		u.pooled.Retire()
	}
	slot.Release()
}

var (
	fieldPOST = hpack.NewField(":method", "POST", false)
	fieldHTTP = hpack.NewField(":scheme", "http", false)
	fieldTE   = hpack.NewField("te", "trailers", false)
)

// head takes the headers or the trailers of the answer; nil if they are too long.
func (e *endpointStream) head(h *h2.Head) {
	switch {
	case h == nil:
		e.memory.Reset(http2.ErrCodeCancel)
		e.isReset, e.code = true, transport.HeadersTooLarge
		e.endsBareLocked(false)
		e.endLocked(status.New(codes.ResourceExhausted, "headers or trailers are too long"), nil)
		return
	case h.Status > 0 && h.Status < 200:
		return
	}
	if !e.hasHead {
		e.hasHead, e.trailersOnly = true, h.End
		if !hasGRPC(h.Fields) {
			problem := notGRPC(h, e.conn.address)
			e.notGRPC = status.New(problem.Code, problem.Message)
		}
		if !h.End {
			e.md = metadataOf(h.Fields, func(f *hpack.Field) bool { return f.Kind == hpack.Status || f.Kind == hpack.GRPCEncoding })
			for _, f := range h.Fields {
				if f.Kind == hpack.GRPCEncoding {
					e.encoding = f.Value
				}
			}
			close(e.headed)
			e.moved.Broadcast()
			return
		}
	}
	e.trailers(h.Fields)
}

// trailers takes the end of the answer.
func (e *endpointStream) trailers(fields []*hpack.Field) {
	code, _ := statusOf(fields)
	message := ""
	for _, f := range fields {
		if f.Kind == hpack.GRPCMessage {
			message = plain.FromPercent(f.Value)
		}
	}
	e.status = status.New(code, message)
	if e.notGRPC != nil {
		e.status = e.notGRPC
	}
	e.trailer = metadataOf(fields, func(f *hpack.Field) bool {
		return f.Kind == hpack.Status || f.Kind == hpack.GRPCStatus || f.Kind == hpack.GRPCMessage
	})
	e.ended = true
	e.closeLocked()
}

// data takes DATA of the answer.
func (e *endpointStream) data(p []byte, end bool) {
	e.dataLocked(p, false)
	if end {
		e.memory.Reset(http2.ErrCodeCancel)
		e.isReset, e.code = true, transport.BareEnd
		e.endLocked(status.New(codes.Internal, "the endpoint ended the stream without trailers"), nil)
	}
}

// resetBy is called when the stream was reset.
func (e *endpointStream) resetBy(r *h2.Reset) {
	if e.status != nil {
		return // the answer has ended before: the rest of the request is not wanted (RFC 9113 §8.1)
	}
	e.endsBareLocked(r.Unprocessed)
	switch {
	case r.Conn != nil:
		e.endLocked(status.New(codes.Unavailable, r.Conn.Text), transport.ConnectionError{Reason: r.Conn.Text})
	case !r.Peer: // for an error of the peer's
		st := status.New(codes.Internal, r.Text)
		e.endLocked(st, st.Err())
	case r.Unprocessed && r.Code != http2.ErrCodeRefusedStream: // a GOAWAY
		e.endLocked(status.New(codes.Unavailable, r.Error()), errLeftOut)
	default:
		e.isReset, e.code = true, codeOfReset(r)
		e.endLocked(status.New(codes.Internal, r.Error()), nil)
	}
}

// codeOfReset returns the code of a peer's RST_STREAM, which may be any number: those that package transport has a meaning for are
// INTERNAL_ERROR, as all are that nobody knows.
func codeOfReset(r *h2.Reset) http2.ErrCode {
	if r.Code == transport.BareEnd || r.Code == transport.HeadersTooLarge {
		return http2.ErrCodeInternal
	}
	return r.Code
}

// endsBareLocked notes how a stream ends that has no headers: others do not change what those who wait for headers read.
func (e *endpointStream) endsBareLocked(unprocessed bool) {
	if !e.hasHead {
		e.trailersOnly, e.unprocessed = true, unprocessed
	}
}

// errLeftOut says that the peer's GOAWAY left the stream out.
var errLeftOut = errors.New("relay: the endpoint's GOAWAY left the stream out")

// endLocked ends the stream, unless it has ended. Reads and writes fail with err; if it is nil, reads end behind what was received.
func (e *endpointStream) endLocked(st *status.Status, err error) {
	if e.status != nil { // its answer has ended
		return
	}
	e.status, e.ended = st, true
	if err != nil {
		e.failLocked(err)
	}
	e.closeLocked()
}

// closeLocked says that the stream has ended.
func (e *endpointStream) closeLocked() {
	select {
	case <-e.headed:
	default:
		close(e.headed)
	}
	select {
	case <-e.done:
	default:
		close(e.done)
		e.over = true
		e.unhook()
	}
	e.moved.Broadcast()
}

// Conn implements transport.Stream.
func (e *endpointStream) Conn() transport.Conn { return e.conn }

// Close implements transport.Stream.
func (e *endpointStream) Close() {
	e.Reset(io.ErrClosedPipe)
	e.shard.lock()
	e.memory.Reset(http2.ErrCodeCancel) // of a request that had not ended when the answer had
	e.received.Clear(e.shard.memory)    // nobody reads it any more
	delete(e.shard.handled, e)
	e.shard.unlockSoon()
	e.conn.pooled.Release()
}

// Address implements stream.Upstream.
func (e *endpointStream) Address() string { return e.conn.address }

// Write implements stream.Upstream.
func (e *endpointStream) Write(p []byte) error { return e.write(p, false) }

// CloseSend implements stream.Upstream.
func (e *endpointStream) CloseSend() error { return e.write(nil, true) }

// Read implements stream.Upstream.
func (e *endpointStream) Read(p []byte) (int, error) {
	if e.notGRPC != nil {
		return 0, e.notGRPC.Err()
	}
	return e.read(p)
}

// Header implements stream.Upstream.
func (e *endpointStream) Header() (metadata.MD, error) {
	<-e.headed
	e.shard.lock()
	defer e.shard.unlockSoon()
	switch {
	case e.notGRPC != nil:
		return nil, e.notGRPC.Err()
	case !e.hasHead && e.err != nil:
		return nil, e.err
	}
	return e.md, nil
}

// TrailersOnly implements stream.Upstream.
func (e *endpointStream) TrailersOnly() bool {
	<-e.headed
	return e.trailersOnly
}

// Encoding implements stream.Upstream.
func (e *endpointStream) Encoding() string { return e.encoding }

// Done implements stream.Upstream.
func (e *endpointStream) Done() <-chan struct{} { return e.done }

// Status implements stream.Upstream.
func (e *endpointStream) Status() *status.Status { return e.status }

// Trailer implements stream.Upstream.
func (e *endpointStream) Trailer() metadata.MD { return e.trailer }

// TrailerValues implements stream.Upstream.
func (e *endpointStream) TrailerValues(name string) []string {
	select {
	case <-e.done:
		return e.trailer[name]
	default:
		return nil
	}
}

// ResetCode implements stream.Upstream.
func (e *endpointStream) ResetCode() (http2.ErrCode, bool) { return e.code, e.isReset }

// Unprocessed implements stream.Upstream.
func (e *endpointStream) Unprocessed() bool {
	<-e.headed
	return e.unprocessed
}

// Silent implements stream.Upstream.
func (e *endpointStream) Silent() bool {
	e.shard.lock()
	defer e.shard.unlockSoon()
	return e.conn.h2.Heard() == e.heard
}

// Reset implements stream.Upstream.
func (e *endpointStream) Reset(err error) {
	e.shard.lock()
	defer e.shard.unlockSoon()
	select {
	case <-e.done:
		return
	default:
	}
	e.memory.Reset(http2.ErrCodeCancel)
	e.status = status.New(codes.Canceled, err.Error())
	e.failLocked(err)
	e.closeLocked()
}
