package handler

import (
	"context"
	"errors"
	"time"

	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/codes"
	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/status"
	"golang.org/x/net/http2"

	"github.com/framegate/framegate/handler/frame"
	"github.com/framegate/framegate/handler/local"
	"github.com/framegate/framegate/handler/stream"
	"github.com/framegate/framegate/pool/transport"
)

// finish sends the client the result of the call. err is the result of the response direction.
func (c *call) finish(err error) {
	up := c.attempts.up.Load()
	if e := c.ending.failure.Load(); e != nil {
		c.endWithError(e)
		return
	}
	if e := c.many.failure(); e != nil {
		c.endWithError(e)
		return
	}
	if err == nil {
		c.endWithUpstream(up.Upstream)
		return
	}
	if errors.Is(err, frame.ErrTruncated) && up.Status().Code() != codes.OK {
		c.endWithUpstream(up.Upstream) // its status says why the message was cut
		return
	}
	e := frame.LocalError(err, local.ReasonBadResponseFraming, "response")
	if e == nil {
		e = c.brokenError(err)
	}
	c.fail(e)
	c.endWithError(c.ending.failure.Load())
}

// brokenError returns the local error for a response direction that failed with err, because the client's or the endpoint's
// stream broke.
func (c *call) brokenError(err error) *local.Error {
	var st *status.Error
	var conn transport.ConnectionError
	switch {
	case errors.Is(c.ctxErr(), context.DeadlineExceeded), c.attempts.current.late.Load():
		return local.ErrTimeout
	case c.ctxErr() != nil, errors.As(err, new(frame.WriteError)):
		return local.Errorf(codes.Canceled, local.ReasonCanceled, "canceled by the client") // for observers: the client does not see it
	case errors.As(err, &conn):
		return local.Errorf(codes.Unavailable, local.ReasonUpstreamReset, "the connection to %s broke: %s", c.attempts.endpoint(), conn.Reason)
	case tooLargeHeaders(c.attempts.up.Load()):
		return ResetError(transport.HeadersTooLarge)
	case c.attempts.up.Load().Unprocessed():
		return UnprocessedError(c.attempts.endpoint())
	case errors.As(err, &st):
		// The headers are not those of a gRPC answer. The code is the one that a gRPC client derives from them.
		return local.Errorf(st.GRPCStatus().Code(), local.ReasonBadResponseFraming, "response of %s: %s", c.attempts.endpoint(), st.GRPCStatus().Message())
	}
	return local.Errorf(codes.Unavailable, local.ReasonUpstreamReset, "%s: %v", c.attempts.endpoint(), err)
}

// UnprocessedError returns the local error of a call whose stream the endpoint's GOAWAY has left out.
func UnprocessedError(address string) *local.Error {
	return local.Errorf(codes.Unavailable, local.ReasonUpstreamReset, "%s refused the call", address)
}

// endWithUpstream ends the call with the status and trailers of the endpoint, or with a local error if the endpoint reset the
// stream. The answer did not end within a message.
func (c *call) endWithUpstream(up stream.Upstream) {
	st := up.Status()
	if st.Code() != codes.OK {
		if code, ok := up.ResetCode(); ok {
			e := ResetError(code)
			switch {
			case code == http2.ErrCodeCancel && nearlyExpired(c.ctx):
				e = local.ErrTimeout // the endpoint gave up for the same deadline
			case code == http2.ErrCodeRefusedStream && expired(c.ctx):
				e = errNoStream
			}
			c.endWithError(e)
			return
		}
	}
	if c.observation != nil {
		c.observation.answerBegan() // for an answer of trailers only
	}
	md := up.Trailer()
	c.dropUnforwarded(md)
	c.handBack(st.Code(), "")
	c.end(st.Code(), "", func() {
		c.watchers().end(st, md)
		c.down.End(st, md)
	})
}

// tooLargeHeaders reports whether a stream has ended because the endpoint's headers or trailers were too large.
func tooLargeHeaders(up stream.Upstream) bool {
	code, ok := up.ResetCode()
	return ok && code == transport.HeadersTooLarge
}

// endWithError ends the call with a local error. Only the handler's goroutine may call it; others call abort.
func (c *call) endWithError(e *local.Error) {
	c.handBack(e.Code, e.Reason)
	c.sendError(e)
}

// handBack closes the current attempt and takes the call out of the counts of limits. It runs before the client is sent the
// result, which has that code and reason, because the client's next call may need what this one held. It may be called more
// than once.
func (c *call) handBack(code codes.Code, reason local.Reason) {
	if c.attempts.current != nil {
		c.attempts.end(c.attempts.current, c.attempts.finalResult(code, reason))
	}
	c.leave()
}

// leave takes the call out of the counts of its route and its listener. It does nothing while struct mode still works on a
// message of the call; serve calls it again when nothing runs for the call. It may be called more than once.
func (c *call) leave() {
	if c.left || c.transformer != nil && !c.transformer.Over() {
		return
	}
	c.left = true
	c.target.Release()
	if c.entrance != nil {
		c.entrance.leave()
	}
}

// observeEnd, deferred, tells the observers that the call has ended. No other goroutine works for the call any more.
func (c *call) observeEnd() {
	defer c.recoverPanic()
	c.observation.start() // for a call that ended before it had an endpoint
	r := &c.observation.record
	r.Duration = time.Since(r.Start)
	r.Endpoint = c.attempts.endpoint() // the attempts may have gone to several
	r.RequestMessages, r.RequestBytes = c.upload.frames.Messages, c.upload.frames.Bytes
	r.ResponseMessages, r.ResponseBytes = c.response.Messages, c.response.Bytes
	r.Attempts = c.attempts.count()
	if c.many != nil && c.many.stream != nil {
		r.Asked, r.Answered = c.many.stream.Counts()
	}
	if c.transformer != nil {
		r.Struct = c.transformer.Stats()
	}
	c.ending.mu.Lock() // a timer that fires too late may still call abort
	r.Code, r.Reason, r.Limit = c.ending.code, c.ending.reason, c.ending.limit
	c.ending.mu.Unlock()
	c.observation.end()
}
