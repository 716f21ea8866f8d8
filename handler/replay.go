package handler

import (
	"sync"
	"sync/atomic"

	"github.com/framegate/framegate/pool"
)

// maxKept bounds what is kept of a request for a second try. It is less than what a new stream takes without waiting
// for the endpoint (64 KiB), so that a replay never blocks.
const maxKept = 60 << 10

// replay keeps the start of a request until something of the answer has come, because an endpoint may say that it
// certainly did not process the call (REFUSED_STREAM, or GOAWAY below the stream: RFC 9113 §8.7): then the call is tried
// once more.
type replay struct {
	given atomic.Bool // no second try any more; set once

	mu      sync.Mutex // guards the fields below; a writer holds it while it waits for the upstream's window
	pieces  [][]byte
	bytes   int
	tooLong bool // more was sent than is kept
	ended   bool // the whole request was sent
	tried   bool
	first   [2][]byte // room for pieces of most requests
}

// give gives the second try up.
func (r *replay) give() { r.given.Store(true) }

// keeps reports whether n further bytes will be kept, and gives the request up for a second try if not.
func (r *replay) keeps(n int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.given.Load() || r.bytes+n > maxKept {
		r.pieces, r.tooLong = nil, true
	}
	return !r.tooLong
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

// Piece returns n bytes for Write.
func (w *replayWriter) Piece(n int) []byte {
	if w.replay.keeps(n) {
		return keptPiece(n)
	}
	return recycledPiece(n)
}

// Write sends p upstream and keeps it if there may be a second try. An error is final: there will be none.
func (w *replayWriter) Write(p []byte) error {
	r := &w.replay
	r.mu.Lock()
	defer r.mu.Unlock()
	r.keepLocked(p)
	up := w.up.Load()
	if err := up.Write(p); err != nil && (r.tooLong || r.tried || r.given.Load()) {
		return err
	}
	return nil // or the response direction will try again, with this piece
}

// closeSend half-closes the upstream.
func (c *call) closeSend() {
	c.replay.mu.Lock()
	defer c.replay.mu.Unlock()
	c.replay.ended = true
	_ = c.up.Load().CloseSend() // fails only when the upstream has ended
}

// tryAgain opens another stream for a call whose stream was certainly not processed, sends what was sent before and
// returns it, or nil if there can be no second try. failed is closed if another takes its place.
func (c *call) tryAgain(failed *pool.Stream) *pool.Stream {
	r := &c.replay
	r.mu.Lock() // the upstream has ended: no writer waits with it
	defer r.mu.Unlock()
	if r.tried || r.tooLong || c.ctx.Err() != nil || c.failure.Load() != nil {
		r.tried = true
		return nil
	}
	r.tried = true
	up, err := c.proxy.pool.Open(c.ctx, failed.Address(), c.hdr, pool.OpenOptions{Avoid: failed})
	if err != nil {
		return nil
	}
	for _, p := range r.pieces {
		_ = up.Write(p) // fails only when the stream has ended, which the response direction sees
	}
	if r.ended {
		_ = up.CloseSend()
	}
	c.up.Store(up)
	failed.Close()
	if e := c.failure.Load(); e != nil {
		up.Reset(e)
	}
	return up
}
