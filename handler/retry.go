package handler

import (
	"context"
	"maps"
	"strconv"
	"time"

	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/metadata"

	"github.com/framegate/framegate/handler/local"
	"github.com/framegate/framegate/pool"
	"github.com/framegate/framegate/resolver/cluster"
	"github.com/framegate/framegate/resolver/spec"
)

// retry returns the attempt that takes the place of a, which ended so, with the request so far sent to it, or nil if how a went
// is the result of the call.
func (at *attempts) retry(a *attempt, o outcome) *attempt {
	if o.late {
		a.picked.Answered() // so long it would have taken at least
	}
	var avoid *pool.Stream
	if o.unprocessed || o.late {
		avoid = a.Stream
	}
	for {
		b := at.another(a, o)
		if b == nil {
			break
		}
		var e *local.Error
		if o, e = at.open(at.context(at.call.ctx), b, at.call.hdr, avoid); e != nil {
			if o.barred {
				at.call.fail(e)
			}
			continue
		}
		if !at.call.upload.join(b) {
			at.end(b, cluster.Unknown)
			break
		}
		at.current = b
		at.up.Store(b.Stream)
		if e := at.call.ending.failure.Load(); e != nil {
			b.Reset(e) // abort came before there was anything to reset
		}
		return b
	}
	at.addr.Store(&a.picked.Address)
	return nil
}

// another returns an attempt that is to follow a, which ended so: with its endpoint picked, and after as long a wait as
// there should be. It is nil for none. If there may be another, a is closed first: the next one may need its slot or its
// share of the budget.
func (at *attempts) another(a *attempt, o outcome) *attempt {
	if !at.mayGoOn(o) {
		return nil
	}
	if at.mayTryTransparently(o) {
		at.end(a, o.result())
		return at.pickNext(&attempt{}, o)
	}
	if at.mayAwaitRoom(o) {
		at.end(a, o.result())
		if !at.awaitRoom() {
			return nil
		}
		return at.pickNext(&attempt{waited: true}, o)
	}
	wait, ok := at.retryAfter(o)
	if !ok {
		return nil
	}
	at.end(a, o.result())
	if !at.mayRetry() {
		return nil
	}
	if !at.sleep(wait) {
		at.call.target.RetryEnd()
		return nil
	}
	at.retries++
	return at.pickNext(&attempt{budgeted: true}, o)
}

// pickNext picks the endpoint of b, which is to follow an attempt that ended so. It returns nil, with b's share of the
// budget given back, if there is none.
func (at *attempts) pickNext(b *attempt, o outcome) *attempt {
	if at.pick(b) != nil {
		at.endBudgeted(b)
		return nil
	}
	if o.inBackoff && b.picked.Again {
		at.end(b, cluster.Unknown) // all others rest too
		return nil
	}
	return b
}

// mayGoOn reports whether there is anything to try again for a call whose last attempt ended so.
func (at *attempts) mayGoOn(o outcome) bool {
	return !o.barred && at.call.ctxErr() == nil && at.call.ending.failure.Load() == nil && !at.call.upload.tooLong()
}

// maxBackoffSkips bounds the endpoints that a call passes by because they are left alone after a failure.
const maxBackoffSkips = 8

// maxAway bounds the attempts that a call makes because connections were told to go away beneath it. That is nobody's
// failure, and a service that ends its connections often may do it to one call twice.
const maxAway = 3

// mayTryTransparently reports, and notes, that an attempt is made because the last one certainly did not reach its endpoint. No
// route need say so, and no budget.
func (at *attempts) mayTryTransparently(o outcome) bool {
	switch {
	case o.inBackoff && at.backoffSkips < maxBackoffSkips:
		at.backoffSkips++
	case o.away && at.away < maxAway:
		at.away++
	case o.unprocessed && !at.transparent:
		at.transparent = true
	default:
		return false
	}
	return true
}

// retryAfter reports whether the route wants a call to be tried again whose last attempt ended so, and how long to wait
// before that. The deadline of the call leaves time for it.
func (at *attempts) retryAfter(o outcome) (wait time.Duration, ok bool) {
	r := at.call.target.Retry
	if r == nil || at.retries+1 >= r.Attempts || !o.isFor(r) {
		return 0, false
	}
	wait = r.Backoff.Wait(at.retries + 1)
	if len(o.pushback) > 0 {
		if wait, ok = pushback(o.pushback); !ok {
			return 0, false
		}
	}
	if d, ok := at.call.ctx.Deadline(); ok && time.Until(d) <= wait {
		return 0, false
	}
	return wait, true
}

// isFor reports whether an attempt that ended so is one after which r tries again.
func (o outcome) isFor(r *spec.Retry) bool {
	switch {
	case o.unprocessed:
		return true
	case o.late:
		return r.OnLate()
	}
	return r.On(uint32(o.code))
}

// maxPushback bounds how long an endpoint may have a call wait here.
const maxPushback = time.Minute

// pushback returns how long an endpoint wants to be left alone before another attempt; false is for no other attempt, which
// is what anything but one number means (gRFC A6), and one that is too large.
func pushback(values []string) (time.Duration, bool) {
	ms, err := strconv.ParseUint(values[0], 10, 31)
	d := time.Duration(ms) * time.Millisecond
	return d, err == nil && len(values) == 1 && d <= maxPushback
}

// sleep waits, and reports false if the call ended meanwhile.
func (at *attempts) sleep(d time.Duration) bool {
	if d > 0 {
		t := time.NewTimer(d)
		defer t.Stop()
		select {
		case <-t.C:
		case <-at.call.ctx.Done():
			return false
		}
	}
	return at.call.ctxErr() == nil && at.call.ending.failure.Load() == nil
}

const previousAttempts = "grpc-previous-rpc-attempts"

// maxPrevious bounds the attempts that a client is believed to have made.
const maxPrevious = 1_000_000

// retryContext returns the context of a further attempt, made of ctx: its metadata says how many the route had made before (gRFC
// A6), those of the client included.
func (at *attempts) retryContext(ctx context.Context) context.Context {
	md, added, _ := metadata.FromOutgoingContextRaw(ctx)
	md = maps.Clone(md)
	n := 0
	if v := md[previousAttempts]; len(v) > 0 {
		if sent, err := strconv.Atoi(v[0]); err == nil && sent > 0 && sent < maxPrevious {
			n = sent
		}
	}
	md[previousAttempts] = []string{strconv.Itoa(n + at.retries)}
	ctx = metadata.NewOutgoingContext(ctx, md)
	for _, kv := range added {
		ctx = metadata.AppendToOutgoingContext(ctx, kv...)
	}
	return ctx
}
