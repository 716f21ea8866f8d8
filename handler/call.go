package handler

import (
	"context"
	"errors"
	"runtime/debug"
	"sync"
	"sync/atomic"

	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/codes"
	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/grpc"
	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/metadata"

	"github.com/framegate/framegate/handler/frame"
	"github.com/framegate/framegate/handler/local"
	"github.com/framegate/framegate/handler/structmode"
	"github.com/framegate/framegate/handler/tap"
	"github.com/framegate/framegate/pool"
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
	down     serverStream
	target   cluster.Target
	ctx      context.Context // the client's stream: its deadline, metadata and cancellation
	hdr      *grpc.CallHdr
	idle     *idleWatch // nil without an idle timeout

	addr        atomic.Pointer[string]      // of the endpoint that the last attempt goes to; nil before the first
	beside      atomic.Pointer[string]      // of that of a hedged call's attempt beside it; nil for none
	up          atomic.Pointer[pool.Stream] // the upstream in use
	current     *attempt                    // whose upstream it is; nil if there is none. Owned by the handler's goroutine, as the next ones are
	last        *attempt                    // that was picked
	firstTry    attempt                     // room for the first one
	triedUnseen bool                        // another attempt was made for one that its endpoint did not see
	rested      int                         // endpoints that were passed by because they are left alone after a failure
	away        int                         // attempts that were made because a connection was told to go away beneath another
	room        room                        // of endpoints that refuse its stream
	retries     int                         // attempts that were made since the route says so
	overBudget  bool                        // one more was not made, for the route's budget
	requested   atomic.Bool                 // the whole request was sent
	answerHere  bool                        // something of the upstream's answer is here
	waits       sync.WaitGroup              // goroutines of attempts

	request  frame.Redirect
	response frame.Redirect
	empty    bool                  // the client has half-closed, and there is no message of the request left to read
	struc    *structmode.Structure // nil in frame mode
	taps     tap.Taps              // that show its messages
	tapped   *tap.Call             // nil without taps
	uploaded chan struct{}         // closed when the request direction's goroutine ended; nil if it needed none
	replay   replay
	fork     *fork // takes the place of replay with hedging, nil without

	cancelHedge atomic.Pointer[context.CancelFunc] // ends the attempts of a hedged call that has no upstream yet
	failure     atomic.Pointer[local.Error]        // the first local error; it is the call's result
	panicked    atomic.Bool                        // a panic was logged

	endMu  sync.Mutex   // guards the fields below; held while headers or the result are sent to the client
	ended  bool         // the client was sent the result
	code   codes.Code   // of the result
	reason local.Reason // of the result; empty if it is the upstream's
	limit  string       // that the call was over, of ReasonOverloaded

	observation *observation // nil without observers

	prev, next *call // of the proxy's list; guarded by its mutex
}

// run forwards the call until it has ended.
func (c *call) run() {
	defer c.stop()
	defer c.recoverPanic() // first, because stop waits for what the end of the client's stream ends
	if e := c.begin(); e != nil {
		if failure := c.failure.Load(); failure != nil {
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
		c.current = nil
		return c.hedged()
	}
	if e := c.openFirst(); e != nil {
		return e
	}
	if e := c.failure.Load(); e != nil {
		c.up.Load().Reset(e) // abort came before there was anything to reset
	}
	c.startRequest()
	return nil
}

// recoverPanic, deferred, turns a panic into the end of this call alone.
func (c *call) recoverPanic() {
	if p := recover(); p != nil {
		if c.panicked.CompareAndSwap(false, true) {
			c.proxy.log.Error("panic in a call", "method", c.down.s.Method(), "endpoint", c.endpoint(), "panic", p, "stack", string(debug.Stack()))
		}
		c.fail(errPanic)
		c.endLocal(errPanic)
	}
}

// stop ends what is left of the call: the upstream and the goroutine of the request direction. The client's stream has
// ended before.
func (c *call) stop() {
	c.endMu.Lock()
	code, reason := c.code, c.reason
	c.endMu.Unlock()
	c.handBack(code, reason)
	if cancel := c.cancelHedge.Load(); cancel != nil {
		(*cancel)()
	}
	c.waits.Wait() // all that could make or close an attempt, but for this goroutine
	c.closeAttempts()
	if c.fork != nil {
		c.fork.stop()
	}
	if c.uploaded != nil {
		<-c.uploaded // both streams have ended, so nothing blocks it
	}
	c.replay.stop()
}

// endpoint returns the address of the endpoint that the last attempt goes to, or "".
func (c *call) endpoint() string {
	if addr := c.addr.Load(); addr != nil {
		return *addr
	}
	return ""
}

// goesTo reports whether an attempt is under way at the endpoint of that address. It may be called from any goroutine.
func (c *call) goesTo(address string) bool {
	beside := c.beside.Load()
	return c.endpoint() == address || beside != nil && *beside == address
}

// fail ends the call with a local error unless one came before, and reports whether it did. It may come from any
// goroutine.
func (c *call) fail(e *local.Error) bool {
	if !c.failure.CompareAndSwap(nil, e) {
		return false
	}
	if up := c.up.Load(); up != nil {
		up.Reset(e)
	}
	if cancel := c.cancelHedge.Load(); cancel != nil {
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
		c.limit = e.Limit
		c.down.endLocal(e)
	})
}

