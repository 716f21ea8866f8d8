package relay

import (
	"time"

	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/codes"

	"github.com/framegate/framegate/handler"
	"github.com/framegate/framegate/handler/local"
)

// ended is how a call has ended, for observers.
type ended struct {
	code   codes.Code
	reason local.Reason // of a local error
	limit  string
}

// observe begins the observation of the call.
func (c *call) observe() { c.observed = c.at.plane.cfg.Calls.Observe(&c.observation) }

// observeStart tells the observers that the call starts.
func (c *call) observeStart() {
	if c.observed {
		c.observation.Start(c.record())
	}
}

// observeEnd tells the observers that the call has ended.
func (c *call) observeEnd() {
	if !c.observed {
		return
	}
	r := c.record()
	c.observation.Start(r)
	r.Code, r.Reason, r.Limit = c.ended.code, c.ended.reason, c.ended.limit
	r.Duration = time.Duration(c.shard.now - c.began)
	if c.headed > 0 {
		r.FirstByte = time.Duration(max(c.headed-c.began, 1)) // 0 means that the answer never began
	}
	r.RequestMessages, r.RequestBytes = c.request.messages, c.request.bytes
	r.ResponseMessages, r.ResponseBytes = c.response.messages, c.response.bytes
	c.observation.End(r)
	c.observation = handler.Observation{}
	r.Code, r.Reason, r.Limit, r.Duration, r.FirstByte = codes.OK, "", "", 0, 0 // not known at the next call's start
	r.RequestMessages, r.RequestBytes, r.ResponseMessages, r.ResponseBytes = 0, 0, 0, 0
}

// record returns what is known of the call at its start. It is the shard's only one, so that it is in the processor's caches, which do not
// hold one of each call that is under way.
func (c *call) record() *handler.Record {
	r := &c.shard.record
	r.Describe(&handler.Facts{
		Start: began.Add(time.Duration(c.began)), Listener: c.at.plane.cfg.Listener, Method: c.method, Authority: c.authority, Fields: &c.fields, Client: c.at.peer, Target: &c.target,
	})
	return r
}
