package handler

import (
	"context"
	"maps"
	"strconv"
	"time"

	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/metadata"

	"github.com/framegate/framegate/resolver"
)

// openFirst opens the current attempt, or another in its place if its endpoint cannot be reached.
func (c *call) openFirst() *localError {
	for {
		a := c.current
		o, e := c.open(c.ctx, a, c.hdr, nil)
		if e == nil {
			c.up.Store(a.Stream)
			c.replay.live[0] = a.Stream
			return nil
		}
		if c.current = c.another(o); c.current == nil {
			return e
		}
	}
}

// retry returns the attempt that takes the place of a, with the request so far sent to it, or nil if how a went is the
// result of the call.
func (c *call) retry(a *attempt) *attempt {
	o, ended := a.outcome()
	if !ended {
		return nil
	}
	result := o.result()
	for {
		b := c.another(o)
		if b == nil {
			return nil
		}
		var e *localError
		if o, e = c.open(c.retryContext(), b, c.hdr, a.Stream); e != nil {
			continue
		}
		if !c.replay.join(0, b.Stream) {
			c.closeAttempt(b, resolver.Unknown)
			return nil
		}
		c.current = b
		c.up.Store(b.Stream)
		c.closeAttempt(a, result)
		if e := c.failure.Load(); e != nil {
			b.Reset(e) // abort came before there was anything to reset
		}
		return b
	}
}

// another returns an attempt that is to follow one that ended so, with its endpoint picked, or nil for none.
func (c *call) another(o outcome) *attempt {
	a := c.again(o)
	if a == nil {
		return nil
	}
	if c.pick(a) != nil {
		if a.extra {
			c.target.RetryEnd()
		}
		return nil
	}
	return a
}

// mostAway bounds the attempts that a call makes because connections were told to go away beneath it. That is nobody's
// failure, and a service that ends its connections often may do it to one call twice.
const mostAway = 3

// again decides whether a call is tried again whose last attempt ended so. It waits as long as it should before the next
// attempt, which it returns: nil for none.
func (c *call) again(o outcome) *attempt {
	if c.ctxErr() != nil || c.failure.Load() != nil || c.replay.isTooLong() {
		return nil
	}
	if o.unseen && !c.triedUnseen || o.away && c.away < mostAway {
		c.triedUnseen = true
		c.away++
		return &attempt{}
	}
	r := c.target.Retry
	if r == nil || c.retries+1 >= r.Attempts {
		return nil
	}
	if !o.unseen && !(o.late && r.OnLate()) && (o.late || !r.On(uint32(o.code))) {
		return nil
	}
	wait := r.Backoff.Wait(c.retries + 1)
	if o.pushback != "" { // gRFC A6: what is no number above 0 means not to try again
		ms, err := strconv.ParseUint(o.pushback, 10, 31)
		if err != nil {
			return nil
		}
		wait = time.Duration(ms) * time.Millisecond
	}
	if d, ok := c.ctx.Deadline(); ok && time.Until(d) <= wait {
		return nil
	}
	if !c.target.MayRetry() {
		return nil
	}
	if !c.sleep(wait) {
		c.target.RetryEnd()
		return nil
	}
	c.retries++
	return &attempt{extra: true}
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

// retryContext returns the context of a further attempt, whose metadata says how many the endpoints may have seen before
// (gRFC A6), those of the client included.
func (c *call) retryContext() context.Context {
	if c.retries == 0 {
		return c.ctx
	}
	md, added, _ := metadata.FromOutgoingContextRaw(c.ctx)
	md = maps.Clone(md)
	n := 0
	if v := md[previousAttempts]; len(v) > 0 {
		n, _ = strconv.Atoi(v[0])
	}
	md[previousAttempts] = []string{strconv.Itoa(max(n, 0) + c.retries)}
	ctx := metadata.NewOutgoingContext(c.ctx, md)
	for _, kv := range added {
		ctx = metadata.AppendToOutgoingContext(ctx, kv...)
	}
	return ctx
}
