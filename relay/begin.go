package relay

import (
	"net/http"
	"strconv"
	"time"

	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/codes"

	"github.com/framegate/framegate/handler"
	"github.com/framegate/framegate/handler/header"
	"github.com/framegate/framegate/handler/local"
	"github.com/framegate/framegate/pool"
	"github.com/framegate/framegate/relay/h2"
	"github.com/framegate/framegate/relay/h2/hpack"
	"github.com/framegate/framegate/resolver/spec"
)

// begin takes the request's headers: it decides whether the call is relayed, and opens the endpoint's stream. h is nil if they
// are too long.
func (c *call) begin(h *h2.Head) {
	if h == nil {
		c.observed.begin(c)
		c.fail(errTooLarge)
		return
	}
	c.fields = h.Fields
	if !h.Stays {
		c.own = append(c.own[:0], h.Fields...)
		c.fields = c.own
	}
	r := c.at.plane.requestOf(c.shard, h)
	c.method, c.authority, c.sent = r.method, r.authority, h.End
	switch {
	case r.problem != nil:
		c.observed.begin(c)
		c.fail(r.problem)
		return
	case r.refusal != nil:
		c.observed.begin(c)
		c.refuse(h, r.refusal)
		return
	case r.builtin:
		c.toKitex(h, r)
		return
	}
	if c.entered = c.at.enter(); !c.entered {
		c.at.excess = c.shard.now
		c.fail(local.ErrOverloaded)
		return
	}
	c.observed.begin(c)
	c.route(h, r)
}

// route decides where the call goes, and how.
func (c *call) route(h *h2.Head, r *request) {
	calls := c.at.plane.cfg.Calls
	req := spec.Request{Listener: c.at.plane.cfg.Listener, Method: r.method, Authority: r.authority, Header: &c.fields, Peer: c.at.peer}
	resolved := calls.Resolve(&c.target, req)
	if !resolved || !calls.Plain(&c.target, req.Method) {
		c.general(handler.Begun{Target: c.target, Resolved: resolved})
		return
	}
	if len(r.via) > 0 {
		if e := calls.CheckHops(r.via); e != nil {
			c.fail(e)
			return
		}
	}
	now := c.shard.clock()
	if err := c.target.Admit(&req, now); err != nil {
		c.fail(handler.TargetError(&c.target, err))
		return
	}
	c.request.maxBytes = calls.MaxMessageBytes()
	c.response.maxBytes = c.request.maxBytes
	var err error
	if c.attempt, err = c.target.Pick(now); err != nil {
		c.fail(handler.TargetError(&c.target, err))
		return
	}
	c.picked = true
	c.times = startTimes(c)
	if group := c.shard.groups.Of(c.target.Pool()); group != nil {
		if slot, ok := group.Take(c.attempt.Address, nil); ok {
			if slot.Conn().(*upstreamConn).hasRoom() {
				c.open(slot, h, r)
				return
			}
			slot.Conn().(*upstreamConn).release(slot)
		}
		startWaiting(c, group, h, r)
		return
	}
	c.handOver(nil)
}

// toKitex relays the call to the Kitex server itself.
func (c *call) toKitex(h *h2.Head, r *request) {
	u, err := c.at.builtinConn()
	if err != nil {
		c.fail(local.Errorf(codes.Internal, local.ReasonInternal, "%v", err))
		return
	}
	c.forward(u, h, r)
}

// open opens the endpoint's stream, for which there is room.
func (c *call) open(slot pool.Slot, h *h2.Head, r *request) {
	u := slot.Conn().(*upstreamConn)
	slot.Use()
	c.observed.start(c)
	c.slot, c.held = slot, true
	c.forward(u, h, r)
	u.opened()
}

// forward sends the request's headers.
func (c *call) forward(u *upstreamConn, h *h2.Head, r *request) {
	out := append(c.shard.scratch[:0], h.Method, h.Scheme, h.Path)
	if h.Authority != nil && c.target.Authority == "" {
		out = append(out, h.Authority)
	} else {
		out = append(out, c.shard.fields.Field(":authority", handler.AuthorityFor(&c.target, r.authority), false))
	}
	out = append(out, r.forwarded...)
	if timeout := c.timeout(r); timeout != nil {
		out = append(out, timeout)
	}
	if c.picked && c.at.plane.cfg.Calls.AddsVia() {
		out = append(out, fieldVia)
	}
	c.shard.scratch = out
	c.to, c.opened, c.heard = u, c.shard.now, u.h2.Heard()
	u.h2.Open(&c.upstream, out, h.End)
}

