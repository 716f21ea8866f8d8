package handler

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/framegate/framegate/handler/local"
	"github.com/framegate/framegate/handler/structmode"
	"github.com/framegate/framegate/handler/structmode/compress"
	"github.com/framegate/framegate/handler/structmode/rule"
	"github.com/framegate/framegate/handler/tap"
	"github.com/framegate/framegate/resolver/spec"
)

// ErrTapsOff means that the proxy was made without Config.Taps.
var ErrTapsOff = errors.New("messages are not shown here")

// TapSession serves one client of framegate tap: it decodes the messages of live calls that its tap has copied. It is owned
// by one goroutine, which is not one of a call, so that decoding holds up no call.
type TapSession struct {
	proxy      *Proxy
	tap        *tap.Tap
	where      string
	conditions map[conditionKey]condition // where, compiled for the types of messages
}

type conditionKey struct {
	rules     *rule.Compiled
	method    string
	direction spec.Direction
}

// condition holds nil if the condition does not compile for the type of the messages.
type condition struct{ *rule.Condition }

// Shown is one message as framegate tap prints it: as it was forwarded, except that what redact rules of its route may hide is
// hidden.
type Shown struct {
	Time      time.Time       `json:"time"`
	Method    string          `json:"method"`
	Route     string          `json:"route"`
	Backend   string          `json:"backend,omitempty"`
	Endpoint  string          `json:"endpoint"`
	Peer      string          `json:"peer"`
	Direction spec.Direction  `json:"direction"`
	Index     int64           `json:"index"`             // position in its stream, from 0
	Length    int64           `json:"length"`            // of the payload in bytes, as it was forwarded
	Message   json.RawMessage `json:"message,omitempty"` // in ProtoJSON with the names of the schema; absent if it could not be decoded
	Reason    string          `json:"reason,omitempty"`  // why it could not be decoded
	Payload   []byte          `json:"payload,omitempty"` // the beginning of a message that could not be decoded; absent if rules may hide parts of it
}

// OpenTap opens a tap on the calls that begin from now on and whose method the pattern matches, for at most perSecond
// messages a second (1 to tap.MaxRate). where is a CEL condition with the variables of rules, or empty: with it, only
// messages that meet it are shown, and neither those that cannot be decoded nor those of a type that it does not fit. The
// error is ErrTapsOff, tap.ErrTooMany or says what is wrong with where. The caller closes the session.
func (p *Proxy) OpenTap(pattern spec.Pattern, perSecond int, where string) (*TapSession, error) {
	if p.taps == nil {
		return nil, ErrTapsOff
	}
	if where != "" {
		if err := rule.CheckCondition(where); err != nil {
			return nil, fmt.Errorf("where: %w", err)
		}
	}
	t, err := p.taps.Open(pattern, perSecond)
	if err != nil {
		return nil, err
	}
	return &TapSession{proxy: p, tap: t, where: where, conditions: map[conditionKey]condition{}}, nil
}

// Close closes the session's tap.
func (ts *TapSession) Close() { ts.tap.Close() }

// Missed returns how many messages came too fast to be shown since the last call of Missed.
func (ts *TapSession) Missed() int64 { return ts.tap.Missed() }

// Messages returns the channel of copied messages, each of which goes to Show. It is never closed.
func (ts *TapSession) Messages() <-chan tap.Message { return ts.tap.Messages() }

// Show decodes a message, and reports whether it is to be shown. It may wait for the schema of an endpoint until ctx ends.
func (ts *TapSession) Show(ctx context.Context, m tap.Message) (Shown, bool) {
	t := m.Call.Target
	s := Shown{
		Time: m.Time, Method: m.Call.Method, Route: t.Route, Backend: t.Backend, Endpoint: t.Address, Peer: m.Call.Peer,
		Direction: m.Direction, Index: m.Index, Length: m.Length,
	}
	compiled, err := ts.rulesOf(ctx, m.Call)
	rules := compiled.Direction(m.Call.Method, m.Direction)
	var msg protoreflect.Message
	if err == nil {
		msg, err = decodeShown(m, compiled, rules)
	}
	if err != nil {
		s.Reason = "cannot be decoded" // not err, which may quote parts of the message that rules hide
		if ts.mayShowBytes(m) {
			s.Reason, s.Payload = err.Error(), m.Payload
		}
		return s, ts.where == ""
	}
	rules.Redact(msg) // before where is evaluated: else a condition could find out what is hidden
	if ts.where != "" && !ts.wanted(ctx, m, compiled, msg) {
		return s, false
	}
	if s.Message, err = structmode.JSON(msg, compiled); err != nil {
		s.Reason = err.Error()
	}
	return s, true
}

// rulesOf returns the compiled rules and schema of the call's route, or nil if the route has no schema.
func (ts *TapSession) rulesOf(ctx context.Context, c *tap.Call) (*rule.Compiled, error) {
	target := c.Target
	return ts.proxy.structMode.Rules(ctx, &target, c.Method)
}

// mayShowBytes reports whether the bytes of a message may be shown: the call's route has no redact rules.
func (ts *TapSession) mayShowBytes(m tap.Message) bool {
	return !structmode.Redacts(m.Call.Target.Program)
}

// decodeShown decompresses and decodes a copied message. It fails if the copy was cut at tap.MaxMessageBytes.
func decodeShown(m tap.Message, compiled *rule.Compiled, rules *rule.Rules) (protoreflect.Message, error) {
	if rules == nil {
		return nil, errors.New("no schema has the method")
	}
	if int64(len(m.Payload)) < m.Length {
		return nil, fmt.Errorf("%d bytes, of which %d are shown", m.Length, len(m.Payload))
	}
	plain := m.Payload
	if m.Flag == 1 {
		codec, ok := compress.Get(m.Encoding)
		if !ok {
			return nil, fmt.Errorf("grpc-encoding %q is not known", local.Printable(m.Encoding))
		}
		var err error
		if plain, err = codec.Decompress(plain, maxShownBytes); err != nil {
			return nil, err
		}
	}
	return structmode.Decode(plain, m.Call.Subtype, compiled, rules)
}

// maxShownBytes bounds a decompressed message.
const maxShownBytes = 1 << 20

// wanted reports whether a message meets the session's condition.
func (ts *TapSession) wanted(ctx context.Context, m tap.Message, compiled *rule.Compiled, msg protoreflect.Message) bool {
	key := conditionKey{compiled, m.Call.Method, m.Direction}
	c, ok := ts.conditions[key]
	if !ok {
		if len(ts.conditions) >= maxConditions {
			clear(ts.conditions)
		}
		c.Condition, _ = rule.CompileCondition(ts.where, msg.Descriptor(), compiled.Files()) // nil if it fails: the condition is for messages of other types
		ts.conditions[key] = c
	}
	if c.Condition == nil {
		return false
	}
	call := rule.Call{
		Method: m.Call.Method, Peer: m.Call.Peer, Metadata: func() map[string]string { return m.Call.Metadata }, Context: ctx,
	}
	met, err := c.Eval(&call, msg, rule.Frame{Index: m.Index, Bytes: proto.Size(msg.Interface())})
	return err == nil && met
}

// maxConditions bounds the compiled conditions that a session keeps.
const maxConditions = 256
