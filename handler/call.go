package handler

import (
	"context"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/codes"
	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/metadata"

	"github.com/framegate/framegate/handler/frame"
	"github.com/framegate/framegate/handler/header"
	"github.com/framegate/framegate/handler/local"
	"github.com/framegate/framegate/handler/stream"
	"github.com/framegate/framegate/handler/structmode"
	"github.com/framegate/framegate/handler/tap"
	"github.com/framegate/framegate/pool/transport"
	"github.com/framegate/framegate/resolver/cluster"
	"github.com/framegate/framegate/resolver/spec"
)

// call is one call: two directions, each copied by one goroutine at a time. The request direction ends with the client's
// half-close; the response direction ends the call.
//
//	client --- down ---> request  ---> up ---> endpoint
//	       <-- down ---- response <--- up <---
type call struct {
	proxy    *Proxy
	entrance *entrance // counts the call; nil for one that is not counted
	left     bool      // the call is no longer counted; owned by the handler's goroutine
	part     bool      // it is a part of a client's call: its down is a leg
	down     stream.Downstream
	target   cluster.Target
	ctx      context.Context  // of the client's stream (its deadline, metadata and cancellation), or a child of that
	hdr      transport.Header // of the first attempt
	progress *frame.Progress  // of both directions; nil without an idle timeout

	upload   upload
	attempts attempts
	response frame.Redirect
	ending   ending

	transformer *structmode.Transformer // nil in frame mode
	tapping     tapping

	observation *observation // nil without observers

	opening stream.Opening // where the endpoints' streams are opened; nil for the proxy's own
	spread  *spread        // of a route with mirrors or a selection; else nil
	many    *many          // of a call with several targets; else nil

	prev, next *call // in Proxy.calls; guarded by its mutex
}

// ending is how a call ends: with the first local error, or, if there is none, with the endpoint's status. What ends a call:
//
//	finish           chooses the result when the response direction has ended
//	endWithUpstream  sends the client the endpoint's status and trailers
//	endWithError     sends the client a local error; both for the handler's goroutine
//	abort            sends the client a local error at once, from any goroutine
//	fail             notes a local error and resets the upstream; the directions end by that, and finish sends the error
//	stop             waits for what runs for the call, after the result
type ending struct {
	failure  atomic.Pointer[local.Error] // the first local error
	panicked atomic.Bool                 // a panic was logged

	mu     sync.Mutex   // guards the fields below; held while headers or the result are sent to the client
	ended  bool         // the client was sent the result
	code   codes.Code   // of the result
	reason local.Reason // of the result; empty for the endpoint's status
	limit  string       // the key of the limit that the call was over, for local.ReasonOverloaded
}

// tapping has the taps that the messages of a call are copied to.
type tapping struct {
	taps tap.Taps
	call *tap.Call // nil without taps
}

// observation is what a call keeps for its observers. It is owned by the handler's goroutine.
type observation struct {
	record Record
	Observation
}

// newCall returns a call of a proxy, with room for an observation if there are observers.
func newCall(p *Proxy, down stream.Downstream, begun *Begun) *call {
	var o observation
	if begun == nil {
		o.hearing = *p.observers.Load()
	} else if begun.Observation != nil {
		o = observation{*begun.Record, *begun.Observation}
	}
	if len(o.hearing) == 0 {
		return new(call).init(p, down)
	}
	both := &struct { // one allocation
		call
		observation
	}{observation: o}
	both.call.init(p, down)
	both.call.observation = &both.observation
	return &both.call
}

// init sets the proxy and the client's stream of a new call.
func (c *call) init(p *Proxy, down stream.Downstream) *call {
	c.proxy, c.down = p, down
	c.upload.call, c.attempts.call = c, c
	c.opening, _ = down.(stream.Opening)
	return c
}

// run forwards the call until it has ended.
func (c *call) run() {
	defer c.stop()
	defer c.recoverPanic() // runs before stop: it ends the client's stream, and stop waits for goroutines that end with the stream
	if e := c.begin(); e != nil {
		if failure := c.ending.failure.Load(); failure != nil {
			e = failure
		}
		c.endWithError(e)
		return
	}
	c.finish(c.forwardResponse())
}

// begin opens the upstream and starts the request direction. With hedging the request direction starts first, and the upstream
// is the attempt that answers first.
func (c *call) begin() *local.Error {
	if c.target.Hedge != nil {
		c.attempts.current = nil
		return c.attempts.hedged()
	}
	if e := c.attempts.openFirst(); e != nil {
		return e
	}
	if e := c.ending.failure.Load(); e != nil {
		c.attempts.up.Load().Reset(e) // abort ran before there was an upstream for it to reset
	}
	c.upload.start()
	return nil
}

// recoverPanic, deferred, turns a panic into the end of this call alone.
func (c *call) recoverPanic() {
	if p := recover(); p != nil {
		if c.ending.panicked.CompareAndSwap(false, true) {
			c.proxy.log.Error("panic in a call", "method", c.down.Method(), "endpoint", c.attempts.endpoint(), "panic", p, "stack", string(debug.Stack()))
		}
		c.fail(errPanic)
		c.sendError(errPanic)
	}
}

// stop closes the attempts and waits for all goroutines of the call. The client's stream has ended before.
func (c *call) stop() {
	c.ending.mu.Lock()
	code, reason := c.ending.code, c.ending.reason
	c.ending.mu.Unlock()
	c.handBack(code, reason)
	if cancel := c.attempts.cancelHedge.Load(); cancel != nil {
		(*cancel)()
	}
	c.attempts.waits.Wait() // afterwards only this goroutine makes or closes attempts
	c.attempts.endAll()
	if c.upload.hedgeBuffer != nil {
		c.upload.hedgeBuffer.Stop()
	}
	if c.upload.done != nil {
		<-c.upload.done // both streams have ended, so nothing blocks it
	}
	c.upload.replay.Stop()
}

