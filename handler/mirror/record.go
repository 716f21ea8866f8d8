package mirror

import (
	"context"
	"sync"

	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/metadata"
	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/status"

	"github.com/framegate/framegate/handler/frame"
	"github.com/framegate/framegate/handler/leg"
	"github.com/framegate/framegate/handler/mirror/tape"
	"github.com/framegate/framegate/resolver/spec"
)

// recorder is the outlet of a mirror with record.
type recorder struct{ *tape.Recorder }

// close implements outlet.
func (r recorder) close(ctx context.Context) { r.Close(ctx) }

// status implements outlet.
func (r recorder) status(st *Status) {
	s := r.Stats()
	st.Waiting, st.WaitingBytes, st.Lag = s.Waiting, s.WaitingBytes, s.Lag
	switch {
	case s.Down:
		st.State, st.Error = StateDown, s.Error
	case s.Written > 0:
		st.State = StateUp
	}
	if s.Lost > 0 {
		st.Dropped[DroppedFailed] += s.Lost
	}
}

// begin implements outlet.
func (r recorder) begin(m *Mirror, c *Call) receiver {
	one := &recording{mirror: m, call: c, recorder: r.Recorder}
	one.messages.To = one
	if m.selection == nil {
		one.beginLocked() // nobody else knows it yet
	}
	return one
}

// recording is a copy of a call that is written to files. It begins with the first message that is delivered or, without a selection,
// with the call.
type recording struct {
	mirror   *Mirror
	call     *Call
	recorder *tape.Recorder

	mu      sync.Mutex // guards the fields below: the answer comes in another goroutine than the request
	tape    *tape.Take // nil before it begins
	missed  int        // messages left out before it began
	refused bool       // there was no room for its beginning

	// Of the answer that the client gets.
	messages frame.Assembler
	answer   tape.Answer
}

// beginLocked writes that the call began, once.
func (r *recording) beginLocked() {
	if r.tape != nil || r.refused {
		return
	}
	c, ok := r.call, false
	r.tape, ok = r.recorder.Begin(tape.Call{
		ID: c.ID(), Method: c.Method, Peer: c.Peer(), Subtype: c.Subtype, Encoding: c.Encoding, Began: c.Began, Timeout: c.Timeout, Metadata: c.Metadata,
	})
	if r.refused = !ok; r.refused {
		r.mirror.drop(DroppedFull)
		return
	}
	r.mirror.calls.Add(1)
	for range r.missed {
		r.tape.Lose()
	}
}

func (r *recording) writeLocked(m frame.Message, response bool) {
	switch {
	case r.tape == nil:
	case r.tape.Message(response, m.Flag == 1, m.Payload):
		r.mirror.messages.Add(1)
		r.mirror.bytes.Add(int64(len(m.Payload)))
	default:
		r.mirror.drop(DroppedFull)
		if r.mirror.doc.WhenFull == spec.MirrorEnd {
			r.tape, r.refused = nil, true
		}
	}
}

// take implements receiver.
func (r *recording) take(m frame.Message) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.beginLocked()
	r.writeLocked(m, false)
}

// miss implements receiver.
func (r *recording) miss(why Dropped) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mirror.drop(why)
	if r.tape != nil {
		r.tape.Lose()
	} else {
		r.missed++
	}
}

// halfClose implements receiver.
func (r *recording) halfClose() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.tape != nil {
		r.tape.HalfClose()
	}
}

// finish implements receiver. What is to be written of the end comes with the answer's.
func (r *recording) finish(bool) {}

// answers implements receiver.
func (r *recording) answers() leg.Answer { return r }

// Headers implements leg.Answer.
func (r *recording) Headers(encoding string, md metadata.MD) error {
	r.answer.Encoding, r.answer.Headers = encoding, md
	return nil
}

// Data implements leg.Answer.
func (r *recording) Data(p []byte) error {
	r.messages.Add(p)
	return nil
}

// Wants implements frame.Messages.
func (r *recording) Wants(length int64) bool { return wants(r, r.mirror, length) }

// Message implements frame.Messages.
func (r *recording) Message(m frame.Message) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.writeLocked(m, true)
}

// End implements leg.Answer.
func (r *recording) End(st *status.Status, trailer metadata.MD) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.tape != nil {
		r.answer.Code, r.answer.Message, r.answer.Trailers = uint32(st.Code()), st.Message(), trailer
		r.tape.End(r.answer)
	}
}
