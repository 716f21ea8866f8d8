package fanout

import (
	"context"
	"io"
	"maps"
	"sync"
	"time"

	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/codes"
	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/metadata"
	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/status"
	"golang.org/x/net/http2"

	"github.com/framegate/framegate/handler/budget"
	"github.com/framegate/framegate/handler/fanout/wire"
	"github.com/framegate/framegate/handler/frame"
	"github.com/framegate/framegate/handler/leg"
	"github.com/framegate/framegate/handler/local"
	"github.com/framegate/framegate/handler/stream"
	"github.com/framegate/framegate/handler/structmode/compress"
	"github.com/framegate/framegate/handler/workers"
	"github.com/framegate/framegate/pool/transport"
	"github.com/framegate/framegate/resolver/cluster"
	"github.com/framegate/framegate/resolver/spec"
)

// Target is one of the places that a call goes to.
type Target struct {
	Name     string                   // as it appears in replies
	To       *cluster.Target          // nil for one that is not called
	Failed   *status.Status           // of one that is not called
	Metadata metadata.MD              // of its request, in place of values of the same names; may be nil
	Wants    func(frame.Message) bool // which messages of the request it gets; nil means all
}

// Config says where a call goes and how the answers are joined.
type Config struct {
	Targets    []Target
	Mode       spec.FanoutMode
	Fields     wire.Fields // of mode aggregate
	Order      spec.FanoutOrder
	Quorum     int
	MinSuccess int
	SlowTarget spec.SlowTarget
	Queue      spec.Queue
	Unary      bool // the method answers with one message
	Decodes    bool // the answer is decoded: targets are told only of encodings for which that is possible

	MaxBytes int64          // of a message that is held whole
	Budget   *budget.Budget // of the messages that are held; nil for no bound

	Client stream.Downstream
	// Serve takes the leg of a target of that name to its end, at an endpoint of t.
	Serve func(l *leg.Leg, name string, t *cluster.Target)
}

// Stream is a call at several targets: a stream.Upstream.
//
//	open ─> ended     by the joiner, with a status; or by Reset or the end of the context, with an error
type Stream struct {
	ctx     context.Context
	cfg     Config
	join    joiner
	targets []*target
	unhook  func() bool
	work    sync.WaitGroup // goroutines of legs
	done    chan struct{}  // closed when the stream has ended

	// Of the request; owned by the goroutine that writes.
	request frame.Assembler

	mu        sync.Mutex // guards the fields below
	changed   sync.Cond  // signals changes of the fields below; its lock is mu
	began     bool       // headers and encoding are set
	headers   metadata.MD
	encoding  string
	out       outbox
	ended     bool
	status    *status.Status
	trailer   metadata.MD
	err       error        // why the stream ended without a status
	failure   *local.Error // that the status is of; nil for one that targets made
	left      int          // targets that have not ended
	room      budget.Keep
	held      int64 // of room
	requested int64 // the part of held that is for the request
}

// joiner makes one answer of those of the targets. Its methods are called by the goroutines of legs.
type joiner interface {
	// message takes a message of a target, which is decompressed if plain says so. It may block while the client does not read.
	// An error ends the target's leg.
	message(t *target, m frame.Message) error

	// end is called when a target has ended, with t.status. It may block, as message may.
	end(t *target)

	// plain reports whether messages are to be decompressed.
	plain() bool
}

var _ stream.Upstream = (*Stream)(nil)

// Open begins a call at all targets. hdr is what the call would send to one endpoint. The stream ends with ctx; the caller
// closes it.
func Open(ctx context.Context, cfg Config, hdr *transport.Header) *Stream {
	s := &Stream{ctx: ctx, cfg: cfg, done: make(chan struct{}), left: len(cfg.Targets)}
	s.changed.L = &s.mu
	s.request.To = (*request)(s)
	s.room.Of(cfg.Budget)
	s.join = newJoiner(s)
	s.targets = make([]*target, len(cfg.Targets))
	for i := range cfg.Targets {
		t := &target{of: s, Target: &cfg.Targets[i], place: i}
		t.answer.To = (*answer)(t)
		s.targets[i] = t
		if t.To == nil {
			continue
		}
		md := make(metadata.MD, len(hdr.Metadata)+len(t.Metadata))
		maps.Copy(md, hdr.Metadata)
		maps.Copy(md, t.Metadata)
		request := leg.RequestOf(cfg.Client, md)
		delete(md, "grpc-accept-encoding") // which the leg's own takes the place of
		if s.join.plain() || cfg.Decodes {
			request.AcceptEncoding = compress.Known(request.AcceptEncoding)
		}
		t.leg = leg.New(ctx, request, cfg.Queue, nil, t)
	}
	s.unhook = context.AfterFunc(ctx, func() { s.fail(context.Cause(ctx)) })
	for _, t := range s.targets { // when all are there: one that ends at once looks at the others
		workers.Go(&s.work, func() {
			if t.To == nil {
				t.End(t.Failed, nil)
				return
			}
			cfg.Serve(t.leg, t.Name, t.To)
		})
	}
	return s
}

// hold changes how much of the budget the messages take by n bytes; it reports false, and changes nothing, if there is no room.
func (s *Stream) hold(n int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.room.Hold(s.held + n) {
		return false
	}
	s.held += n
	return true
}

// fail ends the stream with an error, unless it has ended.
func (s *Stream) fail(err error) {
	s.mu.Lock()
	s.endLocked(nil, nil, err)
	s.mu.Unlock()
	s.cancelAll()
}

