package mirror

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/metadata"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/framegate/framegate/handler/frame"
	"github.com/framegate/framegate/handler/structmode"
	"github.com/framegate/framegate/handler/structmode/compress"
	"github.com/framegate/framegate/handler/structmode/rule"
)

// Call describes a client's call to its copies. It is not changed once the first of them has begun.
type Call struct {
	Began    time.Time
	Route    string
	Method   string        // /pkg.Service/Method
	Peer     func() string // address of the client
	Subtype  string        // of the content-type
	Encoding string        // grpc-encoding of the request; empty for none
	Timeout  time.Duration // that the client has given the call; 0 for none
	Metadata metadata.MD   // of the request, as the route's backend gets it

	// Schema returns the rules and the schema of the route, or nil if there is none, or none yet.
	Schema func() *rule.Compiled

	Redacts bool // the route has rules that hide parts of messages

	// MaxBytes bounds a message that is decompressed.
	MaxBytes int64

	once sync.Once // sets id
	id   string
}

// ID returns what tells the call from all others: 32 hexadecimal digits.
func (c *Call) ID() string {
	c.once.Do(func() {
		id := binary.BigEndian.AppendUint64(make([]byte, 0, 16), rand.Uint64())
		c.id = hex.EncodeToString(binary.BigEndian.AppendUint64(id, rand.Uint64()))
	})
	return c.id
}

// View is a message of a request that is looked at by several selections. It is used by one goroutine.
type View struct {
	call    *Call
	message frame.Message // whose Payload may be valid only while the View is used
	index   int64         // position in its stream, from 0

	plain      []byte
	plainKnown bool
	decoded    protoreflect.Message
	tried      bool // decoding was tried
}

// NewView returns a View of the message at that index of the call's request.
func NewView(c *Call, m frame.Message, index int64) View {
	return View{call: c, message: m, index: index}
}

// Len returns how many bytes the message takes in a stream, prefix included.
func (v *View) Len() int { return v.message.Len() }

// Plain returns the message's bytes, decompressed; false if that is not possible.
func (v *View) Plain() ([]byte, bool) {
	if !v.plainKnown {
		v.plainKnown = true
		v.plain = plainOf(v.message, v.call.Encoding, v.call.MaxBytes)
	}
	return v.plain, v.plain != nil
}

// plainOf returns the bytes of a message, decompressed; nil if that is not possible, or gives more than maxBytes.
func plainOf(m frame.Message, encoding string, maxBytes int64) []byte {
	plain := m.Payload
	if m.Flag == 1 {
		codec, ok := compress.Get(encoding)
		if !ok {
			return nil
		}
		var err error
		if plain, err = codec.Decompress(m.Payload, maxBytes); err != nil {
			return nil
		}
	}
	if plain == nil {
		return []byte{}
	}
	return plain
}

// decodedAs returns the message decoded with the schema; nil if that is not possible.
func (v *View) decodedAs(compiled *rule.Compiled, rules *rule.Rules) protoreflect.Message {
	if !v.tried {
		v.tried = true
		if plain, ok := v.Plain(); ok {
			v.decoded, _ = structmode.Decode(plain, v.call.Subtype, compiled, rules) // nil if it fails: the message meets no condition
		}
	}
	return v.decoded
}

// meets reports whether the message meets the condition of the route with that key (spec.KeyedCondition).
func (v *View) meets(key string) bool {
	compiled := v.call.Schema()
	if compiled == nil {
		return false
	}
	method := compiled.Method(v.call.Method)
	if method == nil {
		return false
	}
	condition := method.Condition(key)
	if condition == nil {
		return false
	}
	msg := v.decodedAs(compiled, method.Request)
	if msg == nil {
		return false
	}
	call := rule.Call{
		Method: v.call.Method, Peer: v.call.Peer(), Context: context.Background(),
		Metadata: func() map[string]string { return structmode.MetadataOf(v.call.Metadata) },
	}
	met, err := condition.Eval(&call, msg, rule.Frame{Index: v.index, Bytes: len(v.plain)})
	return err == nil && met
}