// end sends the client the result of that code and reason, unless one was sent before. It returns when a result, this
// one or the other, is on its way: only then may the handler return to Kitex, which would send one of its own.
func (c *call) end(code codes.Code, reason local.Reason, send func()) {
	c.endMu.Lock()
	defer c.endMu.Unlock()
	if !c.ended {
		c.ended, c.code, c.reason = true, code, reason
		send()
	}
}

// sendHeaders sends the headers of the answer.
func (c *call) sendHeaders(encoding string, md metadata.MD) error {
	c.endMu.Lock()
	defer c.endMu.Unlock()
	if c.ended {
		return frame.WriteError{Err: frame.ErrEnded}
	}
	c.idle.of().Moved()
	c.down.s.SetSendCompress(encoding)
	if err := c.down.s.SendHeader(md); err != nil {
		return frame.WriteError{Err: err}
	}
	return nil
}

// dropUnforwarded removes from md, headers or trailers of an answer, what is not forwarded. The length of a body is not in
// frame mode either: the call may end before all of it is here, and a client that was told the length would take that for
// a broken connection and not look at the status.
func (c *call) dropUnforwarded(md metadata.MD) {
	dropHopByHop(md)
	if c.struc != nil {
		dropBodyFields(md)
	} else {
		delete(md, contentLength)
	}
}

// inlineBytes is how much of a request the handler's goroutine forwards before it looks for the answer. A new stream
// takes so much without waiting for the endpoint.
const inlineBytes = maxKept

// newRequest makes the request direction ready. It must be called before the first read.
func (c *call) newRequest() {
	c.request = frame.Redirect{Src: c.down.s, MaxBytes: c.proxy.maxMessageBytes.Load(), Progress: c.idle.of()}
	if c.struc != nil {
		c.struc.TakeRequest(&c.request)
	}
	c.empty = c.down.requestEmpty()
}

// shown returns a writer in front of dst that shows the messages to those who watch the call.
func (c *call) shown(dst frame.Writer, d spec.Direction, encoding string) frame.Writer {
	if c.taps == nil {
		return dst
	}
	return c.taps.Writer(dst, c.tapped, d, encoding)
}

// startRequest forwards the request. A request that is wholly here and small needs no goroutine of its own.
func (c *call) startRequest() {
	c.request.Dst = c.shown((*replayWriter)(c), spec.OnRequest, c.down.s.RecvCompress())
	if c.empty {
		c.endRequest(nil)
		return
	}
	if c.fork == nil && c.down.requestEnded() {
		for c.request.Bytes+int64(len(c.request.Held)) < inlineBytes {
			if end, err := c.request.Step(); end || err != nil {
				c.endRequest(err)
				return
			}
		}
	}
	c.uploaded = make(chan struct{})
	go func() {
		defer close(c.uploaded)
		defer c.recoverPanic()
		c.endRequest(c.request.RedirectFrame())
	}()
}

// ctxErr says why the call's context has ended, or is about to: it may be a child of that of the client's stream, and
// hears of its end a moment after those who read and write the stream.
func (c *call) ctxErr() error {
	if err := c.down.s.Context().Err(); err != nil {
		return err
	}
	return c.ctx.Err()
}

// endRequest acts on the result of the request direction.
func (c *call) endRequest(err error) {
	if err == nil {
		c.requested.Store(true)
		c.closeSend()
		return
	}
	if e := frame.LocalError(err, local.ReasonBadRequestFraming, "request"); e != nil {
		c.abort(e) // there may be no upstream just now whose end would tell
		return
	}
	if errors.As(err, new(frame.ReadError)) && c.ctxErr() == nil {
		c.abort(errClientBroke(err))
	}
	// Otherwise the client's stream or the endpoint's has ended: the response direction sees it.
}

// forwardResponse forwards the answer, headers first, up to its trailers.
func (c *call) forwardResponse() error {
	a := c.current
	for next := a; next != nil; next = c.retry(a) { // which waits for headers or the end
		a = next
	}
	c.give()
	if !a.closed.Load() {
		a.picked.Answered()
		c.endExtra(a) // what may last from here on is no load that retries make
	}
	up, encoding := a.Stream, a.RecvCompress()
	if !up.TrailersOnly() && !up.Unprocessed() {
		md, err := up.Header()
		if err != nil {
			return frame.ReadError{Err: err}
		}
		c.answerBegan()
		c.answerHere = true
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
