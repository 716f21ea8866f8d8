package mirror

import (
	"context"
	"encoding/json"
	"sync"
	"time"

	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/metadata"
	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/status"

	"github.com/framegate/framegate/handler/frame"
	"github.com/framegate/framegate/handler/leg"
	"github.com/framegate/framegate/handler/mirror/sink"
	"github.com/framegate/framegate/handler/structmode"
	"github.com/framegate/framegate/resolver/spec"
)

// deliverer is the outlet of a mirror with kafka or elasticsearch.
type deliverer struct{ sink.Sink }

// close implements outlet.
func (d deliverer) close(ctx context.Context) { d.Close(ctx) }

// status implements outlet.
func (d deliverer) status(st *Status) {
	s := d.Stats()
	st.State, st.Error, st.Waiting, st.WaitingBytes, st.Lag = s.State, s.Error, s.Waiting, s.WaitingBytes, s.Lag
	for why, n := range s.Dropped {
		st.Dropped[Dropped(why)] += n
	}
}

// begin implements outlet.
func (d deliverer) begin(m *Mirror, c *Call) receiver {
	e := &events{mirror: m, call: c, sink: d.Sink}
	e.messages.To = e
	return e
}

// events is a copy of a call of which each message is an event of a sink.
type events struct {
	mirror *Mirror
	call   *Call
	sink   sink.Sink

	mu  sync.Mutex // guards any, and orders events: the answer comes in another goroutine than the request
	any bool       // a message of the request was delivered

	// Of the answer that the client gets.
	messages frame.Assembler
	encoding string
}

// take implements receiver.
func (e *events) take(m frame.Message) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.offerLocked(m, spec.OnRequest, e.call.Encoding)
}

// offerLocked gives a message to the sink, which counts it if it has no room.
func (e *events) offerLocked(m frame.Message, d spec.Direction, encoding string) {
	if !e.any {
		e.any = true
		e.mirror.calls.Add(1)
	}
	one := &sink.Event{
		ID: e.call.ID(), Route: e.call.Route, Method: e.call.Method, Direction: d, Time: time.Now(), Metadata: e.call.Metadata, Payload: m.Payload,
	}
	plain := plainOf(m, encoding, e.call.MaxBytes)
	if plain != nil {
		one.Payload = plain
	}
	if plain != nil {
		one.Message = messageOf(plain, e.call, d)
	}
	if e.call.Redacts { // the bytes would show what rules hide
		one.Payload = nil
	}
	if e.sink.Offer(one) {
		e.mirror.messages.Add(1)
		e.mirror.bytes.Add(int64(len(m.Payload)))
	}
}

// messageOf returns what decodes a message for an event, without what redact rules of the route hide; nil if there is no schema for it.
func messageOf(plain []byte, c *Call, d spec.Direction) func() json.RawMessage {
	compiled, subtype := c.Schema(), c.Subtype
	rules := compiled.Direction(c.Method, d)
	if rules == nil {
		return nil
	}
	return func() json.RawMessage {
		msg, err := structmode.Decode(plain, subtype, compiled, rules)
		if err != nil {
			return nil
		}
		rules.Redact(msg)
		text, err := structmode.JSON(msg, compiled)
		if err != nil {
			return nil
		}
		return text
	}
}

// miss implements receiver.
func (e *events) miss(why Dropped) { e.mirror.drop(why) }

// halfClose implements receiver.
func (e *events) halfClose() {}

// finish implements receiver.
func (e *events) finish(bool) {}

// answers implements receiver.
func (e *events) answers() leg.Answer {
	if !e.mirror.doc.Responses {
		return nil
	}
	return e
}

// Headers implements leg.Answer.
func (e *events) Headers(encoding string, _ metadata.MD) error {
	e.encoding = encoding
	return nil
}

// Data implements leg.Answer.
func (e *events) Data(p []byte) error {
	e.messages.Add(p)
	return nil
}

// Wants implements frame.Messages.
func (e *events) Wants(length int64) bool { return wants(e, e.mirror, length) }

// Message implements frame.Messages: it takes a message of the answer to a call of which the sink has a message.
func (e *events) Message(m frame.Message) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.any {
		e.offerLocked(m, spec.OnResponse, e.encoding)
	}
}

// End implements leg.Answer.
func (e *events) End(*status.Status, metadata.MD) {}
