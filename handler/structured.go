package handler

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"strings"
	"sync"

	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/codes"
	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/metadata"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/framegate/framegate/handler/frame"
	"github.com/framegate/framegate/handler/local"
	"github.com/framegate/framegate/handler/structmode/compress"
	"github.com/framegate/framegate/handler/structmode/rule"
)

// structured makes a call of a route in struct mode ready to run. If the first message that is forwarded decides where
// the call goes, it is waited for, and the target changed by what it decides. It returns the metadata to send: without what
// the client sent under the names that header rules set, and with what they set. The error is the call's result.
func (c *call) structured(seen metadata.MD) (metadata.MD, *local.Error) {
	dropHopByHop(seen) // rules see what the endpoint does
	md := seen
	if prog, ok := c.target.Program.(*program); ok && len(prog.headers) > 0 {
		md = maps.Clone(seen)
		for _, name := range prog.headers {
			delete(md, name)
		}
	}
	e := c.decide(seen, md)
	return md, e
}

// decide is structured without what does not depend on messages.
func (c *call) decide(seen, md metadata.MD) *local.Error {
	if e := c.newStructure(seen); e != nil {
		return e
	}
	c.newRequest()
	if c.struc != nil { // rules see what the endpoint does
		dropBodyFields(seen)
		dropBodyFields(md)
	}
	if c.struc == nil || !c.struc.deferred || c.empty {
		return nil
	}
	for c.request.Held == nil && !c.empty {
		end, err := c.request.Step()
		if err != nil {
			return c.requestError(err)
		}
		c.empty = end
	}
	if backend := c.struc.backend; backend != "" {
		c.target.UseBackend(backend)
	}
	for _, h := range c.struc.headers {
		md[h.Name] = []string{h.Value}
	}
	return nil
}

// requestError is the local error for a request that broke before an upstream was opened.
func (c *call) requestError(err error) *local.Error {
	if e := frame.LocalError(err, local.ReasonBadRequestFraming, "request"); e != nil {
		return e
	}
	if errors.Is(c.ctxErr(), context.DeadlineExceeded) {
		return errTimeout
	}
	return errClientBroke(err)
}

// newStructure fills in c.struc. It stays nil where messages are forwarded without a look at them: there is nothing to
// do for them, or they cannot be decoded and the route passes those. The error is the same with and without something to
// do.
func (c *call) newStructure(md metadata.MD) *local.Error {
	target := &c.target
	prog, ok := target.Program.(*program)
	if !ok {
		return local.Errorf(codes.Internal, local.ReasonInternal, "route %s has no program for struct mode", target.Route)
	}
	method, filter := c.down.s.Method(), c.proxy.filters[c.down.s.Method()]
	var types *dynamicpb.Types
	var rules *rule.Method
	compiled, e := c.proxy.rulesOf(c.ctx, prog, target, method)
	if e != nil && !(prog.pass && e.Code == codes.Unimplemented) { // pass is for what is not in a schema
		return e
	}
	if compiled != nil {
		types = compiled.Types()
		if rules = compiled.Method(method); rules == nil && !prog.pass {
			return errNoMethod(target, method)
		}
	}
	codec, err := messageCodecOf(c.down.s.ContentSubtype(), types)
	if e, ok := err.(*local.Error); ok {
		if prog.pass {
			return nil
		}
		return e
	}
	if rules == nil && filter.method == "" {
		return nil
	}
	s := &structure{pass: prog.pass, of: c, ctx: c.ctx}
	s.call = rule.Call{
		Method: method, Peer: peerOf(c.down.tr),
		Metadata: sync.OnceValue(func() map[string]string { return metadataOf(md) }),
		Context:  c.ctx,
	}
	s.request = direction{of: s, whose: "request", codec: codec, maxBytes: c.wholeLimit(), encoding: c.down.s.RecvCompress()}
	s.response = direction{of: s, whose: "response", codec: codec, maxBytes: c.wholeLimit()}
	if rules != nil {
		s.deferred = rules.Deferred()
		s.request.rules, s.request.single = rules.Request, !rules.Descriptor.IsStreamingClient()
		s.response.rules, s.response.single = rules.Response, !rules.Descriptor.IsStreamingServer()
	}
	if filter.method != "" {
		if _, ok := codec.(protoCodec); !ok && !prog.pass {
			return local.Errorf(codes.Unimplemented, local.ReasonDecodeFailed, "method %s has a filter, which reads application/grpc+proto only", local.Printable(method))
		} else if ok {
			s.request.filter, s.response.filter = filter.request, filter.response
		}
	}
	s.openRoom()
	c.struc = s
	return nil
}

// defaultWholeBytes bounds a message that is held whole where there is no other limit.
const defaultWholeBytes = 64 << 20

// wholeLimit returns how large a message may be that is held whole.
func (c *call) wholeLimit() int64 {
	return cmp.Or(c.proxy.maxMessageBytes.Load(), defaultWholeBytes)
}

// acceptKnown takes the encodings that cannot be decoded here out of what the endpoint may answer with.
func (s *structure) acceptKnown(md metadata.MD) {
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
