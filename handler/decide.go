package handler

import (
	"context"
	"errors"
	"maps"

	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/metadata"

	"github.com/framegate/framegate/handler/frame"
	"github.com/framegate/framegate/handler/header"
	"github.com/framegate/framegate/handler/local"
	"github.com/framegate/framegate/handler/structmode"
)

// beginStructMode prepares a call of a route in struct mode: it makes the call's transformer and lets the first message of
// the request decide where the call goes, if the route has rules for that. seen is the request's metadata as rules see it.
// It returns the metadata for the endpoint: the client's values under names that header rules set are replaced by what the
// rules set. An error is the call's result.
func (c *call) beginStructMode(seen metadata.MD) (metadata.MD, *local.Error) {
	header.DropHopByHop(seen) // rules see what the endpoint sees
	md := seen
	if c.part { // the call that it is of has done what concerns the request
		return md, c.decide(seen, md)
	}
	if set := structmode.HeadersSet(c.target.Program); len(set) > 0 {
		md = maps.Clone(seen)
		for _, name := range set {
			delete(md, name)
		}
	}
	e := c.decide(seen, md)
	return md, e
}

// decide begins the call in struct mode. If route or header rules decide where the call goes, it reads the request until a
// message is to be forwarded or the request has ended, and then changes the call's target and md as that message decided.
func (c *call) decide(seen, md metadata.MD) *local.Error {
	var e *local.Error
	if c.transformer, e = c.proxy.structMode.Begin(structmode.Call{
		Context: c.ctx, Target: &c.target, Method: c.down.Method(), Subtype: c.down.ContentSubtype(), Encoding: c.down.Encoding(),
		Peer: addressText(c.down.RemoteAddr()), Metadata: seen, Conn: c.down.Conn(), Evict: func() { c.abort(local.ErrNoRoom) },
	}); e != nil {
		return e
	}
	c.upload.prepare()
	if c.transformer != nil { // rules see what the endpoint sees
		header.DropBodyFields(seen)
		header.DropBodyFields(md)
	}
	if c.transformer == nil || !c.transformer.Decides() || c.upload.empty || c.part {
		return nil
	}
	if e := c.awaitMessage(); e != nil {
		return e
	}
	backend, headers := c.transformer.Decision()
	if backend != "" {
		c.target.UseBackend(backend)
	}
	for _, h := range headers {
		md[h.Name] = []string{h.Value}
	}
	return nil
}

// awaitMessage reads the request until a message is to be forwarded, or the request has ended.
func (c *call) awaitMessage() *local.Error {
	for c.upload.frames.Held == nil && !c.upload.empty {
		end, err := c.upload.frames.Step()
		if err != nil {
			return c.requestError(err)
		}
		c.upload.empty = end
	}
	return nil
}

// requestError is the local error for a request that broke before an upstream was opened.
func (c *call) requestError(err error) *local.Error {
	if e := frame.LocalError(err, local.ReasonBadRequestFraming, "request"); e != nil {
		return e
	}
	if errors.Is(c.ctxErr(), context.DeadlineExceeded) {
		return local.ErrTimeout
	}
	return errClientBroke(err)
}
