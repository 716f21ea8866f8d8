package handler

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/codes"
	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/grpc"
	"golang.org/x/net/http2"

	"github.com/framegate/framegate/handler/local"
	"github.com/framegate/framegate/pool"
	"github.com/framegate/framegate/resolver/cluster"
)

// attempt is one try of a call at an endpoint:
//
//	pick -> open -> its answer begins, or it ends without one -> close
//
// What became of its stream can be read also when it is closed. Its fields are set by one goroutine at a time; those that
// another reads meanwhile are atomic.
type attempt struct {
	*pool.Stream // nil until it is open
	picked       cluster.Attempt
	extra        bool          // counted by the route's retry budget; endExtra ends that
	waited       bool          // for room at an endpoint: any of its connections will do
	overPending  bool          // it was not to wait for a connection, because too many calls do
	closed       atomic.Bool   // also read by the goroutine of the call while another opens it
	ready        chan struct{} // closed when hedging does not wait for its answer any longer; nil without hedging
	earlier      *attempt      // of the call, which may be open; nil for none

	cancel context.CancelFunc // of the context of its stream; nil if it has none of its own
	timer  *time.Timer        // of the per-try timeout; nil without one
	late   atomic.Bool        // its per-try timeout has passed
	lost   atomic.Bool        // given up, because the request went on with another
}

// outcome is how an attempt ended whose answer had not begun.
type outcome struct {
	unseen   bool       // the endpoint certainly did not see it
	away     bool       // it was unseen because the endpoint told the whole connection to go away
	full     bool       // it was unseen because the endpoint refused its stream alone, and calls wait until there is room
	resting  bool       // it was unseen because the endpoint was left alone after an earlier failure
	late     bool       // its per-try timeout has passed
	waiting  bool       // the endpoint may wait for the rest of the request: that it said nothing is no failure
	lost     bool       // it was given up, because the request went on with another
	barred   bool       // a limit of the route is reached: no other attempt helps
	code     codes.Code // of its status
	pushback []string   // the endpoint's grpc-retry-pushback-ms (gRFC A6)
}

// pick chooses the endpoint of an attempt. If it succeeds, the attempt is closed with the call at the latest.
func (c *call) pick(a *attempt) *local.Error {
	var err error
	if a.picked, err = c.target.Pick(); err != nil {
		return targetError(&c.target, err)
	}
	for c.last != nil && c.last.closed.Load() {
		c.last = c.last.earlier // there is no end of attempts while a call waits for room
	}
	a.earlier, c.last = c.last, a
	c.addr.Store(&a.picked.Address)
	return nil
}

// Errors that end attempts. Their texts reach no peer.
var (
	errLost = errors.New("handler: another attempt was faster")
	errLate = errors.New("handler: the attempt took too long")
)

// open opens the stream of an attempt that was picked, on another connection than that of avoid, if there is one; avoid
// may be nil. If it fails the attempt is closed and the outcome says how it ended; the endpoint has seen nothing of it.
func (c *call) open(ctx context.Context, a *attempt, hdr *grpc.CallHdr, avoid *pool.Stream) (outcome, *local.Error) {
	var options pool.OpenOptions
	if avoid != nil && !a.waited && avoid.Address() == a.picked.Address {
		options.Avoid = avoid
	}
	if c.target.BoundsWaiting() {
		options.Wait = func() (func(), bool) {
			a.overPending = !c.target.Wait()
			return c.target.WaitEnd, !a.overPending
		}
	}
	if r := c.target.Retry; r != nil && r.PerTryTimeout > 0 {
		ctx, a.cancel = context.WithCancel(ctx) // hedging, which has one too, is not beside retry
		a.timer = time.AfterFunc(r.PerTryTimeout, func() {
			a.late.Store(true)
			a.cancel()
		})
	}
	up, err := c.proxy.openerOf(&c.target).Open(ctx, a.picked.Address, hdr, options)
	if err == nil {
		a.Stream = up
		return outcome{}, nil
	}
	o := outcome{late: a.late.Load(), code: codes.Unavailable}
	e := openError(c.ctx, err)
	result := cluster.Unknown
	var dial *pool.DialError
	switch {
	case a.overPending:
		o.barred = true
		e = c.overPending()
	case o.late:
		o.unseen, e = true, local.ErrTimeout
		if errors.As(err, &dial) { // and not for a stream on a connection that is full
			result = cluster.Failed
		}
	case c.ctxErr() != nil:
		if errors.As(err, &dial) && time.Since(a.picked.Began) >= minSilence {
			result = cluster.Failed // it could not be connected to in all that time
		}
	case errors.As(err, &dial):
		o.unseen, o.resting = true, dial.Resting
		if !dial.Resting { // which says nothing new
			result = cluster.Failed
		}
	case errors.As(err, new(*pool.FullError)):
		o.unseen, o.code = true, codes.ResourceExhausted
	}
	c.closeAttempt(a, result)
	return o, e
}

