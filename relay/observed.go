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

// observed is what a call keeps for its observers. Its zero value is that of a call that nobody observes.
type observed struct {
	by     handler.Observation
	on     bool  // there are observers
	headed int64 // when the answer's headers came; 0 if they have not
}

// begin begins the observation of a call.
func (o *observed) begin(c *call) { o.on = c.at.plane.cfg.Calls.Observe(&o.by) }

// start tells the observers that the call starts.
func (o *observed) start(c *call) {
	if o.on {
		o.by.Start(recordOf(c))
	}
}

// handOver leaves the observation to package handler.
func (o *observed) handOver(c *call, begun *handler.Begun) {
	if o.on {
		by, r := o.by, *recordOf(c)
		begun.Observation, begun.Record = &by, &r
	}
	*o = observed{}
}

// end tells the observers that the call has ended.
func (o *observed) end(c *call) {
	if !o.on {
		o.headed = 0
		return
	}
	r := recordOf(c)
	o.by.Start(r)
	r.Code, r.Reason, r.Limit = c.ended.code, c.ended.reason, c.ended.limit
	r.Duration = time.Duration(c.shard.now - c.began)
	if o.headed > 0 {
		r.FirstByte = time.Duration(max(o.headed-c.began, 1)) // 0 means that the answer never began
	}
	r.RequestMessages, r.RequestBytes = c.request.messages, c.request.bytes
	r.ResponseMessages, r.ResponseBytes = c.response.messages, c.response.bytes
	o.by.End(r)
	*o = observed{}
}

// recordOf returns what is known of a call at its start. It is the shard's only record, so that it is in the processor's caches, which do
// not hold one of each call that is under way.
func recordOf(c *call) *handler.Record {
	r := &c.shard.record
	r.Describe(&handler.Facts{
		Start: c.shard.zero.Add(time.Duration(c.began)), Listener: c.at.plane.cfg.Listener, Method: c.method, Authority: c.authority,
		Fields: &c.fields, Client: c.at.peer, Target: &c.target,
	})
	return r
}
