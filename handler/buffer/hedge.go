package buffer

import (
	"errors"
	"slices"
	"sync"

	"github.com/framegate/framegate/handler/budget"
)

// Hedge is the request of a hedged call on its way to several attempts, to each at its own pace: a slow one holds up no
// other.
//
//	client --> pieces --> feed --> attempt
//	                 \--> feed --> attempt
//
// All pieces are kept while there may be a further attempt; then those that a feed has still to send. They are never
// more than most bytes, or one piece: the writer waits for the fastest attempt, and gives up the others if they have not
// kept up when there is no room.
type Hedge struct {
	most         int            // bytes
	recoverPanic func()         // deferred by goroutines
	feeds        sync.WaitGroup // goroutines

	mu        sync.Mutex // guards the fields below
	changed   sync.Cond  // with mu
	live      []*feed    // whose attempts take more
	pieces    [][]byte
	first     int // number of the first of pieces, in the request
	bytes     int // of pieces
	room      budget.Keep
	committed bool // there will be no further attempt, and pieces are dropped
	ended     bool // the request has ended with the last of pieces
	stopped   bool // the call has ended
}

// Attempt is an attempt that the request is sent to.
type Attempt interface {
	Write(p []byte) error // takes p over
	CloseSend() error
	GiveUp() // ends it, because the request goes on with another
	GivenUp() bool
}

// feed sends the request to an attempt.
type feed struct {
	Attempt
	next int // number of the piece that is sent next
}

// errNoAttempt says that no attempt takes what follows.
var errNoAttempt = errors.New("handler: no attempt takes the request")

// NewHedge returns a buffer that keeps so many bytes at most, and takes its memory of b; goroutines defer recoverPanic.
func NewHedge(most int, b *budget.Budget, recoverPanic func()) *Hedge {
	f := &Hedge{most: most, recoverPanic: recoverPanic}
	f.room.Of(b)
	f.changed.L = &f.mu
	return f
}

// Write takes p over. It may wait. An error is final.
func (f *Hedge) Write(p []byte) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for {
		full := f.bytes > 0 && (f.bytes+len(p) > f.most || !f.room.Hold(kept(f.bytes+len(p))))
		switch {
		case f.stopped, f.committed && len(f.live) == 0:
			return errNoAttempt
		case !full:
			f.pieces = append(f.pieces, p)
			f.bytes += len(p)
			f.changed.Broadcast()
			return nil
		case !f.makeRoomLocked():
			f.changed.Wait()
		}
	}
}

// makeRoomLocked drops pieces that the fastest attempt has, and reports whether it did.
func (f *Hedge) makeRoomLocked() bool {
	end := f.first + len(f.pieces)
	if !slices.ContainsFunc(f.live, func(d *feed) bool { return d.next == end }) {
		return false
	}
	f.live = slices.DeleteFunc(f.live, func(d *feed) bool {
		if d.next == end {
			return false
		}
		d.GiveUp()
		return true
	})
	f.committed = true
	f.trimLocked()
	return true
}

// trimLocked drops the pieces that nobody needs any more.
func (f *Hedge) trimLocked() {
	if !f.committed {
		return
	}
	need := f.first + len(f.pieces)
	for _, d := range f.live {
		need = min(need, d.next)
	}
	for ; f.first < need; f.first++ {
		f.bytes -= len(f.pieces[0])
		f.pieces[0] = nil
		f.pieces = f.pieces[1:]
	}
	f.room.Hold(kept(f.bytes))
}

// Join has the request sent to an attempt from its beginning, and reports false if not all of it is here any more.
func (f *Hedge) Join(a Attempt) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.committed || f.stopped {
		return false
	}
	d := &feed{Attempt: a}
	f.live = append(f.live, d)
	f.feeds.Go(func() {
		defer f.recoverPanic()
		f.run(d)
	})
	return true
}

// run is the goroutine of a feed. It ends with the attempt's stream, with the request, or with the call.
func (f *Hedge) run(d *feed) {
	for {
		p := f.nextOf(d)
		if p == nil {
			return
		}
		err := d.Write(p)
		f.mu.Lock()
		if d.next++; err != nil {
			f.dropLocked(d.Attempt)
		}
		f.trimLocked()
		f.changed.Broadcast()
		f.mu.Unlock()
	}
}

// nextOf waits for the next piece of a feed; it returns nil when there is none any more.
func (f *Hedge) nextOf(d *feed) []byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	for !f.stopped && slices.Contains(f.live, d) {
		if i := d.next - f.first; i < len(f.pieces) {
			return f.pieces[i]
		}
		if f.ended {
			_ = d.CloseSend() // fails only when the stream has ended
			return nil
		}
		f.changed.Wait()
	}
	return nil
}

func (f *Hedge) dropLocked(a Attempt) {
	f.live = slices.DeleteFunc(f.live, func(d *feed) bool { return d.Attempt == a })
}

// Leave is for an attempt that has ended.
func (f *Hedge) Leave(a Attempt) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.dropLocked(a)
	f.trimLocked()
	f.changed.Broadcast()
}

// Choose makes a the only attempt. It reports false if that was given up before.
func (f *Hedge) Choose(a Attempt) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if a.GivenUp() {
		return false
	}
	f.live = slices.DeleteFunc(f.live, func(d *feed) bool { return d.Attempt != a })
	f.commitLocked()
	return true
}

// Commit gives further attempts up.
func (f *Hedge) Commit() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.commitLocked()
}

func (f *Hedge) commitLocked() {
	f.committed = true
	f.trimLocked()
	f.changed.Broadcast()
}

// Whole reports whether a further attempt may join.
func (f *Hedge) Whole() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return !f.committed && !f.stopped
}

// End says that the request has ended.
func (f *Hedge) End() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ended = true
	f.changed.Broadcast()
}

// Stop returns when nothing is sent any more. The streams of all attempts have ended.
func (f *Hedge) Stop() {
	f.mu.Lock()
	f.stopped = true
	f.changed.Broadcast()
	f.mu.Unlock()
	f.feeds.Wait()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.room.Hold(0)
}
