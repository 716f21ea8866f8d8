package handler

import (
	"context"
	"errors"

	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/codes"
	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/grpc"
	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/status"
	"golang.org/x/net/http2"

	"github.com/framegate/framegate/handler/frame"
	"github.com/framegate/framegate/handler/local"
	"github.com/framegate/framegate/pool"
	"github.com/framegate/framegate/pool/h2conn"
)

// finish ends the call at the client. err is the result of the response direction.
func (c *call) finish(err error) {
	up := c.attempts.up.Load()
	if e := c.ending.failure.Load(); e != nil {
		c.giveUp(e)
		return
	}
	if err == nil {
		c.endWithUpstream(up)
		return
	}
	if errors.Is(err, frame.ErrTruncated) && up.Status().Code() != codes.OK {
		c.endWithUpstream(up) // it says itself why the message is cut
		return
	}
	e := frame.LocalError(err, local.ReasonBadResponseFraming, "response")
	if e == nil {
		e = c.brokenError(err)
	}
	c.fail(e)
	c.giveUp(c.ending.failure.Load())
}

// brokenError is the local error for a stream that broke on either side.
func (c *call) brokenError(err error) *local.Error {
	var st *status.Error
	var conn grpc.ConnectionError
	switch {
	case errors.Is(c.ctxErr(), context.DeadlineExceeded), c.attempts.current.late.Load():
		return local.ErrTimeout
	case c.ctxErr() != nil, errors.As(err, new(frame.WriteError)):
		return local.Errorf(codes.Canceled, local.ReasonCanceled, "canceled by the client") // which hears it no more
	case errors.As(err, &conn):
		return local.Errorf(codes.Unavailable, local.ReasonUpstreamReset, "the connection to %s broke: %s", c.attempts.endpoint(), conn.Desc)
	case tooLargeHeaders(c.attempts.up.Load()):
		return resetError(h2conn.HeadersTooLarge)
	case c.attempts.up.Load().Unprocessed():
		return local.Errorf(codes.Unavailable, local.ReasonUpstreamReset, "%s refused the call", c.attempts.endpoint())
	case errors.As(err, &st):
		// Headers that are no gRPC answer; the code is what a gRPC client makes of them.
		return local.Errorf(st.GRPCStatus().Code(), local.ReasonBadResponseFraming, "response of %s: %s", c.attempts.endpoint(), st.GRPCStatus().Message())
	}
	return local.Errorf(codes.Unavailable, local.ReasonUpstreamReset, "%s: %v", c.attempts.endpoint(), err)
}

// endWithUpstream passes the status and trailers of an answer that ended between two messages.
func (c *call) endWithUpstream(up *pool.Stream) {
	st := up.Status()
	if st.Code() != codes.OK {
		if code, ok := resetOf(up); ok {
			e := resetError(code)
			switch {
			case code == http2.ErrCodeCancel && nearlyExpired(c.ctx):
				e = local.ErrTimeout // the endpoint gave up for the same deadline
			case code == http2.ErrCodeRefusedStream && expired(c.ctx):
				e = errNoStream
			}
			c.giveUp(e)
			return
		}
	}
	if c.observation != nil {
		c.observation.answerBegan() // if these trailers are all of it
	}
	md := up.Trailer()
	c.dropUnforwarded(md)
	c.handBack(st.Code(), "")
	c.end(st.Code(), "", func() {
		_ = c.down.Stream.SetTrailer(md) // fails only when the client's stream has ended
		c.down.Stream.SetBizStatusErr(up.BizStatusErr())
		c.down.End(st)
	})
}

// resetOf returns the code with which the endpoint ended a stream without trailers, h2conn's own codes included, and false
// if it did not. The stream has ended. The code comes from the frames themselves; the message that Kitex gives to such a
// stream only makes sure that no trailers came first.
func resetOf(up *pool.Stream) (http2.ErrCode, bool) {
	code, ok := up.ResetCode()
	if !ok {
		return 0, false
	}
	message := up.Status().Message()
	switch {
	case message == "stream terminated by RST_STREAM with error code: "+code.String():
		if code == h2conn.BareEnd || code == h2conn.HeadersTooLarge {
			code = http2.ErrCodeInternal // it has sent a number that means something here only
		}
		return code, true
	case code == h2conn.BareEnd:
		return code, message == "server closed the stream without sending trailers"
	case code == h2conn.HeadersTooLarge:
		return code, message == h2conn.HeadersTooLargeMessage
	}
	return 0, false
}

// tooLargeHeaders reports whether a stream has ended because its headers or trailers are too large.
func tooLargeHeaders(up *pool.Stream) bool {
	code, ok := resetOf(up)
	return ok && code == h2conn.HeadersTooLarge
}

// giveUp ends the call with a local error. It is for the handler's goroutine.
func (c *call) giveUp(e *local.Error) {
	c.handBack(e.Code, e.Reason)
	c.endLocal(e)
}

// handBack gives back what the call holds of its endpoint and of limits. It comes before the client hears the result, which
// has that code and reason: the client's next call may need it. It may be called more than once.
func (c *call) handBack(code codes.Code, reason local.Reason) {
	if c.attempts.current != nil {
		c.attempts.end(c.attempts.current, c.attempts.finalResult(code, reason))
	}
	c.leave()
}

// leave ends what is counted of the call, or does nothing while its messages are still being worked on: it is called once
// more when nothing runs for the call. It may be called more than once.
func (c *call) leave() {
	if e := c.entrance; e != nil {
		if c.struc != nil && !c.struc.Over() {
			return
		}
		c.entrance = nil
		c.target.Release()
		e.leave()
	}
}
