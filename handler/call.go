package handler

import (
	"context"
	"runtime/debug"
	"sync"
	"sync/atomic"

	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/codes"
	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/grpc"
	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/metadata"

	"github.com/framegate/framegate/handler/downstream"
	"github.com/framegate/framegate/handler/frame"
	"github.com/framegate/framegate/handler/header"
	"github.com/framegate/framegate/handler/local"
	"github.com/framegate/framegate/handler/structmode"
	"github.com/framegate/framegate/handler/tap"
	"github.com/framegate/framegate/resolver/cluster"
	"github.com/framegate/framegate/resolver/spec"
)

// call is one call in frame mode: two directions, each copied by one goroutine at a time. The request direction ends with
// the client's half-close; the response direction ends the call.
//
//	client --- down ---> request  ---> up ---> endpoint
//	       <-- down ---- response <--- up <---
type call struct {
	proxy    *Proxy
	entrance *entrance // where it is counted; nil when it no longer is. Owned by the handler's goroutine
	down     downstream.Stream
	target   cluster.Target
	ctx      context.Context // the client's stream: its deadline, metadata and cancellation
	hdr      *grpc.CallHdr
	idle     *idleWatch // nil without an idle timeout

	upload   upload
	attempts attempts
	response frame.Redirect
	ending   ending

	struc   *structmode.Structure // nil in frame mode
	tapping tapping

	observation *observation // nil without observers

	prev, next *call // of the proxy's list; guarded by its mutex
}

// ending is how a call ends: with a local error, which is its result if it is the first, or with the endpoint's status.
type ending struct {
	failure  atomic.Pointer[local.Error] // the first local error
	panicked atomic.Bool                 // a panic was logged

	mu     sync.Mutex // guards the fields below; held while headers or the result are sent to the client
	ended  bool       // the client was sent the result
	code   codes.Code // of the result
	reason local.Reason
	limit  string // that the call was over, of ReasonOverloaded
}

// tapping is who is shown the messages of a call.
type tapping struct {
	taps tap.Taps
	call *tap.Call // nil without taps
}

// newCall returns a call, with room for an observation if there are observers.
func (p *Proxy) newCall(down downstream.Stream) *call {
	hearing := *p.observers.Load()
	if len(hearing) == 0 {
		return new(call).of(p, down)
	}
	both := &struct { // one allocation
		call
		observation
	}{}
	both.call.of(p, down)
	both.hearing = hearing
	both.call.observation = &both.observation
	return &both.call
}

// of makes a call one of the proxy's, of that stream.
func (c *call) of(p *Proxy, down downstream.Stream) *call {
	c.proxy, c.down = p, down
	c.upload.call, c.attempts.call = c, c
	return c
}

// run forwards the call until it has ended.
func (c *call) run() {
	defer c.stop()
	defer c.recoverPanic() // first, because stop waits for what the end of the client's stream ends
	if e := c.begin(); e != nil {
		if failure := c.ending.failure.Load(); failure != nil {
			e = failure
		}
		c.giveUp(e)
		return
	}
	c.finish(c.forwardResponse())
}

// begin opens the upstream and starts the request. With hedging the request comes first, and the upstream is the attempt
// that was the first to answer.
func (c *call) begin() *local.Error {
	if c.target.Hedge != nil {
		c.attempts.current = nil
		return c.attempts.hedged()
	}
	if e := c.attempts.openFirst(); e != nil {
		return e
	}
	if e := c.ending.failure.Load(); e != nil {
		c.attempts.up.Load().Reset(e) // abort came before there was anything to reset
	}
	c.upload.start()
	return nil
}

// recoverPanic, deferred, turns a panic into the end of this call alone.
func (c *call) recoverPanic() {
	if p := recover(); p != nil {
		if c.ending.panicked.CompareAndSwap(false, true) {
			c.proxy.log.Error("panic in a call", "method", c.down.Stream.Method(), "endpoint", c.attempts.endpoint(), "panic", p, "stack", string(debug.Stack()))
		}
		c.fail(errPanic)
		c.endLocal(errPanic)
	}
}

// stop ends what is left of the call: the upstream and the goroutine of the request direction. The client's stream has
// ended before.
func (c *call) stop() {
	c.ending.mu.Lock()
	code, reason := c.ending.code, c.ending.reason
	c.ending.mu.Unlock()
	c.handBack(code, reason)
	if cancel := c.attempts.cancelHedge.Load(); cancel != nil {
		(*cancel)()
	}
	c.attempts.waits.Wait() // all that could make or close an attempt, but for this goroutine
	c.attempts.endAll()
	if c.upload.hedgeBuffer != nil {
		c.upload.hedgeBuffer.Stop()
	}
	if c.upload.done != nil {
		<-c.upload.done // both streams have ended, so nothing blocks it
	}
	c.upload.replay.Stop()
}

// fail ends the call with a local error unless one came before, and reports whether it did. It may come from any
// goroutine.
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

// abort ends the call at once with a local error, also when it waits for a slow client. It may come from any goroutine.
func (c *call) abort(e *local.Error) {
	defer c.recoverPanic()
	if c.fail(e) {
		c.endLocal(e)
	}
}

// endLocal sends the client a local error as the result.
func (c *call) endLocal(e *local.Error) {
	c.end(e.Code, e.Reason, func() {
		c.ending.limit = e.Limit
		c.down.EndLocal(e)
	})
}

// end sends the client the result of that code and reason, unless one was sent before. It returns when a result, this
// one or the other, is on its way: only then may the handler return to Kitex, which would send one of its own.
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
	c.idle.of().Moved()
	c.down.Stream.SetSendCompress(encoding)
	if err := c.down.Stream.SendHeader(md); err != nil {
		return frame.WriteError{Err: err}
	}
	return nil
}

// dropUnforwarded removes from md, headers or trailers of an answer, what is not forwarded. The length of a body is not in
// frame mode either: the call may end before all of it is here, and a client that was told the length would take that for
// a broken connection and not look at the status.
func (c *call) dropUnforwarded(md metadata.MD) {
	header.DropHopByHop(md)
	if c.struc != nil {
		header.DropBodyFields(md)
	} else {
		delete(md, header.ContentLength)
	}
}

// shown returns a writer in front of dst that shows the messages to those who watch the call.
func (c *call) shown(dst frame.Writer, d spec.Direction, encoding string) frame.Writer {
	if c.tapping.taps == nil {
		return dst
	}
	return c.tapping.taps.Writer(dst, c.tapping.call, d, encoding)
}

// ctxErr says why the call's context has ended, or is about to: it may be a child of that of the client's stream, and
// hears of its end a moment after those who read and write the stream.
func (c *call) ctxErr() error {
	if err := c.down.Stream.Context().Err(); err != nil {
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
		c.attempts.endBudgeted(a) // what may last from here on is no load that retries make
	}
	up, encoding := a.Stream, a.RecvCompress()
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
		Src: up.Stream, Dst: c.shown(&c.down, spec.OnResponse, encoding), MaxBytes: c.proxy.maxMessageBytes.Load(), Progress: c.idle.of(),
	}
	if c.struc != nil {
		c.struc.TakeResponse(&c.response, encoding)
	}
	return c.response.RedirectFrame()
}
