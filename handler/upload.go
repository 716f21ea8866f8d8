package handler

import (
	"cmp"
	"errors"
	"sync/atomic"

	"github.com/framegate/framegate/handler/buffer"
	"github.com/framegate/framegate/handler/frame"
	"github.com/framegate/framegate/handler/local"
	"github.com/framegate/framegate/resolver/spec"
)

// upload is the request direction of a call: it ends with the client's half-close. What was sent is kept until the call is
// committed to an attempt, because it may be sent to another until then: by replay or, with hedging, by hedgeBuffer.
type upload struct {
	call        *call
	frames      frame.Redirect
	empty       bool          // the client has half-closed, and there is no message of the request left to read
	sent        atomic.Bool   // the whole request was sent
	done        chan struct{} // closed when the goroutine of the direction ended; nil if it needed none
	replay      buffer.Replay
	hedgeBuffer *buffer.Hedge // nil without hedging
}

// inlineBytes is how much of a request the handler's goroutine forwards before it looks for the answer. A new stream
// takes so much without waiting for the endpoint.
const inlineBytes = buffer.MaxInline

// ready makes the request direction ready. It must be called before the first read.
func (u *upload) ready() {
	u.frames = frame.Redirect{Src: u.call.down.Stream, MaxBytes: u.call.proxy.maxMessageBytes.Load(), Progress: u.call.idle.of()}
	if u.call.struc != nil {
		u.call.struc.TakeRequest(&u.frames)
	}
	u.empty = u.call.down.RequestEmpty()
}

// start forwards the request. A request that is wholly here and small needs no goroutine of its own.
func (u *upload) start() {
	u.frames.Dst = u.call.shown((*requestWriter)(u), spec.OnRequest, u.call.down.Stream.RecvCompress())
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
	go func() {
		defer close(u.done)
		defer u.call.recoverPanic()
		u.end(u.frames.RedirectFrame())
	}()
}

// end acts on the result of the request direction.
func (u *upload) end(err error) {
	if err == nil {
		u.sent.Store(true)
		u.closeSend()
		return
	}
	if e := frame.LocalError(err, local.ReasonBadRequestFraming, "request"); e != nil {
		u.call.abort(e) // there may be no upstream just now whose end would tell
		return
	}
	if errors.As(err, new(frame.ReadError)) && u.call.ctxErr() == nil {
		u.call.abort(errClientBroke(err))
	}
	// Otherwise the client's stream or the endpoint's has ended: the response direction sees it.
}

// keep sets how much of the request is kept.
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

// commit gives further attempts up.
func (u *upload) commit() {
	if u.hedgeBuffer != nil {
		u.hedgeBuffer.Commit()
		return
	}
	u.replay.Commit()
}

// tooLong reports that the request cannot be sent to a further attempt. Without hedging it is for when the attempt has
// ended.
func (u *upload) tooLong() bool {
	if u.hedgeBuffer != nil {
		return !u.hedgeBuffer.Whole()
	}
	return !u.replay.Whole()
}

// join has the request sent to an attempt, from its beginning, and reports false if that is not possible any more. Without
// hedging it is for when the attempt before has ended.
func (u *upload) join(a *attempt) bool {
	if u.hedgeBuffer != nil {
		return u.hedgeBuffer.Join(a)
	}
	return u.replay.Join(a.Stream, u.call.recoverPanic)
}

// closeSend ends the request.
func (u *upload) closeSend() {
	if u.hedgeBuffer != nil {
		u.hedgeBuffer.End()
		return
	}
	u.replay.End()
}

// requestWriter is the upstream's side of the request direction.
type requestWriter upload

// Piece returns n bytes for Write. What goes to two attempts is recycled by neither.
func (w *requestWriter) Piece(n int) []byte {
	if w.hedgeBuffer != nil || w.replay.Keeps(n) {
		return frame.KeptPiece(n)
	}
	return frame.RecycledPiece(n)
}

// Write sends p, and keeps it if there may be another attempt. An error is final: no attempt takes what follows.
func (w *requestWriter) Write(p []byte) error {
	if w.hedgeBuffer != nil {
		return w.hedgeBuffer.Write(p)
	}
	return w.replay.Write(p)
}
