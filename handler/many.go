package handler

import (
	"context"
	"strings"
	"time"

	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/codes"
	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/metadata"
	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/status"

	"github.com/framegate/framegate/handler/fanout"
	"github.com/framegate/framegate/handler/fanout/wire"
	"github.com/framegate/framegate/handler/frame"
	"github.com/framegate/framegate/handler/leg"
	"github.com/framegate/framegate/handler/local"
	"github.com/framegate/framegate/handler/mirror"
	"github.com/framegate/framegate/handler/stream"
	"github.com/framegate/framegate/pool"
	"github.com/framegate/framegate/pool/transport"
	"github.com/framegate/framegate/resolver/cluster"
	"github.com/framegate/framegate/resolver/spec"
)

// many opens the stream of a call that goes to several targets, whose answers become one: a stream.Opener that stands in for the
// pool.
type many struct {
	call   *call
	config fanout.Config
	stream *fanout.Stream // nil until it is open
}

// Open implements stream.Opener.
func (m *many) Open(ctx context.Context, _ string, hdr *transport.Header, _ pool.OpenOptions) (stream.Upstream, error) {
	m.stream = fanout.Open(ctx, m.config, hdr)
	return m.stream, nil
}

// Patience implements stream.Opener.
func (m *many) Patience() time.Duration { return 0 }

// failure returns the local error with which the call ends; nil if targets made its result. m may be nil.
func (m *many) failure() *local.Error {
	if m == nil || m.stream == nil {
		return nil
	}
	return m.stream.Failure()
}

// newMany returns the many of a call of a route with a fan-out, which has an endpoint for each target, and takes what the names of
// targets are written in out of md. The call itself makes no further attempts; its parts do.
func newMany(c *call, md metadata.MD) (*many, *local.Error) {
	doc := c.target.Document().Fanout
	targets, e := targetsOf(c, doc, md)
	if e != nil {
		return nil, e
	}
	m := manyOf(c, targets)
	m.config.Mode, m.config.Fields, m.config.Order = doc.Joins(), wire.Fields(doc.Aggregate.Fields()), doc.Order
	m.config.Quorum, m.config.MinSuccess, m.config.SlowTarget, m.config.Queue = doc.Quorum, doc.Wanted(), doc.SlowTarget, doc.Queue
	c.target.Retry = nil
	return m, nil
}

func manyOf(c *call, targets []fanout.Target) *many {
	m := &many{call: c, config: fanout.Config{
		Targets: targets, MaxBytes: c.proxy.wholeLimit(), Budget: c.proxy.budget, Client: c.down, Unary: answersOnce(c),
	}}
	m.config.Serve = func(l *leg.Leg, name string, t *cluster.Target) {
		if c.observation != nil {
			serveTarget(c.proxy, l, t, &c.observation.record, name)
			return
		}
		servePart(c.proxy, l, t)
	}
	return m
}

// targetsOf returns where a call goes.
func targetsOf(c *call, doc *spec.Fanout, md metadata.MD) ([]fanout.Target, *local.Error) {
	endpoints, err := c.target.Endpoints()
	if err != nil {
		return nil, TargetError(&c.target, err)
	}
	var names []string
	if key := doc.Targets.Key; doc.Targets.From == spec.TargetsFromMetadata {
		names = namesIn(md[key])
		if !doc.Targets.Forward {
			delete(md, key)
		}
	}
	most := doc.Most()
	var all []fanout.Target
	switch {
	case len(names) > most:
		return nil, errManyTargets(len(names), most)
	case len(names) > 0:
		seen := map[string]bool{}
		for _, name := range names {
			e, ok := endpoints.Find(name)
			switch {
			case !ok:
				all = append(all, fanout.Target{Name: name, Failed: status.New(codes.NotFound, "unknown node")})
			case !seen[e.Address()]:
				seen[e.Address()] = true
				all = append(all, targetAt(c, name, e, doc))
			}
		}
	case doc.Targets.From == spec.TargetsFromMetadata && doc.DefaultTargets == spec.DefaultTargetsOne:
		e, err := c.target.PickEndpoint()
		if err != nil {
			return nil, TargetError(&c.target, err)
		}
		all = append(all, targetAt(c, e.Node(), e, doc))
	default:
		if n := len(endpoints.All()); n > most {
			return nil, errManyTargets(n, most)
		}
		for _, e := range endpoints.All() {
			all = append(all, targetAt(c, e.Node(), e, doc))
		}
	}
	if len(all) == 0 {
		return nil, TargetError(&c.target, cluster.ErrNoEndpoint)
	}
	return all, nil
}

// namesIn returns the names in the values of a header, each once: several values, each a name or several joined by commas.
func namesIn(values []string) (names []string) {
	seen := map[string]bool{}
	for _, v := range values {
		for name := range strings.SplitSeq(v, ",") {
			if name = strings.TrimSpace(name); name != "" && !seen[name] {
				seen[name] = true
				names = append(names, name)
			}
		}
	}
	return names
}

func errManyTargets(n, most int) *local.Error {
	e := local.Errorf(codes.ResourceExhausted, local.ReasonOverloaded, "%d targets, want at most %d (fanout.max_targets)", n, most)
	e.Limit = "fanout.max_targets"
	return e
}

// targetAt returns the target of a fan-out at an endpoint.
func targetAt(c *call, name string, e cluster.Endpoint, doc *spec.Fanout) fanout.Target {
	t := c.target.At(e)
	t.Timeout = doc.DeadlinePerTarget
	return fanout.Target{Name: name, To: &t}
}

// answersOnce reports whether the call's method is known to answer with one message: by the route's schema, or else by what its
// document says.
func answersOnce(c *call) bool {
	if c.target.Program != nil {
		if rules, err := c.proxy.structMode.Rules(c.ctx, &c.target, c.down.Method()); err == nil && rules != nil {
			if m := rules.Method(c.down.Method()); m != nil {
				return !m.Descriptor.IsStreamingServer()
			}
		}
	}
	return c.target.Unary(c.down.Method())
}

// firstOf returns the many of a call that several mirrors may answer: the first OK is the answer.
func firstOf(s *spread) *many {
	var targets []fanout.Target
	for _, i := range s.answering {
		m := s.set.Mirrors[i]
		t := s.call.target.Mirror(i, s.request)
		t.Retry = answersWithin(s.doc(i))
		index := int64(0)
		targets = append(targets, fanout.Target{
			Name: m.Name(), To: &t, Metadata: metadata.MD{mirror.Header: {m.Name()}},
			Wants: func(one frame.Message) bool {
				v := mirror.NewView(&s.info, one, index)
				index++
				deliver, _ := m.Selects(&v)
				return deliver
			},
		})
	}
	many := manyOf(s.call, targets)
	many.config.Mode, many.config.MinSuccess, many.config.Decodes = spec.FanoutFirst, 1, s.call.transformer != nil
	s.call.target.Retry = nil
	return many
}
