package relay

import (
	"context"
	"time"

	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/codes"
	"golang.org/x/net/http2"

	"github.com/framegate/framegate/handler"
	"github.com/framegate/framegate/handler/frame"
	"github.com/framegate/framegate/handler/local"
	"github.com/framegate/framegate/pool"
	"github.com/framegate/framegate/pool/transport"
	"github.com/framegate/framegate/relay/h2"
	"github.com/framegate/framegate/relay/h2/hpack"
	"github.com/framegate/framegate/resolver/cluster"
)

// call is one call that is relayed: the client's stream, and the stream to the endpoint.
//
//	client --- toEndpoint ---> upstream
//	       <-- toClient ------
//
//	request -> relayed -> answered -> over, with the answer's trailers, a local error (fail), or the client's reset
type call struct {
	shard    *shard
	client   h2.Stream
	upstream h2.Stream
	deadline timer
	own      []*hpack.Field // for fields; the slice is used again

	callState
	prev, next *call // in shard.active, or next in shard.free

	observed observed     // nothing for a call that package handler makes
	unsent   place        // where in the gRPC frames of the answer the DATA begins that waits for the client, if any does
	small    smallRequest // of kept
}

// callState is what begins anew with each call.
type callState struct {
	at                *clientConn   // the client's connection; nil when the call is not in use
	to                *upstreamConn // where upstream is
	slot              pool.Slot
	fields            fieldList // of the request, for observers and the handler
	method            string    // the path of the request
	began             int64
	opened            int64 // when the call was sent to the endpoint
	heard             int64 // h2.Conn.Heard of to when the call was sent there
	kept              kept
	request, response framing
	authority         string      // for observers
	down              *downstream // of a call that package handler makes; nil for one that is relayed
	times             *times      // nil for a route without max_stream_age and idle_timeout
	forwarded         int64       // bytes of DATA both ways, and header blocks of the answer
	ignored           int         // bytes of the request that came when nobody wanted them any more
	waiting           *waiting    // nil for a call that does not wait for a connection

	picked     bool // attempt.Done is to be called
	held       bool // slot is to be released
	entered    bool // the listener counts the call
	begun      bool // its headers have come
	answered   bool // the answer's headers have come
	sent       bool // the whole request was sent
	refused    bool // it was no call of gRPC, and has its answer
	routeLimit bool // its deadline is that of the route
	unreached  bool // it was late while it waited for an endpoint without a connection
	settled    bool // see settle
	lingers    bool // it has failed, but the message within which it did is still sent to the client

	ended   ended
	attempt cluster.Attempt
	target  cluster.Target
}

// end ends the call when the client's stream has ended, with c.code and c.reason.
func (c *call) end() {
	s := c.shard
	c.upstream.Reset(http2.ErrCodeCancel)
	c.releaseSlot()
	c.kept.drop(s.memory)
	c.settle()
	s.timers.stop(&c.deadline) // of a call that has lingered
	c.at.calls.Add(-1)
	s.recycle(c)
}

// settle ends the call for all but its client, once: it ends what the call waits for, gives back what it holds, and reports how it went.
func (c *call) settle() {
	if c.settled {
		return
	}
	c.settled = true
	c.shard.timers.stop(&c.deadline)
	c.stopAll()
	if c.picked {
		c.attempt.Done(c.result(), c.shard.clock())
	}
	c.target.Release()
	c.observed.end(c)
	if c.entered {
		c.at.plane.cfg.Calls.Leave()
	}
}

// late is called at the call's deadline.
func (c *call) late() {
	switch {
	case c.refused:
		c.leave()
	case c.waiting != nil:
		c.waiting.late = true
		c.waiting.pool.Cancel(context.DeadlineExceeded)
	default:
		c.expire(local.ErrTimeout)
	}
}

// nearlyLate reports whether the call's deadline has passed or is about to: the timers of client and endpoint for the same deadline
// may be earlier than framegate's, by as long as the headers took to come.
func (c *call) nearlyLate() bool {
	left := c.deadline.at - c.shard.now
	return c.deadline.at != 0 && left < max(int64(handler.DeadlineSkew), (c.deadline.at-c.began)/16)
}