// refuse ends the stream with a local error, unless it has ended.
func (s *Stream) refuse(e *local.Error) {
	s.mu.Lock()
	if s.endLocked(e.Status(), e.Trailer(), nil) {
		s.failure = e
	}
	s.mu.Unlock()
	s.cancelAll()
}

// endLocked ends the stream with a status or with err, and reports whether it has not ended before; cancelAll follows, without mu. When the context of the call is over,
// which ends the legs as well, there is no status: what they make of that is not the result of the call, and the context ends the stream.
func (s *Stream) endLocked(st *status.Status, trailer metadata.MD, err error) bool {
	if s.ended || err == nil && s.over() {
		return false
	}
	s.ended, s.status, s.trailer, s.err = true, st, trailer, err
	if err != nil {
		s.out.drop()
	}
	close(s.done)
	s.changed.Broadcast()
	return true
}

// over reports whether the context of the call has ended, or is about to, because its deadline has passed.
func (s *Stream) over() bool {
	deadline, ok := s.ctx.Deadline()
	return s.ctx.Err() != nil || ok && !time.Now().Before(deadline)
}

func (s *Stream) cancelAll() {
	for _, t := range s.targets {
		if t.leg != nil {
			t.leg.Cancel(leg.ErrEnded)
		}
	}
}

// beginLocked sets the headers of the answer, once.
func (s *Stream) beginLocked(encoding string, headers metadata.MD) {
	if s.began {
		return
	}
	s.began, s.encoding, s.headers = true, encoding, headers
	s.changed.Broadcast()
}

// emit sends a message to the client, and waits until the client has read it. It fails with leg.ErrEnded when the stream has ended.
func (s *Stream) emit(m frame.Message) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return leg.ErrEnded
	}
	o := s.putLocked(m)
	for !s.ended && !o.gone {
		s.changed.Wait()
	}
	if s.err != nil {
		return leg.ErrEnded
	}
	return nil
}

// putLocked adds a message to those for the client.
func (s *Stream) putLocked(m frame.Message) *outgoing {
	s.beginLocked("", nil)
	s.changed.Broadcast()
	return s.out.add(m)
}

// Failure returns the local error that the stream's status is of; nil if targets made it.
func (s *Stream) Failure() *local.Error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failure
}

// Counts returns how many targets were asked, and how many of them have ended with OK.
func (s *Stream) Counts() (asked, answered int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, t := range s.targets {
		if t.over && t.status.Code() == codes.OK {
			answered++
		}
	}
	return len(s.targets), answered
}

// Address implements stream.Upstream.
func (s *Stream) Address() string { return "" }

// Conn implements transport.Stream: there is no one connection.
func (s *Stream) Conn() transport.Conn { return nil }

// Close implements transport.Stream. It waits for the legs.
func (s *Stream) Close() {
	s.unhook()
	s.fail(leg.ErrEnded)
	s.work.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.out.drop()
	s.room.Hold(0)
}

// CloseSend implements stream.Upstream.
func (s *Stream) CloseSend() error {
	for _, t := range s.targets {
		if t.leg != nil {
			t.leg.HalfClose()
		}
	}
	return nil
}

// Read implements stream.Upstream.
func (s *Stream) Read(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for n < len(p) {
		switch {
		case s.out.any():
			k, whole := s.out.take(p[n:])
			if n += k; whole {
				s.changed.Broadcast()
			}
		case s.err != nil:
			return n, s.err
		case s.ended && n == 0:
			return 0, io.EOF
		case s.ended:
			return n, io.ErrUnexpectedEOF
		default:
			s.changed.Wait()
		}
	}
	return n, nil
}

// Header implements stream.Upstream.
func (s *Stream) Header() (metadata.MD, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for !s.began && !s.ended {
		s.changed.Wait()
	}
	if s.err != nil {
		return nil, s.err
	}
	if s.headers == nil {
		return metadata.MD{}, nil
	}
	return s.headers, nil
}

// TrailersOnly implements stream.Upstream.
func (s *Stream) TrailersOnly() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for !s.began && !s.ended {
		s.changed.Wait()
	}
	return !s.began && s.err == nil
}

// Encoding implements stream.Upstream.
func (s *Stream) Encoding() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.encoding
}

// Done implements stream.Upstream.
func (s *Stream) Done() <-chan struct{} { return s.done }

// Status implements stream.Upstream.
func (s *Stream) Status() *status.Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.status == nil {
		return status.New(codes.Canceled, "the call has ended")
	}
	return s.status
}

// Trailer implements stream.Upstream.
func (s *Stream) Trailer() metadata.MD {
	s.mu.Lock()
	defer s.mu.Unlock()
	md := metadata.MD{}
	maps.Copy(md, s.trailer)
	return md
}

// TrailerValues implements stream.Upstream.
func (s *Stream) TrailerValues(name string) []string { return s.Trailer()[name] }

// ResetCode implements stream.Upstream.
func (s *Stream) ResetCode() (http2.ErrCode, bool) { return 0, false }

// Unprocessed implements stream.Upstream: targets may have processed what they got.
func (s *Stream) Unprocessed() bool { return false }

// Silent implements stream.Upstream.
func (s *Stream) Silent() bool { return false }

// Reset implements stream.Upstream.
func (s *Stream) Reset(err error) { s.fail(err) }
