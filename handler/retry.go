package handler

import (
	"maps"
	"strconv"
	"time"

	"github.com/framegate/framegate/handler/local"
	"github.com/framegate/framegate/pool/transport"
	"github.com/framegate/framegate/resolver/cluster"
	"github.com/framegate/framegate/resolver/spec"
)

// retry makes the attempt that takes the place of a, which ended with outcome o: it opens it, makes it current and sends it
// the request so far. It returns nil if the end of a is the result of the call.
func (at *attempts) retry(a *attempt, o outcome) *attempt {
	if o.late {
		a.picked.Answered() // the time until the timeout counts as the endpoint's latency: an answer would have taken longer
	}
	var avoid place
	if o.unprocessed || o.late {
		avoid = placeOf(a.Upstream)
	}
	for {
		b := at.another(a, o)
		if b == nil {
			break
		}
		var e *local.Error
		if o, e = at.open(at.call.ctx, b, at.header(), avoid); e != nil {
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
		at.up.Store(b)
		if e := at.call.ending.failure.Load(); e != nil {
			b.Reset(e) // abort ran before b was the upstream
		}
		return b
	}
	at.addr.Store(&a.picked.Address)
	return nil
}

// another returns the attempt that follows a, which ended with outcome o, or nil if there is none. It picks the endpoint of
// the attempt, and waits first for as long as the route, the endpoint's pushback or a full endpoint asks. If there may be
// another attempt, a is closed before that, because the next one may need its slot or its share of the retry budget.
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

// pickNext picks the endpoint of b, which follows an attempt with outcome o, and returns b. If there is no endpoint, it
// returns nil, and b is no longer counted by the retry budget.
func (at *attempts) pickNext(b *attempt, o outcome) *attempt {
	if at.pick(b) != nil {
		at.endBudgeted(b)
		return nil
	}
	if o.inBackoff && b.picked.Again {
		at.end(b, cluster.Unknown) // an endpoint was picked again, so all others are left alone after a failure too
		return nil
	}
	return b
}

// mayGoOn reports whether the call, whose last attempt ended with outcome o, may make another attempt at all: it has not
// ended, and its request so far is kept.
func (at *attempts) mayGoOn(o outcome) bool {
	return !o.barred && at.call.ctxErr() == nil && at.call.ending.failure.Load() == nil && !at.call.upload.tooLong()
}

// maxBackoffSkips bounds how often a call goes on to another endpoint because one is left alone for a while after a failure.
const maxBackoffSkips = 8

// maxAway bounds the attempts that a call makes because its connection got a GOAWAY. A GOAWAY is no failure, and a service
// that ends its connections often may send one to a call twice.
const maxAway = 3

// mayTryTransparently reports whether a transparent retry follows an attempt with outcome o (gRFC A6), and counts it: the
// endpoint certainly did not process the attempt, so another one needs no retry in the route and no retry budget.
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

// retryAfter reports whether the route's retry makes another attempt after one with outcome o, and how long to wait before
// it. It reports false if the call's deadline would pass in that time.
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

// isFor reports whether r retries an attempt with this outcome.
func (o outcome) isFor(r *spec.Retry) bool {
	switch {
	case o.unprocessed:
		return true
	case o.late:
		return r.OnLate()
	}
	return r.On(uint32(o.code))
}

// maxPushback bounds the pushback of an endpoint that a call waits for.
const maxPushback = time.Minute

// pushback returns how long an endpoint wants a client to wait before another attempt, from the values of its trailer. It
// returns false if there must be no other attempt: gRFC A6 says so of anything but one number that is not negative, and a
// wait over maxPushback is treated alike.
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

// maxPrevious bounds the client's own grpc-previous-rpc-attempts: a larger number is ignored.
const maxPrevious = 1_000_000

// retryHeader returns the header of a retry or a hedge, with grpc-previous-rpc-attempts in its metadata: the number of
// retries and hedges before it, and of the client's attempts before (gRFC A6).
func (at *attempts) retryHeader() *transport.Header {
	hdr := at.call.hdr
	hdr.Metadata = maps.Clone(hdr.Metadata)
	n := 0
	if v := hdr.Metadata[previousAttempts]; len(v) > 0 {
		if sent, err := strconv.Atoi(v[0]); err == nil && sent > 0 && sent < maxPrevious {
			n = sent
		}
	}
	hdr.Metadata[previousAttempts] = []string{strconv.Itoa(n + at.retries)}
	return &hdr
}