// fail makes e the call's local error and resets its upstream, unless the call has a local error already. It reports whether
// it did. It may be called from any goroutine.
func (c *call) fail(e *local.Error) bool {
	if !c.ending.failure.CompareAndSwap(nil, e) {
		return false
	}
	if up := c.attempts.up.Load(); up != nil {
		up.Reset(e)
	}
	if cancel := c.attempts.cancelHedge.Load(); cancel != nil {
		(*cancel)()
	}
	return true
}

// abort ends the call with a local error at once, even while a direction waits for a slow client. It may be called from any
// goroutine.
func (c *call) abort(e *local.Error) {
	defer c.recoverPanic()
	if c.fail(e) {
		c.sendError(e)
	}
}

// sendError sends the client a local error as the result.
func (c *call) sendError(e *local.Error) {
	c.end(e.Code, e.Reason, func() {
		st, md := e.Status(), e.Trailer()
		c.ending.limit = e.Limit
		c.watchers().end(st, md)
		c.down.End(st, md)
	})
}

// end calls send, which sends the client the result with that code and reason, unless a result was sent before. When it
// returns, one of the two results is on its way: only then may the handler return, because Kitex would send a result of its
// own.
func (c *call) end(code codes.Code, reason local.Reason, send func()) {
	c.ending.mu.Lock()
	defer c.ending.mu.Unlock()
	if !c.ending.ended {
		c.ending.ended, c.ending.code, c.ending.reason = true, code, reason
		send()
	}
}

// sendHeaders sends the headers of the answer.
func (c *call) sendHeaders(encoding string, md metadata.MD) error {
	c.ending.mu.Lock()
	defer c.ending.mu.Unlock()
	if c.ending.ended {
		return frame.WriteError{Err: frame.ErrEnded}
	}
	c.progress.Moved()
	c.watchers().begin(encoding, md)
	if err := c.down.SendHeaders(encoding, md); err != nil {
		return frame.WriteError{Err: err}
	}
	return nil
}

// dropUnforwarded removes from md, the headers or trailers of an answer, what is not forwarded. That includes content-length
// in frame mode too: the call may end before the whole body has come, and a client that was told the length would take that
// for a broken connection and not look at the status.
func (c *call) dropUnforwarded(md metadata.MD) {
	header.DropHopByHop(md)
	if c.transformer != nil {
		header.DropBodyFields(md)
	} else {
		delete(md, header.ContentLength)
	}
}

// tapped returns a writer in front of dst that copies the messages to the call's taps, or dst itself if there are none.
func (c *call) tapped(dst frame.Writer, d spec.Direction, encoding string) frame.Writer {
	if c.tapping.taps == nil {
		return dst
	}
	return c.tapping.taps.Writer(dst, c.tapping.call, d, encoding)
}

// partsHaveRules reports whether each target of a fan-out applies the rules of struct mode to its answer. What mirrors answer in place of
// the backends is subject to the call's own.
func (c *call) partsHaveRules() bool { return c.many != nil && c.target.Document().Fanout != nil }

// watchers returns who wants to see the answer; nil for nobody.
func (c *call) watchers() *watchers {
	if c.spread == nil {
		return nil
	}
	return &c.spread.watchers
}

// ctxErr returns why the call's context has ended, or nil. It asks the client's stream first, because the call's context may
// be a child of the stream's and is canceled a moment after reads and writes of the stream fail.
func (c *call) ctxErr() error {
	if err := c.down.Context().Err(); err != nil {
		return err
	}
	return c.ctx.Err()
}

// forwardResponse forwards the answer, headers first, up to its trailers.
func (c *call) forwardResponse() error {
	a := c.attempts.await()
	c.upload.commit()
	if !a.closed.Load() {
		a.picked.Answered()
		c.attempts.endBudgeted(a) // the retry budget bounds attempts that wait for an answer, not how long the answer lasts
	}
	up, encoding := a.Upstream, a.Encoding()
	if !up.TrailersOnly() && !up.Unprocessed() {
		md, err := up.Header()
		if err != nil {
			return frame.ReadError{Err: err}
		}
		if c.observation != nil {
			c.observation.answerBegan()
		}
		c.attempts.answered = true
		a.picked.Works()
		c.dropUnforwarded(md)
		if err := c.sendHeaders(encoding, md); err != nil {
			return err
		}
	}
	c.response = frame.Redirect{
		Src: up, Dst: c.tapped(c.down, spec.OnResponse, encoding), MaxBytes: c.proxy.maxMessageBytes.Load(), Progress: c.progress,
	}
	if c.transformer != nil && !c.partsHaveRules() {
		c.transformer.TakeResponse(&c.response, encoding)
	}
	c.watchers().watch(&c.response)
	return c.response.RedirectFrame()
}

// headersCame sets what is known of a call when its headers have come.
func (o *observation) headersCame(listener string, down stream.Downstream, md metadata.MD, authority string) {
	o.record = Record{
		Start: time.Now(), Listener: listener, Method: down.Method(), client: down.RemoteAddr(), fields: spec.Header(md), authority: authority,
	}
}

// start tells the observers that the call starts.
func (o *observation) start() { o.Start(&o.record) }

// answerBegan sets Record.FirstByte, once.
func (o *observation) answerBegan() {
	if o.record.FirstByte == 0 {
		o.record.FirstByte = max(time.Since(o.record.Start), 1) // 0 means that the answer never began
	}
}

// end tells the observers that the call has ended, which the record says all of.
func (o *observation) end() { o.End(&o.record) }
