package leg

import (
	"context"
	"net"
	"sync"
	"time"

	"github.com/bytedance/gopkg/lang/mcache"
	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/metadata"
	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/status"

	"github.com/framegate/framegate/handler/frame"
	"github.com/framegate/framegate/handler/stream"
	"github.com/framegate/framegate/resolver/spec"
)

// Answer takes the answer of a leg: Headers unless there are only trailers, Data any number of times, and End exactly once.
// The methods are called one after the other.
type Answer interface {
	// Headers takes the headers of the answer, which it may keep and change.
	Headers(encoding string, md metadata.MD) error

	// Data takes bytes of the stream of frames, which are valid until it returns. It may block until the leg's context ends. An
	// error ends the leg.
	Data(p []byte) error

	// End takes the result. The trailers are not changed afterwards.
	End(st *status.Status, trailer metadata.MD)
}

// Request is what a leg sends.
type Request struct {
	Method, Subtype, Encoding, AcceptEncoding string
	Metadata                                  metadata.MD    // is the leg's: not used for anything else
	Remote                                    net.Addr       // the client's
	Conn                                      any            // the client's: stream.Downstream.Conn
	Opening                                   stream.Opening // of the client's side; nil if it is none
}

// RequestOf returns the request of a leg of a client's call, with metadata of its own.
func RequestOf(client stream.Downstream, md metadata.MD) Request {
	opening, _ := client.(stream.Opening)
	return Request{
		Method: client.Method(), Subtype: client.ContentSubtype(), Encoding: client.Encoding(), AcceptEncoding: client.AcceptEncoding(),
		Metadata: md, Remote: client.RemoteAddr(), Conn: client.Conn(), Opening: opening,
	}
}

// Leg is the client's side of a call that framegate makes: a stream.Downstream. Its maker pushes the messages of the request
// while the call reads them. It is safe for concurrent use.
type Leg struct {
	request Request
	ctx     context.Context
	cancel  context.CancelCauseFunc
	queue   queue
	piece   []byte // of Piece; owned by the response direction of the call

	answering sync.Mutex // held while a method of answer runs
	answer    Answer
	over      bool // the leg has ended; guarded by answering
}

var _ stream.Downstream = (*Leg)(nil)

// New returns a leg whose messages wait in a queue with those bounds, and in room, which may be nil. When ctx ends, the leg
// does. The call that serves it ends it with End.
func New(ctx context.Context, r Request, bounds spec.Queue, room Room, answer Answer) *Leg {
	l := &Leg{request: r, answer: answer, queue: queue{maxMessages: bounds.MaxMessages(), maxBytes: bounds.MaxBytes(), room: room}}
	l.queue.changed.L = &l.queue.mu
	l.ctx, l.cancel = context.WithCancelCause(ctx)
	l.queue.ctx = l.ctx
	return l
}

// Push adds a message to the request, or reports false if there is no room for it or the leg has ended. It does not block.
func (l *Leg) Push(m frame.Message) bool { return l.queue.push(m) }

// PushWhenRoom is Push that waits for room, until the deadline unless that is zero. A message that is longer than the queue waits
// until the queue is empty. It fails with ErrEnded when the leg has ended, and with ErrFull at the deadline.
func (l *Leg) PushWhenRoom(m frame.Message, deadline time.Time) error {
	return l.queue.pushWhenRoom(m, deadline)
}

// HalfClose ends the request. Push must not be called afterwards.
func (l *Leg) HalfClose() { l.queue.end() }

// Cancel ends the leg, and with it its call, because of cause.
func (l *Leg) Cancel(cause error) {
	l.cancel(cause)
	l.queue.close()
}

// Waiting returns what waits in the queue, and how long the message that was read last had waited.
func (l *Leg) Waiting() (messages int, bytes int64, lag time.Duration) {
	l.queue.mu.Lock()
	defer l.queue.mu.Unlock()
	return len(l.queue.waiting), l.queue.bytes, l.queue.lag
}

// Owing returns since when the endpoint owes something: to take a message that waits, or to go on with its answer when the
// request is complete. It reports false if it owes nothing.
func (l *Leg) Owing() (since time.Time, owes bool) {
	l.queue.mu.Lock()
	defer l.queue.mu.Unlock()
	return l.queue.moved, len(l.queue.waiting) > 0 || l.queue.ended
}

// moves notes that the endpoint has sent something.
func (l *Leg) moves() {
	l.queue.mu.Lock()
	defer l.queue.mu.Unlock()
	l.queue.moved = time.Now()
}

// Opening returns where the endpoint's streams are opened; nil for the proxy's own.
func (l *Leg) Opening() stream.Opening { return l.request.Opening }

// Context implements stream.Downstream.
func (l *Leg) Context() context.Context { return l.ctx }

// Method implements stream.Downstream.
func (l *Leg) Method() string { return l.request.Method }

// Metadata implements stream.Downstream.
func (l *Leg) Metadata() metadata.MD { return l.request.Metadata }

// ContentSubtype implements stream.Downstream.
func (l *Leg) ContentSubtype() string { return l.request.Subtype }

// Encoding implements stream.Downstream.
func (l *Leg) Encoding() string { return l.request.Encoding }

// AcceptEncoding implements stream.Downstream.
func (l *Leg) AcceptEncoding() string { return l.request.AcceptEncoding }

// RemoteAddr implements stream.Downstream.
func (l *Leg) RemoteAddr() net.Addr { return l.request.Remote }

// Conn implements stream.Downstream.
func (l *Leg) Conn() any { return l.request.Conn }

// RequestEnded implements stream.Downstream.
func (l *Leg) RequestEnded() bool {
	l.queue.mu.Lock()
	defer l.queue.mu.Unlock()
	return l.queue.ended
}

// RequestEmpty implements stream.Downstream.
func (l *Leg) RequestEmpty() bool {
	l.queue.mu.Lock()
	defer l.queue.mu.Unlock()
	return l.queue.ended && len(l.queue.waiting) == 0
}

// Read implements stream.Downstream.
func (l *Leg) Read(p []byte) (int, error) { return l.queue.fill(p) }

// Piece implements stream.Downstream. Its result is valid until the next Piece or Write.
func (l *Leg) Piece(n int) []byte {
	l.freePiece()
	l.piece = mcache.Malloc(n)
	return l.piece
}

// freePiece gives the last piece back.
func (l *Leg) freePiece() {
	if l.piece != nil {
		mcache.Free(l.piece)
		l.piece = nil
	}
}

// Write implements stream.Downstream.
func (l *Leg) Write(p []byte) error {
	defer l.freePiece()
	l.moves()
	l.answering.Lock()
	defer l.answering.Unlock()
	if l.over {
		return ErrEnded
	}
	return l.answer.Data(p)
}

// SendHeaders implements stream.Downstream.
func (l *Leg) SendHeaders(encoding string, md metadata.MD) error {
	l.moves()
	l.answering.Lock()
	defer l.answering.Unlock()
	if l.over {
		return ErrEnded
	}
	return l.answer.Headers(encoding, md)
}

// End implements stream.Downstream.
func (l *Leg) End(st *status.Status, trailer metadata.MD) {
	l.Cancel(ErrEnded) // before the lock: it ends a Data that blocks
	l.answering.Lock()
	defer l.answering.Unlock()
	if l.over {
		return
	}
	l.over = true
	l.answer.End(st, trailer)
}
