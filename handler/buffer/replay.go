package buffer

import (
	"sync"
	"sync/atomic"

	"github.com/framegate/framegate/handler/budget"
	"github.com/framegate/framegate/pool"
)

// MaxInline bounds what is kept of a request for another attempt unless the route says otherwise. It is less than what a
// new stream takes without waiting for the endpoint (64 KiB), so that to send it again never blocks.
const MaxInline = 60 << 10

// Replay keeps the start of a request until something of the answer has come, because the call may be sent to another
// endpoint until then. With hedging, Hedge does.
type Replay struct {
	committed atomic.Bool // no further attempt any more; set once

	mu      sync.Mutex   // guards the fields below; a writer holds it while it waits for the window of the attempt
	live    *pool.Stream // of the attempt
	pieces  [][]byte
	bytes   int
	most    int // that are kept; set before the first write
	room    budget.Keep
	tooLong bool      // more was sent than is kept
	ended   bool      // the whole request was sent
	first   [2][]byte // room for pieces of most requests

	sending sync.WaitGroup // of send in a goroutine
}

// kept returns what n bytes of a request that are kept take of the budget. So much as a stream's window is no part of it.
func kept(n int) int64 { return int64(max(0, n-MaxInline)) }

// KeepUpTo says how much is kept, in bytes, and of what budget it takes its memory. It comes before the first write.
func (r *Replay) KeepUpTo(most int, b *budget.Budget) {
	r.most = most
	r.room.Of(b)
}

// Open makes up the live attempt. It comes before the first write.
func (r *Replay) Open(up *pool.Stream) { r.live = up }

// Commit gives further attempts up.
func (r *Replay) Commit() {
	r.committed.Store(true)
	if r.mu.TryLock() { // else the writer drops what is kept when it is through
		r.forgetLocked()
		r.mu.Unlock()
	}
}

// Whole reports whether all of the request so far is kept. It is for when the attempt has ended.
func (r *Replay) Whole() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return !r.tooLong
}

// End ends the request.
func (r *Replay) End() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ended = true
	_ = r.live.CloseSend() // fails only when the stream has ended
}

// Keeps reports whether n further bytes will be kept, and gives further attempts up if not.
func (r *Replay) Keeps(n int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.committed.Load() || r.bytes+n > r.most || !r.tooLong && !r.room.Hold(kept(r.bytes+n)) {
		r.forgetLocked()
	}
	return !r.tooLong
}

// forgetLocked drops what is kept: there will be no further attempt.
func (r *Replay) forgetLocked() {
	r.pieces, r.tooLong = nil, true
	r.room.Hold(0)
}

// Stop returns when nothing is sent any more. All streams have ended, and nothing is written.
func (r *Replay) Stop() {
	r.sending.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.forgetLocked()
}

func (r *Replay) Write(p []byte) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.keepLocked(p)
	if err := r.live.Write(p); err != nil && (r.tooLong || r.committed.Load()) {
		return err
	}
	return nil // or another attempt will be made, with this piece
}

func (r *Replay) keepLocked(p []byte) {
	if r.tooLong {
		return
	}
	if r.pieces == nil {
		r.pieces = r.first[:0]
	}
	r.pieces = append(r.pieces, p)
	r.bytes += len(p)
}

// Join makes up the live attempt, with the request so far sent, and reports false if that is not possible any more. What
// is too long to be sent without waiting for the endpoint is sent while the caller goes on, in a goroutine that defers
// recoverPanic.
func (r *Replay) Join(up *pool.Stream, recoverPanic func()) bool {
	r.mu.Lock() // what was live has ended: no writer waits with it
	if r.tooLong || r.committed.Load() {
		r.mu.Unlock()
		return false
	}
	r.live = up
	if r.bytes <= MaxInline {
		r.sendLocked(up)
		r.mu.Unlock()
		return true
	}
	r.sending.Go(func() {
		defer recoverPanic()
		defer r.mu.Unlock()
		r.sendLocked(up)
	})
	return true
}

func (r *Replay) sendLocked(up *pool.Stream) {
	for _, p := range r.pieces {
		_ = up.Write(p) // fails only when the stream has ended, which the response direction sees
	}
	if r.ended {
		_ = up.CloseSend()
	}
}
