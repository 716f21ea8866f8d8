package handler

import (
	"cmp"
	"sync"
	"sync/atomic"

	"github.com/framegate/framegate/pool"
	"github.com/framegate/framegate/resolver"
)

// maxKept bounds what is kept of a request for another attempt unless the route says otherwise. It is less than what a
// new stream takes without waiting for the endpoint (64 KiB), so that to send it again never blocks.
const maxKept = 60 << 10

// replay keeps the start of a request until something of the answer has come, because the call may be sent to another
// endpoint until then. It is written to every attempt that is live, two with hedging.
type replay struct {
	given atomic.Bool // no further attempt any more; set once

	mu      sync.Mutex // guards the fields below; a writer holds it while it waits for the window of an attempt
	live    [2]*pool.Stream
	pieces  [][]byte
	bytes   int
	most    int       // that are kept; set before the first write
	tooLong bool      // more was sent than is kept
	ended   bool      // the whole request was sent
	first   [2][]byte // room for pieces of most requests

	sending sync.WaitGroup // of send in a goroutine
}

// give gives further attempts up.
func (r *replay) give() { r.given.Store(true) }

// keeps reports whether n further bytes will be kept, and gives further attempts up if not.
func (r *replay) keeps(n int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.given.Load() || r.bytes+n > r.most {
		r.pieces, r.tooLong = nil, true
	}
	return !r.tooLong
}

// keep sets how much of the request is kept.
func (c *call) keep() {
	c.replay.most = maxKept
	switch t := &c.target; {
	case t.Retry != nil:
		c.replay.most = cmp.Or(t.Retry.BufferBytes, resolver.DefaultBufferBytes)
	case t.Hedge != nil:
		c.replay.most = cmp.Or(t.Hedge.BufferBytes, resolver.DefaultBufferBytes)
	}
}

func (r *replay) isTooLong() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.tooLong
}

func (r *replay) keepLocked(p []byte) {
	if r.tooLong {
		return
	}
	if r.pieces == nil {
		r.pieces = r.first[:0]
	}
	r.pieces = append(r.pieces, p)
	r.bytes += len(p)
}

// replayWriter is the upstream's side of a call's request direction.
type replayWriter call

// Piece returns n bytes for Write. What goes to two attempts is recycled by neither.
func (w *replayWriter) Piece(n int) []byte {
	if w.replay.keeps(n) || w.target.Hedge != nil {
		return keptPiece(n)
	}
	return recycledPiece(n)
}

// Write sends p to the attempts that are live, and keeps it if there may be another. An error is final: no attempt takes
// what follows.
func (w *replayWriter) Write(p []byte) error {
	r := &w.replay
	r.mu.Lock()
	defer r.mu.Unlock()
	r.keepLocked(p)
	err := r.live[0].Write(p)
	if r.live[1] != nil {
		if err2 := r.live[1].Write(p); err2 == nil {
			err = nil
		}
	}
	if err != nil && (r.tooLong || r.given.Load()) {
		return err
	}
	return nil // or another attempt will be made, with this piece
}

// closeSend half-closes the attempts that are live.
func (c *call) closeSend() {
	c.replay.mu.Lock()
	defer c.replay.mu.Unlock()
	c.replay.ended = true
	for _, up := range c.replay.live {
		if up != nil {
			_ = up.CloseSend() // fails only when the stream has ended
		}
	}
}

// join makes up the i-th live attempt, with the request so far sent, and reports false if that is not possible any more.
// What is too long to be sent without waiting for the endpoint is sent while the caller goes on.
func (r *replay) join(i int, up *pool.Stream) bool {
	r.mu.Lock() // with i = 0, what was live has ended: no writer waits with it
	if r.tooLong || r.given.Load() {
		r.mu.Unlock()
		return false
	}
	r.live[i] = up
	if r.bytes <= maxKept {
		r.sendLocked(up)
		r.mu.Unlock()
		return true
	}
	r.sending.Go(func() {
		defer r.mu.Unlock()
		r.sendLocked(up)
	})
	return true
}

func (r *replay) sendLocked(up *pool.Stream) {
	for _, p := range r.pieces {
		_ = up.Write(p) // fails only when the stream has ended, which the response direction sees
	}
	if r.ended {
		_ = up.CloseSend()
	}
}
