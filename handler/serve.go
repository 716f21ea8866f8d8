package handler

import (
	"time"

	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/codes"
	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/metadata"

	"github.com/framegate/framegate/handler/header"
	"github.com/framegate/framegate/handler/local"
	"github.com/framegate/framegate/handler/stream"
	"github.com/framegate/framegate/handler/structmode"
	"github.com/framegate/framegate/handler/tap"
	"github.com/framegate/framegate/resolver/cluster"
	"github.com/framegate/framegate/resolver/spec"
)

// serve takes one call from its first header to its end. begun is nil, or what a data plane has done of that.
func serve(p *Proxy, e *entrance, down stream.Downstream, begun *Begun) {
	md, method := down.Metadata(), down.Method()
	authority := header.Authority(md)
	c := newCall(p, down, begun)
	valid := spec.ValidMethod(method) // a path that names no method is not counted
	if valid && (begun != nil || e.enteredByGate(method) || e.enter()) {
		c.entrance = e
	}
	defer c.leave()
	if c.observation != nil {
		if begun == nil {
			c.observation.headersCame(e.listener, down, md, authority)
		}
		defer c.observeEnd()
	}
	defer c.recoverPanic()
	if !valid {
		c.endWithError(errBadPath(method))
		return
	}
	if c.entrance == nil {
		c.ending.limit = local.ErrOverloaded.Limit
		c.end(local.ErrOverloaded.Code, local.ErrOverloaded.Reason, func() { endOverloaded(down) })
		return
	}
	req := spec.Request{Listener: e.listener, Method: method, Authority: authority, Header: spec.Header(md), Peer: down.RemoteAddr()}
	if begun != nil && begun.Resolved {
		c.target = begun.Target
	} else if e := c.route(req); e != nil {
		c.endWithError(e)
		return
	}
	if c.observation != nil {
		c.observation.record.resolved(&c.target)
	}
	if e := p.checkHops(md[header.Via]); e != nil {
		c.endWithError(e)
		return
	}
	if begun == nil || !begun.Admitted {
		if err := c.target.Admit(&req, time.Now()); err != nil {
			c.endWithError(TargetError(&c.target, err))
			return
		}
	}
	c.forward(&req, md, begun)
}

// forward takes a call whose route is known to its end. md is the metadata of the request, which may be nil.
func (c *call) forward(req *spec.Request, md metadata.MD, begun *Begun) {
	p, down, target := c.proxy, c.down, &c.target
	defer c.attempts.endAll() // for a call that ends before run, which calls it too
	c.hdr.ContentType, c.hdr.UserAgent = header.Last(md, "content-type"), header.Last(md, "user-agent")
	c.ctx = down.Context()
	if c.spread = newSpread(c, req); c.spread != nil { // before anything may call abort, which looks at it
		defer c.spread.finish()
	}
	if hasTimes(target) {
		defer limitTime(c)()
	}
	if d, ok := down.(Abortable); ok {
		d.SetAbort(c.abort)
	}
	p.calls.add(c)
	defer p.calls.remove(c)
	if md == nil {
		md = metadata.MD{}
	}
	if target.Mode == spec.ModeStruct {
		defer func() { c.transformer.Close() }()
		var e *local.Error
		if md, e = c.beginStructMode(md); e != nil {
			c.endWithError(e)
			return
		}
	} else {
		c.upload.prepare()
	}
	if c.spread != nil {
		if e := c.spread.choose(md); e != nil {
			c.endWithError(e)
			return
		}
	}
	if f := target.Document(); f != nil && f.Fanout != nil && !c.part {
		var e *local.Error
		if c.many, e = newMany(c, md); e != nil {
			c.endWithError(e)
			return
		}
	}
	var unpicked *local.Error
	switch {
	case c.many != nil: // each target is picked by itself
	case begun != nil && begun.Picked:
		c.attempts.pickedAlready(&c.attempts.first, begun.Attempt)
		c.attempts.before = begun.Failed
	default:
		unpicked = c.attempts.pick(&c.attempts.first)
	}
	if c.observation != nil {
		c.observation.record.resolved(target)
		c.observation.start()
	}
	if unpicked != nil {
		c.endWithError(unpicked)
		return
	}
	c.attempts.current = &c.attempts.first
	header.ForUpstream(&c.hdr, down, md, AuthorityFor(target, req.Authority))
	c.addVia(md)
	c.upload.keep()
	if c.transformer != nil {
		c.transformer.AcceptKnown(md)
	}
	if !c.part {
		c.tap(md)
	}
	if c.spread != nil {
		c.spread.start(md)
	}
	c.run()
}

// addVia adds framegate to those that the call has passed, if that is counted.
func (c *call) addVia(md metadata.MD) {
	if c.proxy.maxHops > 0 && !c.part {
		header.AddVia(md)
	}
}

// hasTimes reports whether the target's route has a timeout, an idle timeout or a maximum stream age.
func hasTimes(t *cluster.Target) bool { return t.Timeout|t.IdleTimeout|t.MaxStreamAge != 0 }

// route sets the call's target, or returns the local error that says why there is none.
func (c *call) route(req spec.Request) *local.Error {
	p := c.proxy
	ready := p.wasReady.Load() // read before Resolve: if it is true, Resolve has the first routes
	if p.router.Resolve(&c.target, req) {
		return nil
	}
	if !ready {
		if !p.ready() {
			return errNotReady
		}
		p.wasReady.Store(true)
		if p.router.Resolve(&c.target, req) { // the routes came meanwhile
			return nil
		}
	}
	return local.Errorf(codes.Unimplemented, local.ReasonNoRoute, "no route matches %s", local.Printable(req.Method))
}

// openerOf returns where the streams of the call's attempts are opened.
func (c *call) openerOf(t *cluster.Target) stream.Opener {
	switch {
	case c.many != nil:
		return c.many
	case c.opening != nil:
		return c.opening.Opener(t.Pool())
	}
	return c.proxy.openerOf(t)
}

// tap finds the taps that want the messages of the call.
func (c *call) tap(md metadata.MD) {
	method := c.down.Method()
	if c.tapping.taps = c.proxy.taps.Match(method); c.tapping.taps != nil {
		c.tapping.call = &tap.Call{
			Target: c.target, Method: method, Peer: addressText(c.down.RemoteAddr()), Subtype: c.down.ContentSubtype(), Metadata: structmode.MetadataOf(md),
		}
	}
}
