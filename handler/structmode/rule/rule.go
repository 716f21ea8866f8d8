// Package rule has the rules of struct mode. Rules are applied to each message of a call, and reject, drop or change it, or
// choose the call's backend and headers. Their conditions and values are CEL expressions.
//
// Enter at Compile (compile.go), which compiles the rules of a route for a schema; then document.go (checks that need no
// schema), expression.go and cost.go (CEL expressions and the bounds of their cost) and path.go (paths to fields). The other
// entry is Rules.Apply (apply.go), which applies the rules to one message; then activation.go (the variables of
// expressions), meter.go and matches.go (stop an expression that costs too much), and edit.go, assign.go and convert.go
// (assign values to fields). decode.go and weigh.go decode a message within a bound of memory. schema.go, object.go, list.go
// and wellknown.go present messages of one schema to CEL. An Action is declared here and in resolver/spec/struct_document.go;
// document.go checks its keys, compile.go prepares it, and apply.go does it.
package rule

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/framegate/framegate/resolver/spec"
)

// Compiled is the compiled rules of one route, with the schema that they were compiled for. It is immutable, and safe for
// concurrent use.
type Compiled struct {
	methods map[string]*Method
	types   *dynamicpb.Types
	files   *protoregistry.Files
}

// Method returns the rules of a method, "/pkg.Service/Method", or nil if the schema does not have the method or the route
// does not match it.
func (p *Compiled) Method(path string) *Method { return p.methods[path] }

// Direction returns the rules of a method and direction, or nil as Method does. p may be nil.
func (p *Compiled) Direction(path string, d spec.Direction) *Rules {
	if p == nil {
		return nil
	}
	m := p.methods[path]
	switch {
	case m == nil:
		return nil
	case d == spec.OnResponse:
		return m.Response
	}
	return m.Request
}

// Files returns the schema, which callers must not change.
func (p *Compiled) Files() *protoregistry.Files { return p.files }

// Types returns the types of the schema, as a resolver.
func (p *Compiled) Types() *dynamicpb.Types { return p.types }

// Method is the rules of one method. It is immutable.
type Method struct {
	Descriptor        protoreflect.MethodDescriptor
	Request, Response *Rules // never nil

	conditions map[string]*Condition // by key; nil without any
}

// Deferred reports whether the request has route or header rules. The first message of the request that is forwarded then
// decides the call's backend and headers: no upstream may be opened before Request.Apply has returned for that message, and
// later messages go to Request.Rest.
func (m *Method) Deferred() bool { return m.Request.deferred }

// Rules are the rules of one direction of a method. They are immutable, and safe for concurrent use.
type Rules struct {
	schema   *schema
	typ      protoreflect.MessageType
	rules    []*compiled
	deferred bool   // there are route or header rules
	change   bool   // there are rules that change messages
	rest     *Rules // see Rest; nil unless deferred
}

// Change reports whether there are rules that may change a message. Nil rules have none.
func (r *Rules) Change() bool { return r != nil && r.change }

// Rest returns the rules for the messages after the first one that is forwarded: those of r without route and header rules.
// It returns nil for nil.
func (r *Rules) Rest() *Rules {
	if r == nil || r.rest == nil {
		return r
	}
	return r.rest
}

// New returns a new message of the direction's type. The message that is passed to Apply or Redact must come from New or
// Decode.
func (r *Rules) New() protoreflect.Message { return r.typ.New() }

// Call is what rules see of a call besides its messages. Both directions may use it at the same time.
type Call struct {
	Method string // "/pkg.Service/Method"
	Peer   string // the client's address

	// Metadata returns the request headers: names in lower case, the values of a name joined with ",", those of -bin
	// names in base64. It is called when an expression uses metadata, at most once for each Apply. The map must not
	// change after that. Nil means that there are no headers.
	Metadata func() map[string]string
	// Now returns the time. It is called when an expression uses now, at most once for each Apply. Nil means time.Now.
	Now func() time.Time
	// Context ends with the call: an evaluation that takes long then fails with the context's error. Nil means that the
	// call does not end.
	Context context.Context
}

// Frame is what rules need to know of a message besides its content.
type Frame struct {
	Index int64 // position in its stream, from 0
	Bytes int   // length of its encoding, uncompressed; see meter.tick
}

// Verdict says what to do with a message.
type Verdict uint8

// The verdicts.
const (
	Pass   Verdict = iota // it is forwarded
	Drop                  // it is not forwarded; if it is the only one in its direction, the call ends with Code and Message
	Reject                // the call ends with Code and Message
)

// Action is the action of a rule.
type Action uint8

// The actions.
const (
	ActionReject Action = iota
	ActionDrop
	ActionSet
	ActionClear
	ActionRedact
	ActionRoute
	ActionHeader
	NumActions
)

var actionNames = [NumActions]string{"reject", "drop", "set", "clear", "redact", "route", "header"}

// String returns the name of the action in documents.
func (a Action) String() string {
	if a < NumActions {
		return actionNames[a]
	}
	return fmt.Sprintf("Action(%d)", uint8(a))
}

// Header is a request header that a rule sets.
type Header struct {
	Name, Value string
}

// Result is the result of the rules for one message. Backend and Headers have no meaning if the message is not forwarded.
type Result struct {
	Changed bool // the message was changed, so it must be encoded again
	Verdict Verdict
	Code    codes.Code         // of Drop and Reject
	Message string             // of Drop and Reject; may be empty
	Backend string             // of the last route rule that fired; empty if none did
	Headers []Header           // of the header rules that fired, in their order: the last one of a name counts
	Hits    [NumActions]uint32 // how often rules fired, by action
}

// reset clears out for the next message, but keeps the memory of Headers.
func (out *Result) reset() { *out = Result{Headers: out.Headers[:0]} }

// EvalError says that an expression of a rule could not be evaluated: a key is missing, a number overflows, the message
// makes the expression too expensive, or the call has ended, for example. The message must not be forwarded, because the
// rule may be there to stop it.
type EvalError struct {
	Key string // the expression's key in the document, such as struct.rules[0].when
	Err error
}

func (e *EvalError) Error() string { return e.Key + ": " + e.Err.Error() }

// Unwrap returns the reason.
func (e *EvalError) Unwrap() error { return e.Err }
