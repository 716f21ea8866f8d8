package rule

import (
	"sync"
	"time"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/interpreter"
	"google.golang.org/protobuf/proto"
)

// variables declares the variables of expressions, except message, whose type depends on the method.
func variables() []cel.EnvOption {
	return []cel.EnvOption{
		cel.Variable("metadata", cel.MapType(cel.StringType, cel.StringType)),
		cel.Variable("method", cel.StringType),
		cel.Variable("peer", cel.StringType),
		cel.Variable("now", cel.TimestampType),
		cel.Variable("index", cel.IntType),
	}
}

// activation has the values of the variables for one message. Values that are costly to make are made when an expression
// first uses them. It is used by one goroutine at a time.
type activation struct {
	call     *Call
	message  proto.Message
	frame    Frame
	adapter  types.Adapter
	metadata ref.Val // nil until it is used
	now      ref.Val // nil until it is used

	meter meter
}

var activations = sync.Pool{New: func() any { return new(activation) }}

// activate returns the activation for the expressions on a message. The caller releases it.
func activate(c *Call, m proto.Message, frame Frame, adapter types.Adapter) *activation {
	a := activations.Get().(*activation)
	a.call, a.message, a.frame, a.adapter, a.meter.ctx = c, m, frame, adapter, c.Context
	return a
}

// release gives a back to the pool. The caller must use neither a nor values of it any more.
func (a *activation) release() {
	*a = activation{}
	activations.Put(a)
}

// ResolveName implements interpreter.Activation.
func (a *activation) ResolveName(name string) (any, bool) {
	if name == meterName {
		return &a.meter, true
	}
	work := 1
	if name == "message" { // what an expression does with a message may take time in proportion to its length
		work += a.frame.Bytes / bytesPerWork
	}
	a.meter.tick(work)
	switch name {
	case "message":
		return a.message, true
	case "metadata":
		if a.metadata == nil {
			var m map[string]string
			if a.call.Metadata != nil {
				m = a.call.Metadata()
			}
			a.metadata = types.NewStringStringMap(a.adapter, m)
		}
		return a.metadata, true
	case "method":
		return a.call.Method, true
	case "peer":
		return a.call.Peer, true
	case "now":
		if a.now == nil {
			now := time.Now
			if a.call.Now != nil {
				now = a.call.Now
			}
			a.now = types.Timestamp{Time: now().UTC()}
		}
		return a.now, true
	case "index":
		return a.frame.Index, true
	}
	return nil, false
}

// Parent implements interpreter.Activation.
func (a *activation) Parent() interpreter.Activation { return nil }
