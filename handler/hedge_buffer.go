package handler

import (
	"errors"
	"slices"
	"sync"

	"github.com/framegate/framegate/handler/budget"
)

// hedgeBuffer is the request of a hedged call on its way to several attempts, to each at its own pace: a slow one holds up no
// other.
//
//	client --> pieces --> feed --> attempt
//	                 \--> feed --> attempt
//
// All pieces are kept while there may be a further attempt; then those that a feed has still to send. They are never
// more than most bytes, or one piece: the writer waits for the fastest attempt, and gives up the others if they have not
// kept up when there is no room.
type hedgeBuffer struct {
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

// feed sends the request to an attempt.
type feed struct {
	*attempt
	next int // number of the piece that is sent next
}

// errNoAttempt says that no attempt takes what follows.
var errNoAttempt = errors.New("handler: no attempt takes the request")

func newHedgeBuffer(most int, recoverPanic func()) *hedgeBuffer {
	f := &hedgeBuffer{most: most, recoverPanic: recoverPanic}
	f.changed.L = &f.mu
	return f
}

// write takes p over. It may wait. An error is final.
func (f *hedgeBuffer) write(p []byte) error {
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
func (f *hedgeBuffer) makeRoomLocked() bool {
	end := f.first + len(f.pieces)
	if !slices.ContainsFunc(f.live, func(d *feed) bool { return d.next == end }) {
		return false
	}
	f.live = slices.DeleteFunc(f.live, func(d *feed) bool {
		if d.next == end {
			return false
		}
		d.lost.Store(true)
		d.Reset(errLost)
		return true
	})
	f.committed = true
	f.trimLocked()
	return true
}

// trimLocked drops the pieces that nobody needs any more.
func (f *hedgeBuffer) trimLocked() {
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

// join has the request sent to an attempt from its beginning, and reports false if not all of it is here any more.
func (f *hedgeBuffer) join(a *attempt) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.committed || f.stopped {
		return false
	}
	d := &feed{attempt: a}
	f.live = append(f.live, d)
	f.feeds.Go(func() {
		defer f.recoverPanic()
		f.run(d)
	})
	return true
}

// run is the goroutine of a feed. It ends with the attempt's stream, with the request, or with the call.
func (f *hedgeBuffer) run(d *feed) {
	for {
		p := f.nextOf(d)
		if p == nil {
			return
		}
		err := d.Write(p)
		f.mu.Lock()
		if d.next++; err != nil {
			f.dropLocked(d.attempt)
		}
		f.trimLocked()
		f.changed.Broadcast()
		f.mu.Unlock()
	}
}

// nextOf waits for the next piece of a feed; it returns nil when there is none any more.
func (f *hedgeBuffer) nextOf(d *feed) []byte {
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

func (f *hedgeBuffer) dropLocked(a *attempt) {
	f.live = slices.DeleteFunc(f.live, func(d *feed) bool { return d.attempt == a })
}

// leave is for an attempt that has ended.
func (f *hedgeBuffer) leave(a *attempt) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.dropLocked(a)
	f.trimLocked()
	f.changed.Broadcast()
}

// choose makes a the only attempt. It reports false if that was given up before.
func (f *hedgeBuffer) choose(a *attempt) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if a.lost.Load() {
		return false
	}
	f.live = slices.DeleteFunc(f.live, func(d *feed) bool { return d.attempt != a })
	f.commitLocked()
	return true
}

// commit gives further attempts up.
func (f *hedgeBuffer) commit() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.commitLocked()
}

func (f *hedgeBuffer) commitLocked() {
	f.committed = true
	f.trimLocked()
	f.changed.Broadcast()
}

// whole reports whether a further attempt may join.
func (f *hedgeBuffer) whole() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return !f.committed && !f.stopped
}

// end says that the request has ended.
func (f *hedgeBuffer) end() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ended = true
	f.changed.Broadcast()
}

// stop returns when nothing is sent any more. The streams of all attempts have ended.
func (f *hedgeBuffer) stop() {
	f.mu.Lock()
	f.stopped = true
	f.changed.Broadcast()
	f.mu.Unlock()
	f.feeds.Wait()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.room.Hold(0)
}
