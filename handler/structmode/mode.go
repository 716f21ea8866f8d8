package structmode

import (
	"cmp"
	"context"
	"log/slog"
	"sync"

	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/codes"
	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/metadata"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/framegate/framegate/handler/budget"
	"github.com/framegate/framegate/handler/frame"
	"github.com/framegate/framegate/handler/local"
	"github.com/framegate/framegate/handler/stream"
	"github.com/framegate/framegate/handler/structmode/compress"
	"github.com/framegate/framegate/handler/structmode/reflection"
	"github.com/framegate/framegate/handler/structmode/rule"
	"github.com/framegate/framegate/pool/transport"
	"github.com/framegate/framegate/resolver/cluster"
)

// Config says what a Mode needs.
type Config struct {
	Filters  []MethodFilter // of several for one method the last counts
	Budget   *budget.Budget // bounds the memory of messages; nil for no bound
	MaxBytes func() int64   // returns the bound of one message, which is held whole; 0 means 64 MiB
	Log      *slog.Logger

	// Open opens the stream on which the endpoint of a call's backend at an address is asked for its schema.
	Open func(ctx context.Context, t *cluster.Target, address string, hdr *transport.Header) (stream.Upstream, error)
}

// Mode is what all calls in struct mode share: the filters, the schemas that endpoints gave, and the list of these calls. It
// is safe for concurrent use.
type Mode struct {
	cfg         Config
	filters     map[string]MethodFilter
	registry    registry
	reflections *reflection.Cache[*rule.Compiled] // rules compiled for the schemas that endpoints gave
}

// New returns a Mode, which the caller closes after the last call.
func New(cfg Config) *Mode {
	m := &Mode{cfg: cfg, filters: make(map[string]MethodFilter, len(cfg.Filters)), reflections: reflection.NewCache[*rule.Compiled](reflection.CacheConfig{})}
	for _, f := range cfg.Filters {
		m.filters[f.method] = f
	}
	return m
}

// Close ends the goroutines that ask endpoints for schemas. Calls of routes with schema.reflection fail from now on.
func (m *Mode) Close() { m.reflections.Close() }

// Linger reports whether a message of a call on a connection (stream.Downstream.Conn) is still being worked on although the client has left the call.
// For HTTP/2 such a call has ended.
func (m *Mode) Linger(conn any) bool { return m.registry.linger(conn) }

// Call describes a call to Mode.Begin.
type Call struct {
	Context  context.Context // of the call
	Target   *cluster.Target // of a route in struct mode
	Method   string          // /pkg.Service/Method
	Subtype  string          // of the content-type
	Encoding string          // grpc-encoding of the request; empty for none
	Peer     string          // the client's address
	Metadata metadata.MD     // of the request, as rules see it
	Conn     any             // stream.Downstream.Conn
	Evict    func()          // ends the call, because other calls need the memory of its messages; may be called by any goroutine
}

// Begin returns the Transformer of a call in struct mode, which the caller closes when no goroutine works for the call any
// more. It returns nil if messages are to be forwarded without being decoded: the method has neither rules nor a filter, or
// the call's messages cannot be decoded and the route says on_decode_error: pass. The error is the call's result; a call
// that would fail with rules fails without any, too.
func (m *Mode) Begin(c Call) (*Transformer, *local.Error) {
	target := c.Target
	prog, ok := target.Program.(*program)
	if !ok {
		return nil, local.Errorf(codes.Internal, local.ReasonInternal, "route %s has no program for struct mode", target.Route)
	}
	method, filter := c.Method, m.filters[c.Method]
	var types *dynamicpb.Types
	var rules *rule.Method
	compiled, e := m.rulesOf(c.Context, prog, target, method)
	if e != nil && !(prog.pass && e.Code == codes.Unimplemented) { // a method that the schema lacks may pass; a schema that is missing not
		return nil, e
	}
	if compiled != nil {
		types = compiled.Types()
		if rules = compiled.Method(method); rules == nil && !prog.pass {
			return nil, errNoMethod(target, method)
		}
	}
	codec, err := messageCodecOf(c.Subtype, types)
	if e, ok := err.(*local.Error); ok {
		if prog.pass {
			return nil, nil
		}
		return nil, e
	}
	if rules == nil && filter.method == "" {
		return nil, nil
	}
	t := &Transformer{mode: m, pass: prog.pass, ctx: c.Context, conn: c.Conn, evict: c.Evict}
	t.call = rule.Call{
		Method: method, Peer: c.Peer,
		Metadata: sync.OnceValue(func() map[string]string { return MetadataOf(c.Metadata) }),
		Context:  c.Context,
	}
	t.request = direction{of: t, whose: "request", codec: codec, maxBytes: m.wholeLimit(), encoding: c.Encoding}
	t.response = direction{of: t, whose: "response", codec: codec, maxBytes: m.wholeLimit()}
	if rules != nil {
		t.deferred = rules.Deferred()
		t.request.rules, t.request.single = rules.Request, !rules.Descriptor.IsStreamingClient()
		t.response.rules, t.response.single = rules.Response, !rules.Descriptor.IsStreamingServer()
	}
	if filter.method != "" {
		if _, ok := codec.(protoCodec); !ok && !prog.pass {
			return nil, local.Errorf(codes.Unimplemented, local.ReasonDecodeFailed, "method %s has a filter, which reads application/grpc+proto only", local.Printable(method))
		} else if ok {
			t.request.filter, t.response.filter = filter.request, filter.response
		}
	}
	t.openRoom()
	return t, nil
}

// defaultWholeBytes bounds a message in struct mode if Config.MaxBytes does not.
const defaultWholeBytes = 64 << 20

// wholeLimit returns the bound of one message, in bytes.
func (m *Mode) wholeLimit() int64 { return cmp.Or(m.cfg.MaxBytes(), defaultWholeBytes) }

// Decides reports whether the method has route or header rules, so that the first message of the request that is forwarded
// decides the backend of the call and headers.
func (t *Transformer) Decides() bool { return t.deferred }

// Decision returns what the first forwarded message of the request decided: the backend, which is empty if the balancer
// chooses one, and the headers to send. It may be called when that message was taken, or when the request has ended.
func (t *Transformer) Decision() (backend string, headers []rule.Header) { return t.backend, t.headers }

// TakeRequest makes r, the request direction of the call, pass its messages through the transformer.
func (t *Transformer) TakeRequest(r *frame.Redirect) { t.request.attach(r) }

// TakeResponse makes r, the response direction of the call, pass its messages through the transformer. encoding is the
// grpc-encoding of the answer.
func (t *Transformer) TakeResponse(r *frame.Redirect, encoding string) {
	t.response.encoding = encoding
	t.response.attach(r)
}

func (d *direction) attach(r *frame.Redirect) {
	r.Taker, r.MaxBytes, r.Share = d, d.of.mode.wholeLimit(), &d.share
}

// AcceptKnown removes from grpc-accept-encoding in md the encodings that framegate cannot decode, so that the endpoint does
// not answer with them. It does nothing on a route with on_decode_error: pass.
func (t *Transformer) AcceptKnown(md metadata.MD) {
	if accept := md["grpc-accept-encoding"]; !t.pass && len(accept) > 0 {
		known := compress.Known(accept[0])
		if known == "" {
			delete(md, "grpc-accept-encoding")
			return
		}
		md["grpc-accept-encoding"] = []string{known}
	}
}
