package handler

import (
	"context"
	"slices"
	"time"

	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/codes"

	"github.com/framegate/framegate/resolver"
)

// hedge is a call with a second attempt beside a slow first one. The answer of each is waited for by a goroutine; the
// first that is one wins:
//
//	first  ────────┬───────────────┐
//	         delay └── second ─────┴─> the first answer
type hedge struct {
	answers chan hedgeAnswer // has room for both
	begun   bool             // the second attempt, or that there will be none
	waiting []*attempt
}

// hedgeAnswer says that an attempt's answer has begun, or how it ended without one.
type hedgeAnswer struct {
	*attempt
	outcome outcome
	ended   bool
}

// won reports whether the answer is one for the caller, and not a reason to hope for the other attempt.
func (a hedgeAnswer) won() bool {
	return !a.ended || !a.outcome.unseen && a.outcome.code != codes.Unavailable
}

// hedged returns the attempt whose answer is that of the call: the current one, or one that is made after the route's
// delay or when the current one has failed. It is the current attempt then, and the other is closed.
func (c *call) hedged() *attempt {
	h := &hedge{answers: make(chan hedgeAnswer, 2)}
	c.await(h, c.current, nil)
	timer := time.NewTimer(c.target.Hedge.Delay)
	defer timer.Stop()
	var failed hedgeAnswer // the one that ended first, if that did not end the call
	for {
		select {
		case <-timer.C:
			c.beginSecond(h)
		case a := <-h.answers:
			h.waiting = slices.DeleteFunc(h.waiting, func(b *attempt) bool { return b == a.attempt })
			if !a.won() && c.ctxErr() == nil && c.failure.Load() == nil {
				if c.beginSecond(h); len(h.waiting) > 0 {
					failed = a
					continue
				}
			}
			return c.settle(h, a, failed)
		}
	}
}

// await has a goroutine open the attempt, unless it is open, and wait for its answer.
func (c *call) await(h *hedge, a *attempt, ctx context.Context) {
	h.waiting = append(h.waiting, a)
	a.ready = make(chan struct{})
	c.waits.Go(func() {
		defer close(a.ready)
		defer c.recoverPanic()
		if ctx != nil {
			o, e := c.open(ctx, a, c.hdr, nil)
			if e == nil && !c.replay.join(1, a.Stream) {
				o.unseen = true // the other was faster
				c.closeAttempt(a, resolver.Unknown)
				a.Stream = nil
			}
			if a.Stream == nil {
				h.answers <- hedgeAnswer{a, o, true}
				return
			}
		}
		o, ended := a.outcome()
		h.answers <- hedgeAnswer{a, o, ended}
	})
}

// beginSecond begins the second attempt, once, if there is a budget for it.
func (c *call) beginSecond(h *hedge) {
	if h.begun {
		return
	}
	h.begun = true
	if c.ctxErr() != nil || c.replay.isTooLong() || !c.target.MayRetry() {
		return
	}
	a := &attempt{extra: true}
	if c.pick(a) != nil {
		c.target.RetryEnd()
		return
	}
	c.retries++
	ctx, cancel := context.WithCancel(c.retryContext())
	a.cancel = cancel
	c.await(h, a, ctx)
}

// settle makes the attempt whose answer is that of the call the current one, and closes the other. failed is one that
// ended before, if there is one.
func (c *call) settle(h *hedge, winner, failed hedgeAnswer) *attempt {
	if winner.Stream == nil { // what the endpoint said that did answer says more
		winner, failed = failed, hedgeAnswer{}
	}
	c.current = winner.attempt
	c.up.Store(winner.Stream)
	c.addr.Store(&winner.picked.Address)
	if failed.attempt != nil && failed.Stream != nil {
		c.closeAttempt(failed.attempt, failed.outcome.result())
	}
	for _, loser := range h.waiting {
		if loser.cancel != nil {
			loser.cancel()
		} else {
			loser.Reset(errLost)
		}
		c.waits.Go(func() {
			<-loser.ready
			if loser.Stream != nil {
				loser.answered() // so long it would have taken at least
				c.closeAttempt(loser, resolver.Unknown)
			}
		})
	}
	if e := c.failure.Load(); e != nil {
		winner.Reset(e)
	}
	return c.current
}
