package mirror

import (
	"context"
	"errors"
	"maps"
	"sync/atomic"
	"time"

	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/codes"
	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/metadata"
	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/status"

	"github.com/framegate/framegate/handler/frame"
	"github.com/framegate/framegate/handler/leg"
	"github.com/framegate/framegate/handler/local"
	"github.com/framegate/framegate/resolver/cluster"
	"github.com/framegate/framegate/resolver/spec"
)

// Header is the name of the request header that tells a mirror its name.
const Header = "framegate-mirror"

// backendCopy is a copy of a call that goes to a backend:
//
//	idle ─> launched ─> over
//	  └───────────────────^     no message was delivered, or there are as many copies as there may be
//
// The call of the copy is launched with the first message that is delivered or, without a selection, when the client's call
// starts; but of a request that the client has sent whole, when all of it is in the queue.
type backendCopy struct {
	mirror  *Mirror
	call    *Call
	target  cluster.Target
	leg     *leg.Leg
	compare *comparison // nil if answers are not compared

	// Owned by the client's call.
	whole    bool // the client has sent the whole request
	launched bool
	dropped  bool // a message was left out
	over     bool

	debt     atomic.Int32 // see debtNone
	unread   int          // of the answer, see unreadPortion; owned by the answer's goroutine
	timer    *time.Timer
	finished atomic.Int64 // Unix time in nanoseconds when the client's call ended; 0 before
}

var (
	errLate    = errors.New("mirror: it left the copy waiting for longer than its timeout")
	errFull    = errors.New("mirror: it takes messages too slowly")
	errClient  = errors.New("mirror: the client ended its call")
	errFlooded = errors.New("mirror: it sends too much")
	errNothing = errors.New("mirror: no message was delivered")
)

func (m *Mirror) beginBackend(c *Call, whole bool, target func() cluster.Target, request func(metadata.MD) leg.Request) *backendCopy {
	if until := m.failures.until.Load(); until != 0 && time.Now().UnixNano() < until {
		m.drop(DroppedUnreachable)
		return nil
	}
	b := &backendCopy{mirror: m, call: c, target: target(), whole: whole}
	if m.doc.Compare != nil {
		b.compare = newComparison(m, c)
	}
	md := make(metadata.MD, len(c.Metadata)+1)
	maps.Copy(md, c.Metadata)
	if m.name != "" {
		md[Header] = []string{m.name}
	}
	b.leg = leg.New(m.registry.ctx, request(md), m.doc.Queue, m.registry, b)
	if m.selection == nil {
		b.mayLaunch()
	}
	return b
}

// take implements receiver.
func (b *backendCopy) take(m frame.Message) {
	if b.over {
		return
	}
	if b.leg.Push(m) {
		b.mirror.messages.Add(1)
		b.mirror.bytes.Add(int64(len(m.Payload)))
		b.mayLaunch()
		return
	}
	switch {
	case b.leg.Context().Err() != nil:
		b.mirror.drop(DroppedEnded)
		b.dropped, b.over = true, true
	case b.hasRoom(m):
		b.miss(DroppedMemory)
	default:
		b.miss(DroppedFull)
	}
}

// miss implements receiver.
func (b *backendCopy) miss(why Dropped) {
	if b.over {
		return
	}
	b.dropped = true
	b.mirror.drop(why)
	if b.mirror.doc.WhenFull == spec.MirrorEnd {
		b.end(errFull)
		return
	}
	b.launch()
}

// hasRoom reports whether the copy's own queue has room for a message.
func (b *backendCopy) hasRoom(m frame.Message) bool {
	messages, bytes, _ := b.leg.Waiting()
	return messages < b.mirror.doc.Queue.MaxMessages() && bytes+int64(m.Len()) <= b.mirror.doc.Queue.MaxBytes()
}

// mayLaunch launches the copy's call, unless the rest of the request is in memory and will be in the queue in a moment: then one
// goroutine is enough for the copy.
func (b *backendCopy) mayLaunch() {
	if b.whole && !b.launched {
		if messages, bytes, _ := b.leg.Waiting(); messages <= b.mirror.doc.Queue.MaxMessages()/2 && bytes <= b.mirror.doc.Queue.MaxBytes()/2 {
			return
		}
	}
	b.launch()
}

// launch begins the copy's call.
func (b *backendCopy) launch() {
	if b.launched || b.over {
		return
	}
	if why := b.admit(time.Now()); why != "" {
		b.mirror.drop(why)
		b.end(errNothing)
		return
	}
	b.launched = true
}

// What the backend owes of the beginning of its answer: nothing before the request has ended, and nothing once it has begun.
const (
	debtNone = iota
	debtOwes
	debtPaid
)

// owes says that the request is whole.
func (b *backendCopy) owes() {
	if b.debt.CompareAndSwap(debtNone, debtOwes) {
		b.mirror.stall.begin(time.Now())
	}
}

// pays says that the answer has begun, or ended, and reports whether it was owed.
func (b *backendCopy) pays() bool { return b.debt.Swap(debtPaid) == debtOwes }

