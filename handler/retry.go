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

// openFirst opens the current attempt, or another in its place if its endpoint cannot be reached.
func (c *call) openFirst() *local.Error {
	for {
		a := c.current
		o, e := c.open(c.retryContext(c.ctx), a, c.hdr, nil)
		if e == nil {
			c.up.Store(a.Stream)
			c.replay.live = a.Stream
			return nil
		}
		if c.current = c.another(a, o); c.current == nil {
			return e
		}
	}
}

// retry returns the attempt that takes the place of a, with the request so far sent to it, or nil if how a went is the
// result of the call.
func (c *call) retry(a *attempt) *attempt {
	o, ended := c.outcome(a)
	if !ended {
		return nil
	}
	if o.late {
		a.picked.Answered() // so long it would have taken at least
	}
	var avoid *pool.Stream
	if o.unseen || o.late {
		avoid = a.Stream
	}
	for {
		b := c.another(a, o)
		if b == nil {
			break
		}
		var e *local.Error
		if o, e = c.open(c.retryContext(c.ctx), b, c.hdr, avoid); e != nil {
			if o.barred {
				c.fail(e)
			}
			continue
		}
		if !c.join(b) {
			c.closeAttempt(b, cluster.Unknown)
			break
		}
		c.current = b
		c.up.Store(b.Stream)
		if e := c.failure.Load(); e != nil {
			b.Reset(e) // abort came before there was anything to reset
		}
		return b
	}
	c.addr.Store(&a.picked.Address)
	return nil
}

// another returns an attempt that is to follow a, which ended so: with its endpoint picked, and after as long a wait as
// there should be. It is nil for none. If there may be another, a is closed first: the next one may need its slot or its
// share of the budget.
func (c *call) another(a *attempt, o outcome) *attempt {
	if !c.mayGoOn(o) {
		return nil
	}
	if c.tryUnseen(o) {
		c.closeAttempt(a, o.result())
		return c.pickNext(&attempt{}, o)
	}
	if c.mayAwaitRoom(o) {
		c.closeAttempt(a, o.result())
		if !c.awaitRoom() {
			return nil
		}
		return c.pickNext(&attempt{waited: true}, o)
	}
	wait, ok := c.retryAfter(o)
	if !ok {
		return nil
	}
	c.closeAttempt(a, o.result())
	if !c.mayRetry() {
		return nil
	}
	if !c.sleep(wait) {
		c.target.RetryEnd()
		return nil
	}
	c.retries++
	return c.pickNext(&attempt{extra: true}, o)
}

// pickNext picks the endpoint of b, which is to follow an attempt that ended so. It returns nil, with b's share of the
// budget given back, if there is none.
func (c *call) pickNext(b *attempt, o outcome) *attempt {
	if c.pick(b) != nil {
		c.endExtra(b)
		return nil
	}
	if o.resting && b.picked.Again {
		c.closeAttempt(b, cluster.Unknown) // all others rest too
		return nil
	}
	return b
}

// mayGoOn reports whether there is anything to try again for a call whose last attempt ended so.
func (c *call) mayGoOn(o outcome) bool {
	return !o.barred && c.ctxErr() == nil && c.failure.Load() == nil && !c.tooLong()
}

// mostRested bounds the endpoints that a call passes by because they are left alone after a failure.
const mostRested = 8

// mostAway bounds the attempts that a call makes because connections were told to go away beneath it. That is nobody's
// failure, and a service that ends its connections often may do it to one call twice.
const mostAway = 3

// tryUnseen reports, and notes, that an attempt is made because the last one certainly did not reach its endpoint. No
// route need say so, and no budget.
func (c *call) tryUnseen(o outcome) bool {
	switch {
	case o.resting && c.rested < mostRested:
		c.rested++
	case o.away && c.away < mostAway:
		c.away++
	case o.unseen && !c.triedUnseen:
		c.triedUnseen = true
	default:
		return false
	}
	return true
}

// retryAfter reports whether the route wants a call to be tried again whose last attempt ended so, and how long to wait
// before that. The deadline of the call leaves time for it.
func (c *call) retryAfter(o outcome) (wait time.Duration, ok bool) {
	r := c.target.Retry
	if r == nil || c.retries+1 >= r.Attempts || !o.isFor(r) {
		return 0, false
	}
	wait = r.Backoff.Wait(c.retries + 1)
	if len(o.pushback) > 0 {
		if wait, ok = pushback(o.pushback); !ok {
			return 0, false
		}
	}
	if d, ok := c.ctx.Deadline(); ok && time.Until(d) <= wait {
		return 0, false
	}
	return wait, true
}

// isFor reports whether an attempt that ended so is one after which r tries again.
func (o outcome) isFor(r *spec.Retry) bool {
	switch {
	case o.unseen:
		return true
	case o.late:
		return r.OnLate()
	}
	return r.On(uint32(o.code))
}

// mostPushback bounds how long an endpoint may have a call wait here.
const mostPushback = time.Minute

// pushback returns how long an endpoint wants to be left alone before another attempt; false is for no other attempt, which
// is what anything but one number means (gRFC A6), and one that is too large.
func pushback(values []string) (time.Duration, bool) {
	ms, err := strconv.ParseUint(values[0], 10, 31)
	d := time.Duration(ms) * time.Millisecond
	return d, err == nil && len(values) == 1 && d <= mostPushback
}

// sleep waits, and reports false if the call ended meanwhile.
func (c *call) sleep(d time.Duration) bool {
	if d > 0 {
		t := time.NewTimer(d)
		defer t.Stop()
		select {
		case <-t.C:
		case <-c.ctx.Done():
			return false
		}
	}
	return c.ctxErr() == nil && c.failure.Load() == nil
}

const previousAttempts = "grpc-previous-rpc-attempts"

// mostPrevious bounds the attempts that a client is believed to have made.
const mostPrevious = 1_000_000

// retryContext returns the context of an attempt, made of ctx: its metadata says how many the route had made before (gRFC
// A6), those of the client included.
func (c *call) retryContext(ctx context.Context) context.Context {
	if c.retries == 0 {
		return ctx
	}
	md, added, _ := metadata.FromOutgoingContextRaw(ctx)
	md = maps.Clone(md)
	n := 0
	if v := md[previousAttempts]; len(v) > 0 {
		if sent, err := strconv.Atoi(v[0]); err == nil && sent > 0 && sent < mostPrevious {
			n = sent
		}
	}
	md[previousAttempts] = []string{strconv.Itoa(n + c.retries)}
	ctx = metadata.NewOutgoingContext(ctx, md)
	for _, kv := range added {
		ctx = metadata.AppendToOutgoingContext(ctx, kv...)
	}
	return ctx
}
