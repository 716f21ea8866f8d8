package load

import (
	"context"
	"time"
)

// napBelow is the wait below which the pacer uses the kernel's sleep, which is late by some 50 µs, instead of Go's timers, which may be
// a millisecond late on an idle machine. The pacer's lateness would be in every latency.
const napBelow = 2 * time.Millisecond

// pacer hands out calls at a constant rate: the nth is due n/rate after the slice's start, whether the calls before it have ended or
// not.
type pacer struct {
	window        window
	ratePerSecond int64

	// due carries the time that a call is due, to a worker that is free to make it now. Closed by run on exit.
	due chan time.Time

	unsent int64 // set by run on exit: calls that were due in the window before the slice ended, and not handed out
}

func newPacer(w window, ratePerSecond int) *pacer {
	// Unbuffered: a call that is handed out is begun at once.
	return &pacer{window: w, ratePerSecond: int64(ratePerSecond), due: make(chan time.Time)}
}

// at returns when the nth call is due. The bounds of Config keep the products here and in dueBefore below 2^63.
func (p *pacer) at(n int64) time.Time {
	return p.window.start.Add(time.Duration(n * int64(time.Second) / p.ratePerSecond))
}

// dueBefore returns how many calls are due before t: the least n for which at(n) is not before t.
func (p *pacer) dueBefore(t time.Time) int64 {
	const second = int64(time.Second)
	return (int64(t.Sub(p.window.start))*p.ratePerSecond + second - 1) / second
}

// run hands out calls until slice, which ends when the window closes, is over.
func (p *pacer) run(slice context.Context) {
	defer close(p.due)
	for n := int64(0); ; n++ {
		due := p.at(n)
		if !due.Before(p.window.close) {
			return
		}
		if !waitUntil(slice, due) {
			p.countUnsent(n, time.Now())
			return
		}
		select {
		case p.due <- due:
		case <-slice.Done():
			p.countUnsent(n, time.Now())
			return
		}
	}
}

// countUnsent counts the calls from the nth on that were due in the window before now.
func (p *pacer) countUnsent(n int64, now time.Time) {
	if now.After(p.window.close) {
		now = p.window.close
	}
	p.unsent = max(0, p.dueBefore(now)-max(n, p.dueBefore(p.window.open)))
}

// waitUntil waits until t; it returns false if ctx ended before. The end of ctx does not cut a wait under napBelow short.
func waitUntil(ctx context.Context, t time.Time) bool {
	if d := time.Until(t); d > napBelow {
		pause(ctx, d-napBelow)
	}
	for d := time.Until(t); d > 0 && ctx.Err() == nil; d = time.Until(t) {
		nap(d)
	}
	return ctx.Err() == nil
}
