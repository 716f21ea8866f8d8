package buffer

import (
	"sync"
	"sync/atomic"

	"github.com/framegate/framegate/handler/budget"
	"github.com/framegate/framegate/handler/stream"
)

// MaxInline is how many bytes of a request are kept for another attempt unless the route says otherwise. A new stream takes
// that many without a WINDOW_UPDATE from the endpoint: its initial window is 64 KiB (RFC 9113 §6.9.2). So sending them again
// never blocks.
const MaxInline = 60 << 10

// Replay sends the request of a call to its attempt, and keeps it until the headers of the answer have come, because the
// request may have to be sent to another attempt until then. One attempt at a time is live. A hedged call uses Hedge
// instead.
type Replay struct {
	committed atomic.Bool // there will be no further attempt; set once

	mu       sync.Mutex      // guards the fields below; held by a writer while it waits for the flow-control window of the live stream
	live     stream.Upstream // the stream of the live attempt
	pieces   [][]byte        // the request so far, unless tooLong
	bytes    int             // sum of the lengths of pieces
	maxBytes int             // bound of bytes; set before the first write
	room     budget.Keep
	tooLong  bool      // the request is no longer kept: it is longer than maxBytes, has no room in the budget, or is not needed
	ended    bool      // the request is complete
	first    [2][]byte // array of pieces for short requests

	sending sync.WaitGroup // the goroutine of Join
}

// kept returns how much of the budget n kept bytes of a request take. The first MaxInline bytes are free: every stream may
// hold as much in its window.
func kept(n int) int64 { return int64(max(0, n-MaxInline)) }

// KeepUpTo sets how many bytes of the request are kept at most, and the budget that their memory is taken from; b may be nil
// for no bound. It must be called before the first write.
func (r *Replay) KeepUpTo(maxBytes int, b *budget.Budget) {
	r.maxBytes = maxBytes
	r.room.Of(b)
}

// Open sets the stream of the first attempt. It must be called before the first write.
func (r *Replay) Open(up stream.Upstream) { r.live = up }

// Commit says that there will be no further attempt, and drops what is kept. It does not wait for a write that is under way.
func (r *Replay) Commit() {
	r.committed.Store(true)
	if r.mu.TryLock() { // if a writer holds mu, the next Keeps drops what is kept
		r.forgetLocked()
		r.mu.Unlock()
	}
}

// Whole reports whether the request so far is kept. It may be called only when the live attempt has ended: before, a writer
// may hold mu.
func (r *Replay) Whole() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return !r.tooLong
}

// End says that the request is complete, and half-closes the live stream.
func (r *Replay) End() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ended = true
	_ = r.live.CloseSend() // fails only when the stream has ended
}

// Keeps reports whether the next n bytes are to be kept. If not, because they do not fit or the call is committed, it drops
// what is kept, and there can be no further attempt.
func (r *Replay) Keeps(n int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.committed.Load() || r.bytes+n > r.maxBytes || !r.tooLong && !r.room.Hold(kept(r.bytes+n)) {
		r.forgetLocked()
	}
	return !r.tooLong
}

// forgetLocked drops what is kept and gives its memory back to the budget. There can be no further attempt then.
func (r *Replay) forgetLocked() {
	r.pieces, r.tooLong = nil, true
	r.room.Hold(0)
}

// Stop waits for the goroutine of Join and drops what is kept. All streams must have ended before, so that no write blocks,
// and Write must not be called any more.
func (r *Replay) Stop() {
	r.sending.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.forgetLocked()
}

// Write takes p over, keeps it if Keeps said so, and sends it on the live stream, blocking while the endpoint's window is
// full. It returns an error only if no further attempt can be made.
func (r *Replay) Write(p []byte) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.keepLocked(p)
	if err := r.live.Write(p); err != nil && (r.tooLong || r.committed.Load()) {
		return err
	}
	return nil // after an error, another attempt may be made and sent this piece
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

// Join makes up the live stream and sends it the request so far. It reports false if the request is no longer kept. A
// request of more than MaxInline bytes may have to wait for the endpoint's window: it is sent in a goroutine, which defers
// recoverPanic, while the caller goes on. The stream that was live before must have ended.
func (r *Replay) Join(up stream.Upstream, recoverPanic func()) bool {
	r.mu.Lock() // does not wait for long: the stream that was live has ended, so no writer waits for its window
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
	r.sending.Go(func() { // holds mu until the request is sent, so that later pieces come behind it
		defer recoverPanic()
		defer r.mu.Unlock()
		r.sendLocked(up)
	})
	return true
}

func (r *Replay) sendLocked(up stream.Upstream) {
	for _, p := range r.pieces {
		_ = up.Write(p) // fails only when the stream has ended, which the response direction sees, too
	}
	if r.ended {
		_ = up.CloseSend()
	}
}