// fieldVia is framegate's entry in the via header.
var fieldVia = hpack.NewField(header.Via, header.ViaEntry, false)

// problem returns the local error of a request that HTTP/2 does not allow, or nil.
func problem(h *h2.Head) *local.Error {
	if h.Problem == "" {
		return nil
	}
	for _, f := range h.Fields {
		if f.Kind == hpack.Path && !spec.ValidMethod(f.Value) {
			return badPath(f.Value)
		}
	}
	return badRequest(codes.Internal, "request: %s", h.Problem)
}

// pathOf returns the :path of a request, or "" if it has none.
func pathOf(h *h2.Head) string {
	for _, f := range h.Fields {
		if f.Kind == hpack.Path {
			return f.Value
		}
	}
	return ""
}

// authorityOf returns the :authority of a request, or else its host (RFC 9113 §8.3.1), or "" if it has neither.
func authorityOf(fields []*hpack.Field) string {
	host := ""
	for _, f := range fields {
		switch {
		case f.Kind == hpack.Authority:
			return f.Value
		case f.Kind == hpack.Host && host == "":
			host = f.Value
		}
	}
	return host
}

// timeout sets the call's deadline, unless it is set already. It returns the grpc-timeout for the endpoint, nil for none.
func (c *call) timeout(r *request) *hpack.Field {
	if at := c.deadline.at; at != 0 {
		return hpack.NewField("grpc-timeout", formatTimeout(time.Duration(at-c.shard.now)), false)
	}
	limit, field := c.limit(r)
	if limit == 0 {
		return nil
	}
	c.setDeadline(limit, field == nil)
	if field == nil {
		field = hpack.NewField("grpc-timeout", formatTimeout(limit), false)
	}
	return field
}

// limit returns how long the call may take, by the client or by the route, which of them is less, and the client's grpc-timeout if it
// says that; 0 for no limit.
func (c *call) limit(r *request) (time.Duration, *hpack.Field) {
	if r.timeout != nil && (c.target.Timeout == 0 || r.limit <= c.target.Timeout) {
		return min(r.limit, maxWait), r.timeout
	}
	return min(c.target.Timeout, maxWait), nil
}

// setDeadline sets the deadline of a call that has none: limit after its beginning, which is the route's or the client's.
func (c *call) setDeadline(limit time.Duration, routes bool) {
	c.routeLimit = routes
	c.shard.timers.set(&c.deadline, c.began+int64(limit))
}

// maxWait bounds the deadlines of calls.
const maxWait = 10 * 365 * 24 * time.Hour

// refuse answers a request that is no gRPC.
func (c *call) refuse(h *h2.Head, r *refusal) {
	if r.status == http.StatusOK {
		c.fail(r.err)
		return
	}
	c.ended.code, c.ended.reason = r.err.Code, r.err.Reason
	c.refused = true
	c.shard.timers.set(&c.deadline, c.shard.now+int64(refusedTime))
	out := append(c.shard.scratch[:0], hpack.NewField(":status", strconv.Itoa(r.status), false))
	if r.status != http.StatusMethodNotAllowed {
		c.shard.scratch = append(out, c.shard.local.fields(r.err)[1:]...) // all but :status
		c.client.WriteHeaders(c.shard.scratch, true)
		return
	}
	// No client of gRPC, so a person is told as well. RFC 9110 §15.5.6: allow; §9.3.2: no content for HEAD.
	out = append(out, hpack.NewField("allow", http.MethodPost, false), hpack.NewField("content-type", "text/plain; charset=utf-8", false))
	c.shard.scratch = append(out, c.shard.local.fields(r.err)[localHeaders:]...)
	head := h.Method.Value == http.MethodHead
	c.client.WriteHeaders(c.shard.scratch, head)
	if !head {
		c.client.WriteData([]byte(r.err.Error()+"\n"), true)
	}
}

// A client may send this much of a request that was refused for what it is, before its stream is reset: what it sends may still be
// an error, and is answered as one.
const (
	maxRefused  = 64 << 10
	refusedTime = 250 * time.Millisecond
)
