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

// structured makes a call of a route in struct mode ready to run. If the first message that is forwarded decides where
// the call goes, it is waited for, and the target changed by what it decides. It returns the metadata to send: without what
// the client sent under the names that header rules set, and with what they set. The error is the call's result.
func (c *call) structured(seen metadata.MD) (metadata.MD, *local.Error) {
	header.DropHopByHop(seen) // rules see what the endpoint does
	md := seen
	if set := structmode.HeadersSet(c.target.Program); len(set) > 0 {
		md = maps.Clone(seen)
		for _, name := range set {
			delete(md, name)
		}
	}
	e := c.decide(seen, md)
	return md, e
}

// decide is structured without what does not depend on messages.
func (c *call) decide(seen, md metadata.MD) *local.Error {
	var e *local.Error
	if c.struc, e = c.proxy.structs.Begin(structmode.Call{
		Context: c.ctx, Target: &c.target, Method: c.down.Stream.Method(), Subtype: c.down.Stream.ContentSubtype(), Encoding: c.down.Stream.RecvCompress(),
		Peer: peerOf(c.down.Transport), Metadata: seen, Transport: c.down.Transport, Evict: func() { c.abort(local.ErrNoRoom) },
	}); e != nil {
		return e
	}
	c.upload.ready()
	if c.struc != nil { // rules see what the endpoint does
		header.DropBodyFields(seen)
		header.DropBodyFields(md)
	}
	if c.struc == nil || !c.struc.Decides() || c.upload.empty {
		return nil
	}
	for c.upload.frames.Held == nil && !c.upload.empty {
		end, err := c.upload.frames.Step()
		if err != nil {
			return c.requestError(err)
		}
		c.upload.empty = end
	}
	backend, headers := c.struc.Decision()
	if backend != "" {
		c.target.UseBackend(backend)
	}
	for _, h := range headers {
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
		return local.ErrTimeout
	}
	return errClientBroke(err)
}
