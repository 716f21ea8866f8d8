package handler

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/framegate/framegate/handler/local"
	"github.com/framegate/framegate/handler/structmode"
	"github.com/framegate/framegate/handler/structmode/compress"
	"github.com/framegate/framegate/handler/structmode/rule"
	"github.com/framegate/framegate/handler/tap"
	"github.com/framegate/framegate/resolver/spec"
)

// ErrNotWatched means that the proxy has no taps.
var ErrNotWatched = errors.New("messages are not shown here")

// Watcher shows messages of live calls to somebody: it decodes what a tap has copied. It belongs to one goroutine, which
// is not a call's.
type Watcher struct {
	proxy      *Proxy
	tap        *tap.Tap
	where      string
	conditions map[conditionKey]condition
}

type conditionKey struct {
	rules     *rule.Program
	method    string
	direction spec.Direction
}

// condition is nil where it does not fit the messages.
type condition struct{ *rule.Condition }

// Shown is a message for people: as it was forwarded, but for what redact rules of its route hide.
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
	Reason    string          `json:"reason,omitempty"`  // why it could not be
	Payload   []byte          `json:"payload,omitempty"` // the beginning of one that could not be; absent if rules may hide something of it
}

// Watch starts to show messages of calls that begin from now on and whose method the pattern matches, at most perSecond
// of them a second (1 to tap.MaxRate). With where, a CEL condition that sees what rules see, it shows those that meet it;
// what cannot be decoded, or has another type than where needs, does not. The error is ErrNotWatched, tap.ErrTooMany or
// what is wrong with where. The caller closes the watcher.
func (p *Proxy) Watch(pattern spec.Pattern, perSecond int, where string) (*Watcher, error) {
	if p.taps == nil {
		return nil, ErrNotWatched
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
	return &Watcher{proxy: p, tap: t, where: where, conditions: map[conditionKey]condition{}}, nil
}

// Close ends the watcher.
func (w *Watcher) Close() { w.tap.Close() }

// Missed returns how many messages came too fast to be shown since it was last asked.
func (w *Watcher) Missed() int64 { return w.tap.Missed() }

// Messages gives the messages to show, for Show.
func (w *Watcher) Messages() <-chan tap.Message { return w.tap.Messages() }

// Show decodes a message, and reports whether it is to be shown. ctx bounds how long an endpoint is asked for its schema.
func (w *Watcher) Show(ctx context.Context, m tap.Message) (Shown, bool) {
	t := m.Call.Target
	s := Shown{
		Time: m.Time, Method: m.Call.Method, Route: t.Route, Backend: t.Backend, Endpoint: t.Address, Peer: m.Call.Peer,
		Direction: m.Direction, Index: m.Index, Length: m.Length,
	}
	program, err := w.rulesOf(ctx, m.Call)
	var rules *rule.Rules
	if program != nil {
		if method := program.Method(m.Call.Method); method != nil {
			rules = method.Request
			if m.Direction == spec.OnResponse {
				rules = method.Response
			}
		}
	}
	var msg protoreflect.Message
	if err == nil {
		msg, err = decodeShown(m, program, rules)
	}
	if err != nil {
		s.Reason = "cannot be decoded" // what says more may quote the message
		if w.mayShowBytes(m) {
			s.Reason, s.Payload = err.Error(), m.Payload
		}
		return s, w.where == ""
	}
	rules.Redact(msg) // before where, which would else tell what is hidden
	if w.where != "" && !w.wanted(ctx, m, program, msg) {
		return s, false
	}
	if s.Message, err = (protojson.MarshalOptions{AllowPartial: true, UseProtoNames: true, Resolver: program.Types()}).Marshal(msg.Interface()); err != nil {
		s.Reason = err.Error()
	}
	return s, true
}

// rulesOf returns the rules of the call's route, nil without a schema.
func (w *Watcher) rulesOf(ctx context.Context, c *tap.Call) (*rule.Program, error) {
	target := c.Target
	return w.proxy.structs.Rules(ctx, &target, c.Method)
}

// mayShowBytes reports whether no rule hides anything of the messages of the call's route.
func (w *Watcher) mayShowBytes(m tap.Message) bool {
	return !structmode.Redacts(m.Call.Target.Program)
}

func decodeShown(m tap.Message, program *rule.Program, rules *rule.Rules) (protoreflect.Message, error) {
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
	return structmode.Decode(plain, m.Call.Subtype, program, rules)
}

// maxShownBytes bounds a decompressed message.
const maxShownBytes = 1 << 20

// wanted reports whether a message meets the condition.
func (w *Watcher) wanted(ctx context.Context, m tap.Message, program *rule.Program, msg protoreflect.Message) bool {
	key := conditionKey{program, m.Call.Method, m.Direction}
	c, ok := w.conditions[key]
	if !ok {
		if len(w.conditions) >= maxConditions {
			clear(w.conditions)
		}
		c.Condition, _ = rule.CompileCondition(w.where, msg.Descriptor(), program.Files()) // nil: it is for other messages
		w.conditions[key] = c
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

// maxConditions bounds the conditions that are kept compiled.
const maxConditions = 256
