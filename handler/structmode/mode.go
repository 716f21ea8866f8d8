package structmode

import (
	"cmp"
	"context"
	"log/slog"
	"strings"
	"sync"

	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/codes"
	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/grpc"
	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/metadata"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/framegate/framegate/handler/budget"
	"github.com/framegate/framegate/handler/frame"
	"github.com/framegate/framegate/handler/local"
	"github.com/framegate/framegate/handler/structmode/compress"
	"github.com/framegate/framegate/handler/structmode/reflection"
	"github.com/framegate/framegate/handler/structmode/rule"
	"github.com/framegate/framegate/pool"
	"github.com/framegate/framegate/resolver/cluster"
)

// Config says what a Mode needs.
type Config struct {
	Filters  []MethodFilter // of several for one method the last counts
	Budget   *budget.Budget // that messages take their memory of; nil for no bound
	MaxBytes func() int64   // of one message that is held whole; 0 means 64 MiB
	Log      *slog.Logger

	// Open opens a stream to an endpoint of a call's backend, which is asked for its schema.
	Open func(ctx context.Context, t *cluster.Target, address string, hdr *grpc.CallHdr) (*pool.Stream, error)
}

// Mode is struct mode at work. It is safe for concurrent use.
type Mode struct {
	cfg         Config
	filters     map[string]MethodFilter
	registry    registry
	reflections *reflection.Cache[*rule.Program] // rules for schemas that endpoints gave
}

// New returns a Mode, which the caller closes after the last call.
func New(cfg Config) *Mode {
	m := &Mode{cfg: cfg, filters: make(map[string]MethodFilter, len(cfg.Filters)), reflections: reflection.NewCache[*rule.Program](reflection.CacheConfig{})}
	for _, f := range cfg.Filters {
		m.filters[f.method] = f
	}
	return m
}

// Close ends what is done beside calls. Calls of routes whose schema is asked from endpoints fail from now on.
func (m *Mode) Close() { m.reflections.Close() }

// Linger reports whether a message of a call on a connection is still being worked on though its client has left: to HTTP/2
// the call has ended.
func (m *Mode) Linger(tr grpc.ServerTransport) bool { return m.registry.linger(tr) }

// Call is what a Mode is told of a call.
type Call struct {
	Context   context.Context // of the call
	Target    *cluster.Target // whose route is in struct mode
	Method    string          // /pkg.Service/Method
	Subtype   string          // of the content-type
	Encoding  string          // grpc-encoding of the request; empty for none
	Peer      string          // the other end of the client's connection
	Metadata  metadata.MD     // of the request, as rules see it
	Transport grpc.ServerTransport
	Evict     func() // ends the call, since there is no memory for its messages; called by any goroutine
}

// Begin makes a call of a route in struct mode ready. It returns nil where messages are forwarded without a look at them:
// there is nothing to do for them, or they cannot be decoded and the route passes those. The error is the call's result; it
// is the same with and without something to do. The Structure is closed when nothing runs for the call any more.
func (m *Mode) Begin(c Call) (*Structure, *local.Error) {
	target := c.Target
	prog, ok := target.Program.(*program)
	if !ok {
		return nil, local.Errorf(codes.Internal, local.ReasonInternal, "route %s has no program for struct mode", target.Route)
	}
	method, filter := c.Method, m.filters[c.Method]
	var types *dynamicpb.Types
	var rules *rule.Method
	compiled, e := m.rulesOf(c.Context, prog, target, method)
	if e != nil && !(prog.pass && e.Code == codes.Unimplemented) { // pass is for what is not in a schema
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
	s := &Structure{mode: m, pass: prog.pass, ctx: c.Context, transport: c.Transport, evict: c.Evict}
	s.call = rule.Call{
		Method: method, Peer: c.Peer,
		Metadata: sync.OnceValue(func() map[string]string { return MetadataOf(c.Metadata) }),
		Context:  c.Context,
	}
	s.request = direction{of: s, whose: "request", codec: codec, maxBytes: m.wholeLimit(), encoding: c.Encoding}
	s.response = direction{of: s, whose: "response", codec: codec, maxBytes: m.wholeLimit()}
	if rules != nil {
		s.deferred = rules.Deferred()
		s.request.rules, s.request.single = rules.Request, !rules.Descriptor.IsStreamingClient()
		s.response.rules, s.response.single = rules.Response, !rules.Descriptor.IsStreamingServer()
	}
	if filter.method != "" {
		if _, ok := codec.(protoCodec); !ok && !prog.pass {
			return nil, local.Errorf(codes.Unimplemented, local.ReasonDecodeFailed, "method %s has a filter, which reads application/grpc+proto only", local.Printable(method))
		} else if ok {
			s.request.filter, s.response.filter = filter.request, filter.response
		}
	}
	s.openRoom()
	return s, nil
}

// defaultWholeBytes bounds a message that is held whole where there is no other limit.
const defaultWholeBytes = 64 << 20

// wholeLimit returns how large a message may be that is held whole.
func (m *Mode) wholeLimit() int64 { return cmp.Or(m.cfg.MaxBytes(), defaultWholeBytes) }

// Decides reports whether the first message of the request that is forwarded decides where the call goes.
func (s *Structure) Decides() bool { return s.deferred }

// Decision returns what that message decided: a backend, empty for the balancer's choice, and headers to send.
func (s *Structure) Decision() (backend string, headers []rule.Header) { return s.backend, s.headers }

// TakeRequest has the messages of the request go through the structure.
func (s *Structure) TakeRequest(r *frame.Redirect) { s.request.attach(r) }

// TakeResponse does so with those of the answer, which has that grpc-encoding.
func (s *Structure) TakeResponse(r *frame.Redirect, encoding string) {
	s.response.encoding = encoding
	s.response.attach(r)
}

func (d *direction) attach(r *frame.Redirect) {
	r.Taker, r.MaxBytes, r.Share = d, d.of.mode.wholeLimit(), &d.share
}

// AcceptKnown takes the encodings that cannot be decoded here out of what the endpoint may answer with.
func (s *Structure) AcceptKnown(md metadata.MD) {
	if accept := md["grpc-accept-encoding"]; !s.pass && len(accept) > 0 {
		var known []string
		for name := range strings.SplitSeq(accept[0], ",") {
			name = strings.TrimSpace(name)
			if _, ok := compress.Get(name); ok {
				known = append(known, name)
			}
		}
		if len(known) == 0 {
			delete(md, "grpc-accept-encoding")
			return
		}
		md["grpc-accept-encoding"] = []string{strings.Join(known, ",")}
	}
}
