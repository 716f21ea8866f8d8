package handler

import (
	"cmp"
	"errors"
	"sync/atomic"

	"github.com/framegate/framegate/handler/buffer"
	"github.com/framegate/framegate/handler/frame"
	"github.com/framegate/framegate/handler/local"
	"github.com/framegate/framegate/handler/workers"
	"github.com/framegate/framegate/resolver/spec"
)

// upload is the request direction of a call, from the client to the endpoint. It ends with the client's half-close. Until the
// call is committed to an attempt (gRFC A6), the request so far is kept, because it may have to be sent to another attempt:
// replay keeps it or, with hedging, hedgeBuffer.
type upload struct {
	call        *call
	frames      frame.Redirect
	empty       bool          // the client has half-closed, and no message of the request is left to read
	sent        atomic.Bool   // the whole request was sent
	done        chan struct{} // closed when the goroutine of this direction has ended; nil if there is none
	replay      buffer.Replay // used without hedging
	hedgeBuffer *buffer.Hedge // nil without hedging
}

// inlineBytes bounds the request that the handler's goroutine forwards itself before it reads the answer. A new stream takes
// that many bytes without a WINDOW_UPDATE from the endpoint, so the writes do not block.
const inlineBytes = buffer.MaxInline

// prepare sets up reading of the request. It must be called before the first read, once there is a transformer or certainly
// none.
func (u *upload) prepare() {
	u.frames = frame.Redirect{Src: u.call.down, MaxBytes: u.call.proxy.maxMessageBytes.Load(), Progress: u.call.progress}
	if u.call.transformer != nil && !u.call.part { // the call that a part is of has done that
		u.call.transformer.TakeRequest(&u.frames)
	}
	if u.call.spread != nil {
		u.call.spread.take(&u.frames)
	}
	u.empty = u.call.down.RequestEmpty()
}

// start forwards the request: in the caller's goroutine if the client has half-closed and the request is no longer than
// inlineBytes, else in a goroutine of its own.
func (u *upload) start() {
	u.frames.Dst = u.call.tapped((*requestWriter)(u), spec.OnRequest, u.call.down.Encoding())
	if u.call.spread != nil {
		u.frames.Dst = u.call.spread.copied(u.frames.Dst)
	}
	if u.empty {
		u.end(nil)
		return
	}
	if u.hedgeBuffer == nil && u.call.down.RequestEnded() {
		for u.frames.Bytes+int64(len(u.frames.Held)) < inlineBytes {
			if end, err := u.frames.Step(); end || err != nil {
				u.end(err)
				return
			}
		}
	}
	u.done = make(chan struct{})
	workers.Go(nil, func() {
		defer close(u.done)
		defer u.call.recoverPanic()
		u.end(u.frames.RedirectFrame())
	})
}

// end half-closes the endpoint's stream if err, the result of the request direction, is nil; else it ends the call if the
// client is to blame.
func (u *upload) end(err error) {
	if err == nil {
		u.sent.Store(true)
		if u.call.spread != nil {
			u.call.spread.halfClose()
		}
		u.closeSend()
		return
	}
	if e := frame.LocalError(err, local.ReasonBadRequestFraming, "request"); e != nil {
		u.call.abort(e) // not only a reset of the upstream: between two attempts there is none
		return
	}
	if errors.As(err, new(frame.ReadError)) && u.call.ctxErr() == nil {
		u.call.abort(errClientBroke(err))
	}
	// Otherwise the call's context or the endpoint's stream has ended, and the response direction sees that.
}

// keep sets how many bytes of the request are kept for further attempts: what the route says, else buffer.MaxInline.
func (u *upload) keep() {
	switch t := &u.call.target; {
	case t.Hedge != nil:
		u.hedgeBuffer = buffer.NewHedge(cmp.Or(t.Hedge.BufferBytes, spec.DefaultBufferBytes), u.call.proxy.budget, u.call.recoverPanic)
	case t.Retry != nil:
		u.replay.KeepUpTo(cmp.Or(t.Retry.BufferBytes, spec.DefaultBufferBytes), u.call.proxy.budget)
	default:
		u.replay.KeepUpTo(buffer.MaxInline, u.call.proxy.budget)
	}
}

// commit commits the call to the attempts that it has: there will be no further one, and the request is no longer kept.
func (u *upload) commit() {
	if u.hedgeBuffer != nil {
		u.hedgeBuffer.Commit()
		return
	}
	u.replay.Commit()
}

// tooLong reports whether the request so far is no longer kept whole, so that there can be no further attempt. Without hedging
// it may be called only when the attempt has ended.
func (u *upload) tooLong() bool {
	if u.hedgeBuffer != nil {
		return !u.hedgeBuffer.Whole()
	}
	return !u.replay.Whole()
}

// join sends the request to an attempt from its beginning, and reports false if the beginning is no longer kept. Without
// hedging it may be called only when the attempt before has ended.
func (u *upload) join(a *attempt) bool {
	if u.hedgeBuffer != nil {
		return u.hedgeBuffer.Join(a)
	}
	return u.replay.Join(a.Upstream, u.call.recoverPanic)
}

// closeSend half-closes the streams of the attempts that the request is sent to, behind what was written.
func (u *upload) closeSend() {
	if u.hedgeBuffer != nil {
		u.hedgeBuffer.End()
		return
	}
	u.replay.End()
}

// requestWriter is the frame.Writer of the request direction: it writes to the attempts of the call.
type requestWriter upload

// Piece returns n bytes for Write. Kitex may recycle them when they are sent only if no other attempt may need them.
func (w *requestWriter) Piece(n int) []byte {
	if w.hedgeBuffer != nil || w.replay.Keeps(n) {
		return frame.KeptPiece(n)
	}
	return frame.RecycledPiece(n)
}

// Write takes p over, sends it, and keeps it if there may be another attempt. After an error no attempt takes further pieces.
func (w *requestWriter) Write(p []byte) error {
	if w.hedgeBuffer != nil {
		return w.hedgeBuffer.Write(p)
	}
	return w.replay.Write(p)
}