// overPending is the error of a call that is not to wait.
func (c *call) overPending() *local.Error {
	return targetError(&c.target, &cluster.OverloadError{Limit: "limits.pending", RetryAfter: pendingHint})
}

// pendingHint is how long a client should wait when too many calls wait for connections.
const pendingHint = 100 * time.Millisecond

// minSilence is how long an endpoint must have said nothing at all to be blamed for a deadline that the client chose.
const minSilence = time.Second

// outcome returns how an attempt ended; ok is false if its answer has begun. It waits for either. It may be called once,
// and again when the attempt has ended.
func (c *call) outcome(a *attempt) (o outcome, ok bool) {
	if !a.TrailersOnly() && !a.Unprocessed() {
		if a.timer == nil || a.timer.Stop() {
			return outcome{}, false
		}
		a.late.Store(true) // the answer lost by a hair: its stream is being canceled
		a.Reset(errLate)
	}
	<-a.Stream.Done() // is near; only then is there a status to read
	unseen, refused := a.Unprocessed(), a.refused()
	o = outcome{
		unseen: unseen, away: unseen && !refused, full: unseen && refused && c.waitsForRoom(), late: a.late.Load(), waiting: !c.requested.Load(), lost: a.lost.Load(),
		code: a.Status().Code(), pushback: a.Trailer()[local.PushbackTrailer],
	}
	if code, isReset := resetOf(a.Stream); isReset {
		o.code = resetError(code).Code
	}
	return o, true
}

// result says what an attempt that did not become the call's result tells of its endpoint.
func (o outcome) result() cluster.Result {
	switch {
	case o.away, o.lost, o.full, o.late && o.waiting:
		return cluster.Unknown // it goes in order, was not waited for, or does as much as it can
	case o.late, o.code == codes.Unavailable:
		return cluster.Failed
	}
	return cluster.Succeeded
}

// refused reports whether the endpoint refused the stream alone, and not as all that comes after its GOAWAY.
func (a *attempt) refused() bool {
	code, ok := a.ResetCode()
	return ok && code == http2.ErrCodeRefusedStream
}

// closeAttempt ends an attempt that was picked: what it took of the endpoint, of its connection and of the budget is given
// back. It may be called more than once.
func (c *call) closeAttempt(a *attempt, r cluster.Result) {
	if a.closed.Swap(true) {
		return
	}
	if a.timer != nil {
		a.timer.Stop()
	}
	if a.Stream != nil {
		a.Close()
	}
	if a.cancel != nil {
		a.cancel()
	}
	a.picked.Done(r)
	c.endExtra(a)
}

// endExtra gives back what a further attempt took of the route's retry budget. It may be called more than once, and for
// any attempt.
func (c *call) endExtra(a *attempt) {
	if a.extra {
		a.extra = false
		c.target.RetryEnd()
	}
}

// finalResult says what a result of the call with that code and reason tells of the endpoint of its last attempt.
func (c *call) finalResult(code codes.Code, reason local.Reason) cluster.Result {
	a := c.current
	switch reason {
	case "":
		if code == codes.Unavailable {
			return cluster.Failed
		}
		return cluster.Succeeded
	case local.ReasonUpstreamReset, local.ReasonBadResponseFraming:
		if a.Stream != nil && a.Unprocessed() && !a.refused() {
			return cluster.Unknown // it went away in order
		}
		return cluster.Failed
	case local.ReasonTimeout:
		if a.Stream != nil && !c.answerHere && c.requested.Load() && (a.late.Load() || c.routeTimedOut() || a.Silent() && time.Since(a.picked.Began) >= minSilence) {
			return cluster.Failed
		}
	}
	return cluster.Unknown
}
