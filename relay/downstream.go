package relay

import (
	"context"
	"net"
	"strings"
	"time"

	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/codes"
	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/metadata"
	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/status"
	"google.golang.org/protobuf/proto"

	"github.com/framegate/framegate/handler/frame"
	"github.com/framegate/framegate/handler/local"
	"github.com/framegate/framegate/handler/stream"
	"github.com/framegate/framegate/pool/policy"
	"github.com/framegate/framegate/relay/h2"
	"github.com/framegate/framegate/relay/h2/hpack"
	"github.com/framegate/framegate/resolver/plain"
)

// downstream is the client's side of a call that package handler makes: a stream.Downstream.
type downstream struct {
	side
	call   *call
	ctx    context.Context
	cancel context.CancelFunc
	unhook func() bool // spares a goroutine when ctx ends with the call

	// Of the request; set once.
	method, contentType, encoding, acceptEncoding string
	md                                            metadata.MD

	abort func(*local.Error) // ends the call from another goroutine; nil before the handler has begun; guarded by the shard's mu

	idle, age time.Duration // the route's idle_timeout and max_stream_age; 0 for none

	until int64 // the deadline, on the shards' clock; 0 for none

	// Guarded by the shard's mu.
	over    bool   // End was called
	unread  bool   // End is called because nobody reads
	lingers bool   // End has left a part of a message, and a status behind it
	writing []byte // what Write waits to write; it follows what waits in the stream's queue
}

var _ stream.Downstream = (*downstream)(nil)

// Opener implements stream.Opening: the endpoint's stream is of the client's shard, if that has connections.
func (d *downstream) Opener(p *policy.Policy) stream.Opener { return stream.From(d.shard.groupOf(p)) }

// SetAbort implements handler.Abortable.
func (d *downstream) SetAbort(abort func(*local.Error)) {
	d.shard.lock()
	defer d.shard.unlockSoon()
	d.abort = abort
}

// Context implements stream.Downstream.
func (d *downstream) Context() context.Context { return d.ctx }

// Method implements stream.Downstream.
func (d *downstream) Method() string { return d.method }

// Metadata implements stream.Downstream.
func (d *downstream) Metadata() metadata.MD { return d.md }

// ContentSubtype implements stream.Downstream.
func (d *downstream) ContentSubtype() string {
	rest := strings.TrimPrefix(d.contentType, "application/grpc")
	return strings.TrimPrefix(strings.TrimPrefix(rest, "+"), ";")
}

// Encoding implements stream.Downstream.
func (d *downstream) Encoding() string { return d.encoding }

// AcceptEncoding implements stream.Downstream.
func (d *downstream) AcceptEncoding() string { return d.acceptEncoding }

// RemoteAddr implements stream.Downstream.
func (d *downstream) RemoteAddr() net.Addr { return d.call.at.peer }

// Conn implements stream.Downstream.
func (d *downstream) Conn() any { return d.call.at }

// RequestEnded implements stream.Downstream.
func (d *downstream) RequestEnded() bool {
	d.shard.lock()
	defer d.shard.unlockSoon()
	return d.ended
}

// RequestEmpty implements stream.Downstream.
func (d *downstream) RequestEmpty() bool {
	d.shard.lock()
	defer d.shard.unlockSoon()
	return d.ended && d.received.Len() == 0
}

// Read implements stream.Downstream.
func (d *downstream) Read(p []byte) (int, error) { return d.read(p) }

// Piece implements stream.Downstream.
func (d *downstream) Piece(n int) []byte { return make([]byte, n) }

// Write implements stream.Downstream.
func (d *downstream) Write(p []byte) error {
	d.shard.lock()
	defer d.shard.unlockSoon()
	d.writing = p
	err := d.writableLocked()
	if d.writing = nil; err == nil {
		from := d.call.response.place
		d.call.response.skip(p)
		d.call.writeAnswer(from, p)
	}
	return err
}

// SendHeaders implements stream.Downstream.
func (d *downstream) SendHeaders(encoding string, md metadata.MD) error {
	d.shard.lock()
	defer d.shard.unlockSoon()
	if d.err != nil {
		return d.err
	}
	s := d.shard
	contentType := d.contentType
	if v := md["content-type"]; len(v) > 0 {
		contentType = v[0]
	}
	out := append(s.scratch[:0], fieldOK, s.fields.Field("content-type", contentType, false))
	if encoding != "" {
		out = append(out, s.fields.Field("grpc-encoding", encoding, false))
	}
	s.scratch = appendMetadata(out, s.fields, without(md, "content-type", "grpc-encoding"))
	d.stream.WriteHeaders(s.scratch, false)
	return nil
}

// without returns md without some names. It does not change md.
func without(md metadata.MD, names ...string) metadata.MD {
	out := make(metadata.MD, len(md))
	for name, v := range md {
		out[name] = v
	}
	for _, name := range names {
		delete(out, name)
	}
	return out
}

// End implements stream.Downstream.
func (d *downstream) End(st *status.Status, trailer metadata.MD) {
	d.shard.lock()
	defer d.shard.unlockSoon()
	if d.over {
		return
	}
	d.over = true
	d.unhook()
	d.cancel()
	if !d.stream.IsOpen() {
		return
	}
	defer d.failLocked(frame.ErrEnded)
	if d.stream.Ended() { // call.fail was the first
		d.lingers = d.stream.Queued() > 0
		return
	}
	if len(trailer[local.ReasonTrailer]) > 0 { // the error takes the place of what the client has not read
		d.call.dropAnswer(d.unread)
		d.lingers = d.stream.Queued() > 0
	}
	s := d.shard
	out := s.scratch[:0]
	answered := d.stream.Answered()
	if !answered {
		contentType := d.contentType
		if v := trailer["content-type"]; len(v) > 0 {
			contentType = v[0] // of an answer of trailers only
		}
		out = append(out, fieldOK, s.fields.Field("content-type", contentType, false))
	}
	out = append(out, statusField(st.Code()))
	if m := st.Message(); m != "" {
		out = append(out, hpack.NewField("grpc-message", plain.Percent(m), false))
	}
	if p := st.Proto(); p != nil && len(p.Details) > 0 && len(trailer["grpc-status-details-bin"]) == 0 {
		if b, err := proto.Marshal(p); err == nil {
			out = appendMetadata(out, s.fields, metadata.MD{"grpc-status-details-bin": {string(b)}})
		}
	}
	s.scratch = appendMetadata(out, s.fields, without(trailer, "grpc-status", "grpc-message", "content-type"))
	if answered {
		d.stream.WriteTrailers(s.scratch)
	} else {
		d.stream.WriteHeaders(s.scratch, true)
	}
}

// reset is called when the client's stream has ended before its call. The shard's mu is held.
func (d *downstream) reset(r *h2.Reset) {
	d.failLocked(status.New(codes.Canceled, r.Error()).Err())
	d.cancel()
}