// leave ends a call whose whole answer was sent, although the request has not ended: the rest of it is not wanted (RFC 9113
// §8.1).
func (c *call) leave() {
	c.client.Reset(http2.ErrCodeNo)
	c.end()
}

// stopAll ends what the call waits for.
func (c *call) stopAll() {
	c.waiting.stop()
	c.times.stop()
	c.waiting, c.times = nil, nil
}

// releaseSlot gives back the place of the endpoint's stream, which has ended.
func (c *call) releaseSlot() {
	if c.held {
		c.held = false
		c.slot.Release()
	}
}

// minSilence is how long an endpoint must have been silent before a deadline counts as its failure: a client may choose a
// deadline that no endpoint can meet.
const minSilence = time.Second

// result returns what to report of the endpoint.
func (c *call) result() cluster.Result {
	switch c.ended.reason {
	case "":
		if c.ended.code == codes.Unavailable {
			return cluster.Failed
		}
		return cluster.Succeeded
	case local.ReasonUpstreamReset, local.ReasonBadResponseFraming:
		return cluster.Failed
	case local.ReasonTimeout:
		if c.isToBlame() {
			return cluster.Failed
		}
	}
	return cluster.Unknown
}

// isToBlame reports whether the endpoint is to blame for a call that has taken too long: it has the whole request, and has not
// answered in the route's timeout, or has said nothing at all.
func (c *call) isToBlame() bool {
	if c.to == nil {
		return c.unreached && time.Duration(c.shard.now-c.began) >= minSilence
	}
	had := time.Duration(c.shard.now - c.opened) // the rest it has waited for a connection
	silent := had >= minSilence && c.to.h2.Heard() == c.heard
	return !c.answered && c.sent && (c.routeLimit && had >= c.target.Timeout/2 || silent)
}

// toEndpoint relays DATA of the request.
func (c *call) toEndpoint(p []byte, end bool) {
	if c.down != nil {
		c.down.dataLocked(p, end)
		return
	}
	if c.waiting != nil {
		c.waiting.add(p, end)
		return
	}
	if !c.upstream.IsOpen() { // it has ended, and so does the call soon, or there is none
		c.client.Consumed(len(p))
		if c.ignored += len(p); c.refused && c.ignored > maxRefused {
			c.leave()
		}
		return
	}
	if c.picked {
		c.keep(p)
	}
	err := c.request.follow(p)
	if err == nil && end {
		err = c.request.end()
	}
	if err != nil {
		c.fail(frame.LocalError(err, local.ReasonBadRequestFraming, "request"))
		return
	}
	c.sent = end
	c.sentToEndpoint(c.upstream.WriteData(p, end))
}

// sentToEndpoint says that n bytes of the request have left for the endpoint.
func (c *call) sentToEndpoint(n int) {
	c.forwarded += int64(n)
	c.kept.credits += n
	c.client.Consumed(n)
}

// trailersToEndpoint relays trailers of the request, which gRPC has none of, but HTTP/2 does.
func (c *call) trailersToEndpoint(h *h2.Head) {
	switch {
	case c.down != nil:
		c.down.dataLocked(nil, true)
	case c.waiting != nil:
		c.waiting.add(nil, true)
	case c.upstream.IsOpen():
		if err := c.request.end(); err != nil {
			c.fail(frame.LocalError(err, local.ReasonBadRequestFraming, "request"))
			return
		}
		c.sent = true
		if c.to.isBusy() {
			c.upstream.WriteData(nil, true) // trailers are under no flow control, and no call is to end the connection of others
		} else {
			c.upstream.WriteTrailers(h.Fields)
		}
	}
}

