package handler

import (
	"context"
	"slices"
	"time"

	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/codes"

	"github.com/framegate/framegate/handler/local"
	"github.com/framegate/framegate/resolver/cluster"
)

// hedge is the state of a hedged call, which makes a second attempt when the first one has not answered after a delay (gRFC
// A6). A goroutine for each attempt opens it and waits for its answer; the first answer wins:
//
//	first  ────────┬───────────────┐
//	         delay └── second ─────┴─> the first answer
//
// It is owned by the handler's goroutine.
type hedge struct {
	ctx     context.Context  // of the attempts
	answers chan answer      // has room for all attempts that can be under way
	begun   bool             // the second attempt has begun, or there will be none
	delayed bool             // the second attempt waits for the time of the first one's pushback
	waiting []*attempt       // those without an answer yet
	room    <-chan time.Time // fires when to try again after the endpoint refused the only attempt; nil if the call does not wait for room
	best    answer           // of the attempts that ended without an answer: the call's result if none answers
}

// answer says that the headers of an attempt's answer have come, or how the attempt ended without them.
type answer struct {
	*attempt
	outcome outcome      // set if ended
	ended   bool         // the attempt has ended without headers
	err     *local.Error // why it was not opened; nil if it was
}

// won reports whether the call takes this answer rather than wait for another attempt. A status without headers is taken,
// unless it is UNAVAILABLE.
func (a answer) won() bool {
	return !a.ended || a.Upstream != nil && !a.outcome.unprocessed && !a.outcome.lost && a.outcome.code != codes.Unavailable
}

// rank orders the attempts that ended without an answer. The one of the highest rank becomes the call's result: one that its
// endpoint processed tells the client more than one that was not opened.
func (a answer) rank() int {
	switch {
	case a.attempt == nil:
		return 0
	case a.Upstream == nil:
		return 1
	case a.outcome.unprocessed, a.outcome.lost:
		return 2
	}
	return 3
}

// maxHedged is how many attempts of a call can be under way at once: the first and the second, or those that follow them.
const maxHedged = 2

// hedged starts the request direction and the attempts, waits for the first answer, and makes its attempt current. The error
// says why no attempt could be opened.
func (at *attempts) hedged() *local.Error {
	ctx, cancel := context.WithCancel(at.call.ctx)
	at.cancelHedge.Store(&cancel) // for call.stop, which calls it, and call.fail
	if at.call.ending.failure.Load() != nil {
		cancel() // fail ran before it could see cancelHedge
	}
	h := &hedge{ctx: ctx, answers: make(chan answer, maxHedged)}
	at.openBeside(h, &at.first, place{})
	at.call.upload.start()
	timer := time.NewTimer(at.call.target.Hedge.Delay)
	defer timer.Stop()
	over := ctx.Done()
	for len(h.waiting) > 0 || h.delayed || h.room != nil {
		select {
		case <-over:
			h.delayed, over = false, nil // the attempts that wait end at once
			at.endRoom(h, true)
		case <-h.room:
			at.endRoom(h, false)
			if b := at.pickNext(&attempt{waited: true}, outcome{}); b != nil {
				at.openBeside(h, b, place{})
			}
		case <-timer.C:
			at.beginSecond(h)
		case a := <-h.answers:
			h.waiting = slices.DeleteFunc(h.waiting, func(b *attempt) bool { return b == a.attempt })
			if a.won() && at.call.upload.hedgeBuffer.Choose(a.attempt) {
				at.endRoom(h, true)
				at.settle(h, a.attempt)
				return nil
			}
			at.end(a.attempt, a.outcome.result())
			at.call.upload.hedgeBuffer.Leave(a.attempt)
			if a.rank() >= h.best.rank() {
				h.best = a
			}
			at.follow(h, a, timer)
		}
	}
	if h.best.Upstream == nil {
		return h.best.err
	}
	at.settle(h, h.best.attempt)
	return nil
}

// endRoom ends the wait for room, if there is one. over says that the call does not try again.
func (at *attempts) endRoom(h *hedge, over bool) {
	if h.room != nil {
		h.room = nil
		at.leaveRoom(over)
	}
}

// openBeside starts the goroutine that opens an attempt, sends it the request and waits for its answer. avoid is as for open.
func (at *attempts) openBeside(h *hedge, a *attempt, avoid place) {
	h.waiting = append(h.waiting, a)
	ctx, cancel := context.WithCancel(h.ctx)
	hdr := at.header()
	a.cancel, a.ready = cancel, make(chan struct{})
	at.waits.Go(func() {
		result := answer{attempt: a, ended: true, outcome: outcome{lost: true}, err: errPanic}
		defer close(a.ready)
		defer func() { h.answers <- result }()
		defer at.call.recoverPanic()
		if result.outcome, result.err = at.open(ctx, a, hdr, avoid); result.err != nil {
			return
		}
		if !at.call.upload.join(a) {
			result.outcome.lost = true
			return
		}
		result.outcome, result.ended = at.outcome(a)
	})
}

// follow begins the attempt that follows one that ended without an answer, if there may be one, or sets the timer or the
// wait for room after which it begins.
func (at *attempts) follow(h *hedge, a answer, timer *time.Timer) {
	if !at.mayGoOn(a.outcome) {
		return
	}
	if at.mayTryTransparently(a.outcome) {
		at.beside.Store(nil)
		if len(h.waiting) > 0 {
			at.beside.Store(&h.waiting[0].picked.Address)
		}
		if b := at.pickNext(&attempt{}, a.outcome); b != nil {
			at.openBeside(h, b, placeOf(a.Upstream))
		}
		return
	}
	if len(h.waiting) == 0 && h.room == nil && at.mayAwaitRoom(a.outcome) {
		if wait, ok := at.enterRoom(); ok {
			h.room = time.After(wait)
		}
		return
	}
	if len(a.outcome.pushback) == 0 || h.begun {
		at.beginSecond(h)
		return
	}
	wait, ok := pushback(a.outcome.pushback)
	h.begun, h.delayed = !ok, ok
	timer.Reset(wait)
}

// beginSecond begins the second attempt if the retry budget allows it. It does so once: later calls do nothing.
func (at *attempts) beginSecond(h *hedge) {
	h.delayed = false
	if h.begun {
		return
	}
	h.begun = true
	if !at.mayGoOn(outcome{}) || !at.mayRetry() {
		return
	}
	beside := at.addr.Load()
	a := at.pickNext(&attempt{budgeted: true}, outcome{})
	if a == nil {
		return
	}
	at.beside.Store(beside)
	at.retries++
	at.openBeside(h, a, place{})
}

// settle makes winner the current attempt and cancels the others, which goroutines close.
func (at *attempts) settle(h *hedge, winner *attempt) {
	at.current = winner
	at.up.Store(winner)
	at.addr.Store(&winner.picked.Address)
	at.beside.Store(nil)
	for _, loser := range h.waiting {
		loser.cancel()
		at.waits.Go(func() {
			<-loser.ready
			if loser.Upstream != nil {
				loser.picked.Answered() // the time so far counts as the endpoint's latency: an answer would have taken longer
			}
			at.end(loser, cluster.Unknown)
		})
	}
	if e := at.call.ending.failure.Load(); e != nil {
		winner.Reset(e) // abort ran before winner was the upstream
	}
}
