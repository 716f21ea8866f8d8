package fanout

import (
	"errors"
	"sync/atomic"

	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/codes"
	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/metadata"
	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/status"
	"google.golang.org/protobuf/proto"

	"github.com/framegate/framegate/handler/fanout/wire"
	"github.com/framegate/framegate/handler/frame"
	"github.com/framegate/framegate/handler/leg"
	"github.com/framegate/framegate/handler/local"
	"github.com/framegate/framegate/handler/structmode/compress"
)

// target is a Target of a call that is under way: the leg.Answer of its leg. Fields without a comment belong to the goroutine
// that reads the answer.
type target struct {
	*Target
	of    *Stream
	place int      // in the order of the targets
	leg   *leg.Leg // nil for one that is not called

	encoding string
	headers  metadata.MD
	answer   frame.Assembler
	err      error // that ended the answer
	messages int

	failed atomic.Pointer[local.Error] // why framegate ended the target's part of the call; nil if it did not

	// guarded by the stream's mu
	over    bool
	status  *status.Status
	trailer metadata.MD
	reply   frame.Message // of a method that answers with one message; quorum has it in its ballot
	ballot  ballot        // see quorum; owned by the goroutine that reads the answer
}

// fail ends the target's part of the call because of e.
func (t *target) fail(e *local.Error) {
	t.failed.CompareAndSwap(nil, e)
	t.leg.Cancel(e)
}

// Headers implements leg.Answer.
func (t *target) Headers(encoding string, md metadata.MD) error {
	t.encoding, t.headers = encoding, md
	return nil
}

// Data implements leg.Answer.
func (t *target) Data(p []byte) error {
	t.answer.Add(p)
	return t.err
}

// answer is a target as the frame.Messages of its answer.
type answer target

// Wants implements frame.Messages.
func (a *answer) Wants(length int64) bool {
	switch {
	case a.err != nil:
	case length > a.of.cfg.MaxBytes:
		a.end(local.Errorf(codes.ResourceExhausted, local.ReasonMessageTooLarge, "response %v", frame.ErrTooLarge))
	case !a.of.hold(length):
		a.end(local.ErrNoRoom)
	default:
		return true
	}
	return false
}

// Message implements frame.Messages.
func (a *answer) Message(m frame.Message) {
	t := (*target)(a)
	if m.Flag == 1 && t.of.join.plain() {
		plain, e := t.decompress(m.Payload)
		if e != nil {
			a.end(e)
			return
		}
		m = frame.Message{Payload: plain}
	}
	if t.messages++; t.of.cfg.Unary && t.messages > 1 {
		a.end(errManyReplies)
		return
	}
	if err := t.of.join.message(t, m); err != nil {
		a.end(err)
	}
}

// end ends the answer, and with it the target's part of the call.
func (a *answer) end(err error) {
	var mine *local.Error
	if errors.As(err, &mine) {
		a.failed.CompareAndSwap(nil, mine)
	}
	a.err = err
}

// decompress returns the message decompressed, and holds what that takes.
func (t *target) decompress(payload []byte) ([]byte, *local.Error) {
	codec, ok := compress.Get(t.encoding)
	if !ok {
		return nil, local.Errorf(codes.Internal, local.ReasonDecodeFailed, "response: grpc-encoding %q is not known", local.Printable(t.encoding))
	}
	plain, err := codec.Decompress(payload, t.of.cfg.MaxBytes)
	switch {
	case errors.Is(err, compress.ErrTooLarge):
		return nil, local.Errorf(codes.ResourceExhausted, local.ReasonMessageTooLarge, "response %v", frame.ErrTooLarge)
	case err != nil:
		return nil, local.Errorf(codes.Internal, local.ReasonDecodeFailed, "response: cannot be decompressed")
	case !t.of.hold(int64(len(plain) - len(payload))):
		return nil, local.ErrNoRoom
	}
	if plain == nil {
		plain = []byte{}
	}
	return plain, nil
}

// End implements leg.Answer.
func (t *target) End(st *status.Status, trailer metadata.MD) {
	if e := t.failed.Load(); e != nil {
		st, trailer = e.Status(), e.Trailer()
	}
	s := t.of
	s.mu.Lock()
	t.over, t.status, t.trailer = true, st, trailer
	if s.cfg.Unary && st.Code() == codes.OK && t.messages == 0 {
		t.reject(errNoReply)
	}
	s.mu.Unlock()
	s.join.end(t)
}

// replies takes the message of a method that answers with one.
func (t *target) replies(m frame.Message) {
	t.of.mu.Lock()
	defer t.of.mu.Unlock()
	t.reply = m
}

var (
	errManyReplies = local.Errorf(codes.Internal, local.ReasonBadResponseFraming, "response: more than one message of a method that has one")
	errNoReply     = local.Errorf(codes.Internal, local.ReasonBadResponseFraming, "response: no message")
)

// reject replaces the OK with which a target has ended, because its answer cannot be used.
func (t *target) reject(e *local.Error) { t.status, t.trailer = e.Status(), e.Trailer() }

// origin says who the target is, and how it failed if it did.
func (t *target) origin() wire.Origin {
	o := wire.Origin{Node: t.Name}
	if t.status != nil && t.status.Code() != codes.OK {
		if o.Error = t.status.Message(); o.Error == "" {
			o.Error = local.CodeName(t.status.Code())
		}
		st := t.status.Proto()
		st.Message = wire.Text(st.Message)
		o.Status, _ = proto.Marshal(st) // cannot fail: its details were decoded, and its text is UTF-8
	}
	return o
}

// badness orders codes from those that say least of a failure to those that say most. The worst status of several targets is that
// of the highest badness.
var badness = func() map[codes.Code]int {
	order := []codes.Code{
		codes.OK, codes.Canceled, codes.Unimplemented, codes.NotFound, codes.AlreadyExists, codes.InvalidArgument, codes.OutOfRange,
		codes.Unauthenticated, codes.PermissionDenied, codes.FailedPrecondition, codes.Aborted, codes.ResourceExhausted,
		codes.DeadlineExceeded, codes.Unavailable, codes.Unknown, codes.Internal, codes.DataLoss,
	}
	all := make(map[codes.Code]int, len(order))
	for i, c := range order {
		all[c] = i
	}
	return all
}()

// worseThan reports whether c is worse than o. Codes that gRPC does not define are as bad as UNKNOWN.
func worseThan(c, o codes.Code) bool {
	rank := func(c codes.Code) int {
		if n, ok := badness[c]; ok {
			return n
		}
		return badness[codes.Unknown]
	}
	return rank(c) > rank(o)
}

// worstLocked returns the target that has ended with the worst status, the first one of several; nil if all have ended with OK.
func (s *Stream) worstLocked() (worst *target) {
	for _, t := range s.targets {
		if t.over && t.status.Code() != codes.OK && (worst == nil || worseThan(t.status.Code(), worst.status.Code())) {
			worst = t
		}
	}
	return worst
}