// answer relays the answer's headers or trailers. h is nil if they are too long.
func (c *call) answer(h *h2.Head) {
	switch {
	case h == nil:
		c.fail(handler.ResetError(transport.HeadersTooLarge))
		return
	case h.Status > 0 && h.Status < 200: // RFC 9110 §15.2: gRPC has no use for it
		return
	}
	a := c.shard.answerOf(h)
	if !h.Trailer {
		if !a.isGRPC {
			c.fail(notGRPC(h, c.attempt.Address))
			return
		}
		c.answered = true
		c.kept.drop(c.shard.memory)
		c.attempt.Answered()
		c.attempt.Works()
		c.observed.headed = c.shard.now
	} else if err := c.response.end(); err != nil && (a.code == codes.OK || a.noStatus) { // else the status says why the message was cut
		c.fail(frame.LocalError(err, local.ReasonBadResponseFraming, "response"))
		return
	}
	c.forwarded++
	if h.End {
		c.ended.code = a.code
	}
	if h.Trailer {
		c.client.WriteTrailers(a.forwarded)
	} else {
		c.client.WriteHeaders(a.forwarded, h.End)
	}
	c.endIfSent()
}

// toClient relays DATA of the answer.
func (c *call) toClient(p []byte, end bool) {
	from := c.response.place
	err := c.response.follow(p)
	switch {
	case err != nil:
		c.fail(frame.LocalError(err, local.ReasonBadResponseFraming, "response"))
	case end:
		c.writeAnswer(from, p) // nothing is to be given back to an endpoint that has ended
		c.failBehind(handler.ResetError(transport.BareEnd))
	default:
		c.forwardedToClient(c.writeAnswer(from, p))
	}
}

// writeAnswer writes DATA of the answer, which begins at a place of its gRPC frames. It returns how many bytes do not wait.
func (c *call) writeAnswer(from place, p []byte) (sent int) {
	waited := c.client.Queued() > 0
	if sent = c.client.WriteData(p, false); sent < len(p) && !waited {
		from.skip(p[:sent])
		c.unsent = from
	}
	return sent
}

// sentToClient says that p, of the answer's queue, was sent.
func (c *call) sentToClient(p []byte) {
	c.unsent.skip(p)
	if c.down != nil {
		c.down.moved.Broadcast()
		return
	}
	c.forwardedToClient(len(p))
	c.endIfSent()
}

// forwardedToClient says that n bytes of the answer have left for the client.
func (c *call) forwardedToClient(n int) {
	c.forwarded += int64(n)
	c.upstream.Consumed(n)
}

// endIfSent ends the call when the whole answer was sent, although the request has not ended, unless its end is in what was read. If
// it has ended, Events.Done ends the call.
func (c *call) endIfSent() {
	if c.isSent() {
		c.settle()
		c.shard.early = append(c.shard.early, c)
	}
}

// isSent reports whether the whole answer was sent, and the call is to end.
func (c *call) isSent() bool {
	return c.at != nil && !c.refused && c.down == nil && c.client.IsOpen() && c.client.Ended() && c.client.Queued() == 0
}

// upstreamReset is called when the endpoint's stream was reset.
func (c *call) upstreamReset(r *h2.Reset) {
	c.releaseSlot()
	if r.Unprocessed && c.mayHandOver() {
		c.handOver(&handler.FailedAttempt{Refused: r.Code == http2.ErrCodeRefusedStream, Conn: c.slot.Conn()})
		return
	}
	c.fail(c.resetError(r))
}

// resetError returns the local error for the end of the endpoint's stream.
func (c *call) resetError(r *h2.Reset) *local.Error {
	switch {
	case r.Conn != nil:
		return local.Errorf(codes.Unavailable, local.ReasonUpstreamReset, "the connection to %s broke: %s", c.attempt.Address, r.Conn.Text)
	case !r.Peer:
		return local.Errorf(codes.Internal, local.ReasonBadResponseFraming, "response of %s: %s", c.attempt.Address, r.Text)
	case r.Unprocessed && r.Code != http2.ErrCodeRefusedStream:
		return handler.UnprocessedError(c.attempt.Address)
	case r.Code == http2.ErrCodeCancel && c.nearlyLate():
		return local.ErrTimeout // the endpoint gave up for the same deadline
	}
	return handler.ResetError(codeOfReset(r))
}
