package handler

import (
	"context"
	"slices"
	"time"

	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/codes"

	"github.com/framegate/framegate/handler/local"
	"github.com/framegate/framegate/pool"
	"github.com/framegate/framegate/resolver/cluster"
)

// hedge is a call with a second attempt beside a slow first one. Each is opened, and its answer waited for, by a goroutine;
// the first answer wins:
//
//	first  ────────┬───────────────┐
//	         delay └── second ─────┴─> the first answer
//
// It is owned by the handler's goroutine.
type hedge struct {
	ctx     context.Context // of the attempts
	answers chan answer     // has room for all
	begun   bool            // the second attempt, or that there will be none
	delayed bool            // the second attempt waits for as long as the endpoint of another said
	waiting []*attempt
	room    <-chan time.Time // when to ask again an endpoint that has refused the only attempt; nil if there is no such wait
	best    answer           // of the attempts that ended without one: the result, if there is no answer
}

// answer says that an attempt's answer has begun, or how it ended without one.
type answer struct {
	*attempt
	outcome outcome
	ended   bool
	err     *local.Error // why it was not opened
}

// won reports whether it is an answer for the caller, and not a reason to hope for the other attempt.
func (a answer) won() bool {
	return !a.ended || a.Stream != nil && !a.outcome.unprocessed && !a.outcome.lost && a.outcome.code != codes.Unavailable
}

// rank says how much there is to learn from an attempt that ended: more from one that the endpoint has seen.
func (a answer) rank() int {
	switch {
	case a.attempt == nil:
		return 0
	case a.Stream == nil:
		return 1
	case a.outcome.unprocessed, a.outcome.lost:
		return 2
	}
	return 3
}

// maxHedged is how many attempts there can be at once: the first and the second, or what follows one that ended.
const maxHedged = 2

// hedged starts the request, and makes the attempt current whose answer is that of the call. The error says why none
// could be opened.
func (at *attempts) hedged() *local.Error {
	ctx, cancel := context.WithCancel(at.call.ctx)
	at.cancelHedge.Store(&cancel) // stop calls it
	if at.call.ending.failure.Load() != nil {
		cancel() // abort came before
	}
	h := &hedge{ctx: ctx, answers: make(chan answer, maxHedged)}
	at.openBeside(h, &at.first, nil)
	at.call.upload.start()
	timer := time.NewTimer(at.call.target.Hedge.Delay)
	defer timer.Stop()
	over := ctx.Done()
	for len(h.waiting) > 0 || h.delayed || h.room != nil {
		select {
		case <-over:
			h.delayed, over = false, nil // what waits will answer at once
			at.endRoom(h, true)
		case <-h.room:
			at.endRoom(h, false)
			if b := at.pickNext(&attempt{waited: true}, outcome{}); b != nil {
				at.openBeside(h, b, nil)
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
	if h.best.Stream == nil {
		return h.best.err
	}
	at.settle(h, h.best.attempt)
	return nil
}

// endRoom ends the wait for room, if there is one; over says that the call has ended.
func (at *attempts) endRoom(h *hedge, over bool) {
	if h.room != nil {
		h.room = nil
		at.leaveRoom(over)
	}
}

// openBeside has a goroutine open the attempt, and wait for its answer. avoid is as for open.
func (at *attempts) openBeside(h *hedge, a *attempt, avoid *pool.Stream) {
	h.waiting = append(h.waiting, a)
	ctx, cancel := context.WithCancel(at.context(h.ctx))
	a.cancel, a.ready = cancel, make(chan struct{})
	at.waits.Go(func() {
		result := answer{attempt: a, ended: true, outcome: outcome{lost: true}, err: errPanic}
		defer close(a.ready)
		defer func() { h.answers <- result }()
		defer at.call.recoverPanic()
		if result.outcome, result.err = at.open(ctx, a, at.call.hdr, avoid); result.err != nil {
			return
		}
		if !at.call.upload.join(a) {
			result.outcome.lost = true
			return
		}
		result.outcome, result.ended = at.outcome(a)
	})
}

// follow begins the attempt that follows one that ended without an answer, if there is one, or sets the timer for it.
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
			at.openBeside(h, b, a.Stream)
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

// beginSecond begins the second attempt, once, if there is a budget for it.
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
	at.openBeside(h, a, nil)
}

// settle makes the attempt whose answer is that of the call the current one, and closes the others.
func (at *attempts) settle(h *hedge, winner *attempt) {
	at.current = winner
	at.up.Store(winner.Stream)
	at.addr.Store(&winner.picked.Address)
	at.beside.Store(nil)
	for _, loser := range h.waiting {
		loser.cancel()
		at.waits.Go(func() {
			<-loser.ready
			if loser.Stream != nil {
				loser.picked.Answered() // so long it would have taken at least
			}
			at.end(loser, cluster.Unknown)
		})
	}
	if e := at.call.ending.failure.Load(); e != nil {
		winner.Reset(e) // abort came before there was anything to reset
	}
}
