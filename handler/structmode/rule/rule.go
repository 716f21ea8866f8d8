// Package rule is what struct mode does with messages: rules, whose conditions and values are CEL, look at each message
// of a call and reject, drop or change it.
//
// Enter at Compile (compile.go), which type-checks the rules of a route against a schema: document.go (what can be said
// of the document alone), expression.go and cost.go (CEL and its bounds), path.go (fields by name). Then Rules.Apply in
// apply.go, which takes one message through the rules: activation.go (what expressions see), meter.go and matches.go
// (what stops them), edit.go and convert.go (how values come into messages). schema.go shows the messages of one schema to CEL, and of no
// other.
package rule

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/dynamicpb"
)

// Program is the rules of one route for the methods of one schema. It is immutable, and safe for concurrent use.
type Program struct {
	methods map[string]*Method
	types   *dynamicpb.Types
	files   *protoregistry.Files
}

// Method returns what the rules do with the messages of a method, "/pkg.Service/Method", or nil if the schema does not
// have it or the route does not match it.
func (p *Program) Method(path string) *Method { return p.methods[path] }

// Files returns the schema, which callers must not change.
func (p *Program) Files() *protoregistry.Files { return p.files }

// Types returns the types of the schema.
func (p *Program) Types() *dynamicpb.Types { return p.types }

// Method is the rules of one method. It is immutable.
type Method struct {
	Descriptor        protoreflect.MethodDescriptor
	Request, Response *Rules // never nil
}

// Deferred reports whether the first message of a call that is forwarded decides about the call: there are route or header
// rules, so no upstream may be opened before Request.Apply has seen it. What is forwarded after it meets Request.Rest.
func (m *Method) Deferred() bool { return m.Request.deferred }

// Rules are the rules of one direction of a method. They are immutable, and safe for concurrent use.
type Rules struct {
	schema   *schema
	typ      protoreflect.MessageType
	rules    []*compiled
	deferred bool
	change   bool
	rest     *Rules // see Rest
}

// Change reports whether some rule may change a message. Nil rules change none.
func (r *Rules) Change() bool { return r != nil && r.change }

// Rest returns the rules without those for routes and headers, which one message of a call decides: the first that is
// forwarded. They take the messages that r takes. The rest of nil is nil.
func (r *Rules) Rest() *Rules {
	if r == nil || r.rest == nil {
		return r
	}
	return r.rest
}

// New returns a new message of the direction's type. Apply and Redact take such messages only; Decode fills one.
func (r *Rules) New() protoreflect.Message { return r.typ.New() }

// Call is what rules see of a call beside its messages. Both directions may use it at the same time.
type Call struct {
	Method string // "/pkg.Service/Method"
	Peer   string // the client's address

	// Metadata returns the request headers: names in lower case, the values of a name joined with ",", those of -bin
	// names in base64. It is called when an expression asks for metadata, at most once for each Apply. The map must not
	// change after that. Nil means none.
	Metadata func() map[string]string
	// Now returns the time. It is called when an expression asks for it, at most once for each Apply. Nil means
	// time.Now.
	Now func() time.Time
	// Context ends when nobody waits for a result any more: what takes long then fails with its error. Nil means never.
	Context context.Context
}

// Frame is what rules see of a message beside what is in it.
type Frame struct {
	Index int64 // position in its stream, from 0
	Bytes int   // of its encoding, uncompressed; the clock is looked at more often for a long one
}

// Verdict says what becomes of a message.
type Verdict uint8

// The verdicts.
const (
	Pass   Verdict = iota // it is forwarded
	Drop                  // it is taken out of its stream; a call with this single message ends with Code and Message
	Reject                // the call ends with Code and Message
)

// Action is what a rule does, for counting.
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

// String returns the name that documents use.
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

// Result is what the rules made of one message.
type Result struct {
	Changed bool // the message is not what it was, so it must be encoded anew
	Verdict Verdict
	Code    codes.Code // of Drop and Reject
	Message string     // of Drop and Reject; may be empty
	Backend string     // of the last route rule that fired; empty for none. Of no meaning if the message is not forwarded
	Headers []Header   // of the header rules that fired, in order: the last one of a name counts. As for Backend
	Hits    [NumActions]uint32
}

// reset makes out ready for another message; it keeps the memory of Headers.
func (out *Result) reset() { *out = Result{Headers: out.Headers[:0]} }

// EvalError is a rule that could not be evaluated, because a key is missing, a number overflows, the message makes it
// too expensive, the call has ended and so on. The message must not be forwarded: the rule may be there to stop it.
type EvalError struct {
	Key string // of the expression, such as struct.rules[0].when
	Err error
}

func (e *EvalError) Error() string { return e.Key + ": " + e.Err.Error() }

// Unwrap returns the reason.
func (e *EvalError) Unwrap() error { return e.Err }
