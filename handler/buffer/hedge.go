package buffer

import (
	"errors"
	"slices"
	"sync"

	"github.com/framegate/framegate/handler/budget"
)

// Hedge sends the request of a hedged call to several attempts, to each at its own pace, so that a slow attempt holds up no
// other.
//
//	client --> pieces --> feed --> attempt
//	                 \--> feed --> attempt
//
// While there may be a further attempt, Hedge keeps all pieces of the request; afterwards only those that a feed has still
// to send. It keeps at most maxBytes, or one piece if that is longer. When a piece does not fit, Write waits until the
// fastest attempt has been sent all pieces, then gives up the attempts that are behind it, so that the pieces can be
// dropped.
type Hedge struct {
	maxBytes     int            // set once
	recoverPanic func()         // set once; the goroutines of feeds defer it
	feeds        sync.WaitGroup // counts the goroutines of feeds

	mu        sync.Mutex // guards the fields below
	changed   sync.Cond  // signals changes of the fields below; its lock is mu
	live      []*feed    // the feeds whose attempts take more of the request
	pieces    [][]byte
	first     int // place of pieces[0] in the request, in pieces
	bytes     int // sum of the lengths of pieces
	room      budget.Keep
	committed bool // there will be no further attempt, so pieces that all feeds have sent are dropped
	ended     bool // the request has ended behind pieces
	stopped   bool // the call has ended
}

// Attempt is an attempt that the request is sent to.
type Attempt interface {
	Write(p []byte) error // blocks while the endpoint's flow-control window is full; takes p over
	CloseSend() error
	GiveUp()       // ends the attempt, because the request goes on with another one
	GivenUp() bool // reports whether GiveUp was called
}

// feed sends the request to one attempt, in a goroutine.
type feed struct {
	Attempt
	next int // place in the request of the next piece to send, in pieces
}

// errNoAttempt says that no attempt takes the rest of the request.
var errNoAttempt = errors.New("buffer: no attempt takes the request")

// NewHedge returns a Hedge that keeps at most maxBytes of a request and takes their memory from b, which may be nil for no
// bound. Its goroutines defer recoverPanic. The caller calls Stop at the end of the call.
func NewHedge(maxBytes int, b *budget.Budget, recoverPanic func()) *Hedge {
	h := &Hedge{maxBytes: maxBytes, recoverPanic: recoverPanic}
	h.room.Of(b)
	h.changed.L = &h.mu
	return h
}

// Write adds p, which it takes over, to the request. It blocks while there is no room for p and the fastest attempt has not
// been sent all pieces. After an error no attempt takes the rest of the request.
func (h *Hedge) Write(p []byte) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	for {
		full := h.bytes > 0 && (h.bytes+len(p) > h.maxBytes || !h.room.Hold(kept(h.bytes+len(p))))
		switch {
		case h.stopped, h.committed && len(h.live) == 0:
			return errNoAttempt
		case !full:
			h.pieces = append(h.pieces, p)
			h.bytes += len(p)
			h.changed.Broadcast()
			return nil
		case !h.makeRoomLocked():
			h.changed.Wait()
		}
	}
}

// makeRoomLocked gives up the attempts that are behind the fastest one, and drops all pieces. It does nothing and reports
// false if the fastest attempt has not been sent all pieces.
func (h *Hedge) makeRoomLocked() bool {
	end := h.first + len(h.pieces)
	if !slices.ContainsFunc(h.live, func(d *feed) bool { return d.next == end }) {
		return false
	}
	h.live = slices.DeleteFunc(h.live, func(d *feed) bool {
		if d.next == end {
			return false
		}
		d.GiveUp()
		return true
	})
	h.committed = true
	h.trimLocked()
	return true
}

// trimLocked drops the pieces that every live feed has sent, unless a further attempt may still need them.
func (h *Hedge) trimLocked() {
	if !h.committed {
		return
	}
	need := h.first + len(h.pieces)
	for _, d := range h.live {
		need = min(need, d.next)
	}
	for ; h.first < need; h.first++ {
		h.bytes -= len(h.pieces[0])
		h.pieces[0] = nil
		h.pieces = h.pieces[1:]
	}
	h.room.Hold(kept(h.bytes))
}

// Join starts to send the request to a, from its beginning, and reports false if the beginning is no longer kept or the call
// has ended. It does not block.
func (h *Hedge) Join(a Attempt) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.committed || h.stopped {
		return false
	}
	d := &feed{Attempt: a}
	h.live = append(h.live, d)
	h.feeds.Go(func() {
		defer h.recoverPanic()
		h.run(d)
	})
	return true
}

// run is the goroutine of a feed. It ends when the request is sent, the attempt's stream has ended, or the call has ended.
func (h *Hedge) run(d *feed) {
	for {
		p := h.nextOf(d)
		if p == nil {
			return
		}
		err := d.Write(p)
		h.mu.Lock()
		if d.next++; err != nil {
			h.dropLocked(d.Attempt)
		}
		h.trimLocked()
		h.changed.Broadcast()
		h.mu.Unlock()
	}
}

// nextOf waits for the next piece that d is to send. It returns nil if there is none: the request has ended, and nextOf has
// half-closed the attempt's stream, or the attempt or the call has ended.
func (h *Hedge) nextOf(d *feed) []byte {
	h.mu.Lock()
	defer h.mu.Unlock()
	for !h.stopped && slices.Contains(h.live, d) {
		if i := d.next - h.first; i < len(h.pieces) {
			return h.pieces[i]
		}
		if h.ended {
			_ = d.CloseSend() // fails only when the stream has ended
			return nil
		}
		h.changed.Wait()
	}
	return nil
}

func (h *Hedge) dropLocked(a Attempt) {
	h.live = slices.DeleteFunc(h.live, func(d *feed) bool { return d.Attempt == a })
}

// Leave removes an attempt that has ended: its feed sends no more, and no piece is kept for it.
func (h *Hedge) Leave(a Attempt) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.dropLocked(a)
	h.trimLocked()
	h.changed.Broadcast()
}

// Choose commits the call to a, which becomes the only attempt that is sent the rest of the request. It does nothing and
// reports false if a was given up before.
func (h *Hedge) Choose(a Attempt) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if a.GivenUp() {
		return false
	}
	h.live = slices.DeleteFunc(h.live, func(d *feed) bool { return d.Attempt != a })
	h.commitLocked()
	return true
}

// Commit lets no further attempt join, so that pieces can be dropped as they are sent.
func (h *Hedge) Commit() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.commitLocked()
}

func (h *Hedge) commitLocked() {
	h.committed = true
	h.trimLocked()
	h.changed.Broadcast()
}

// Whole reports whether a further attempt may join.
func (h *Hedge) Whole() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return !h.committed && !h.stopped
}

// End says that the request is complete: the feeds half-close their streams when they have sent it.
func (h *Hedge) End() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ended = true
	h.changed.Broadcast()
}

// Stop ends the feeds, waits for their goroutines, and gives the memory back to the budget. The streams of all attempts must
// have ended before, so that no write blocks.
func (h *Hedge) Stop() {
	h.mu.Lock()
	h.stopped = true
	h.changed.Broadcast()
	h.mu.Unlock()
	h.feeds.Wait()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.room.Hold(0)
}