// admit starts the goroutine of the copy's call, or returns why it may not.
func (b *backendCopy) admit(now time.Time) (why Dropped) {
	m := b.mirror
	switch {
	case m.stall.is(now):
		return DroppedStalled
	case !m.failures.allows(now):
		return DroppedUnreachable
	case !m.registry.enter():
		return DroppedMaxCalls
	case !m.registry.run(b.serve):
		m.registry.leave()
		return DroppedEnded
	}
	return ""
}

// serve is the goroutine of the copy's call.
func (b *backendCopy) serve() {
	m := b.mirror
	defer m.registry.leave()
	m.calls.Add(1)
	m.active.Add(1)
	defer m.active.Add(-1)
	b.timer = time.AfterFunc(time.Hour, b.check)
	b.timer.Reset(m.doc.Waits())
	defer b.timer.Stop()
	m.registry.cfg.Serve(b.leg, &b.target)
	_, _, lag := b.leg.Waiting()
	m.lag.Store(int64(lag))
}

// check ends the copy's call if the backend has left it waiting for too long.
func (b *backendCopy) check() {
	timeout, now := b.mirror.doc.Waits(), time.Now()
	next := now.Add(timeout)
	if since, owes := b.leg.Owing(); owes {
		next = since.Add(timeout)
	}
	if at := b.finished.Load(); at != 0 {
		if end := time.Unix(0, at).Add(timeout); end.Before(next) {
			next = end
		}
	}
	if !next.After(now) {
		b.leg.Cancel(errLate)
		return
	}
	b.timer.Reset(next.Sub(now))
}

// halfClose implements receiver.
func (b *backendCopy) halfClose() {
	if b.over {
		return
	}
	b.leg.HalfClose()
	if messages, _, _ := b.leg.Waiting(); messages > 0 || b.mirror.selection == nil {
		b.launch()
	}
	if b.launched {
		b.owes()
	}
}

// finish implements receiver.
func (b *backendCopy) finish(complete bool) {
	switch {
	case !b.launched:
		b.end(errNothing)
	case !complete:
		b.end(errClient)
	default:
		now := time.Now()
		b.finished.Store(now.UnixNano())
	}
	switch {
	case b.compare == nil:
	case !b.launched:
		b.compare.forget()
	case b.dropped, !complete:
		b.compare.giveUp()
	}
}

// end ends the copy.
func (b *backendCopy) end(cause error) {
	b.over = true
	b.leg.Cancel(cause)
}

// answers implements receiver.
func (b *backendCopy) answers() leg.Answer {
	if b.compare == nil {
		return nil
	}
	return &b.compare.client
}

// Headers implements leg.Answer.
func (b *backendCopy) Headers(encoding string, md metadata.MD) error {
	b.mirror.failures.worked()
	if b.pays() {
		b.mirror.stall.end()
	}
	b.mirror.stall.alive()
	if b.compare == nil {
		return nil
	}
	return b.compare.mirrors.Headers(encoding, md)
}

// Data implements leg.Answer. An answer that nobody compares, or not any more, is read slowly if there is much of it.
func (b *backendCopy) Data(p []byte) error {
	if b.compare != nil && b.compare.mirrors.add(p) {
		return nil
	}
	cost := min(1+len(p)/unreadPortion, b.mirror.unread.Burst())
	if b.unread += cost; b.unread <= freeUnread {
		return nil
	}
	if b.mirror.unread.AllowN(time.Now(), cost) {
		return nil
	}
	defer b.mirror.slowed.Add(-1)
	if b.mirror.slowed.Add(1) > maxSlowed {
		b.mirror.drop(DroppedFlooded)
		return errFlooded
	}
	return b.mirror.unread.WaitN(b.leg.Context(), cost)
}

// What is read of answers of a mirror that nobody compares: as much of each as freeUnread, and of all together unreadPerSecond. One is a
// piece of a message, or unreadPortion bytes of a long one. A mirror that floods copies with answers would otherwise take the time of a
// processor. At most maxSlowed copies wait for their turn, because what they have not read is held by their connections; others end.
const (
	maxSlowed       = 8
	freeUnread      = 64
	unreadPerSecond = 20_000
	unreadPortion   = 4096
)

// End implements leg.Answer.
func (b *backendCopy) End(st *status.Status, trailer metadata.MD) {
	m, code, reason := b.mirror, st.Code(), local.Reason("")
	late := errors.Is(context.Cause(b.leg.Context()), errLate)
	if b.pays() {
		if m.stall.end(); !late {
			m.stall.alive()
		}
	}
	if v := trailer[local.ReasonTrailer]; len(v) > 0 {
		reason = local.Reason(v[0])
	}
	if late {
		code = codes.DeadlineExceeded
	}
	switch reason {
	case local.ReasonConnectFailed, local.ReasonNoEndpoint:
		m.failures.failed(time.Now(), st.Message())
	case "":
		if errors.Is(context.Cause(b.leg.Context()), leg.ErrEnded) { // else the copy was ended, wherever it was
			m.failures.worked()
		}
	}
	m.mu.Lock()
	m.codes[code]++
	m.mu.Unlock()
	if b.compare != nil {
		if reason != "" {
			b.compare.giveUp()
		}
		b.compare.mirrors.End(st, trailer)
	}
}
