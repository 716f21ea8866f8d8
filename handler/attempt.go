package handler

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/codes"
	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/grpc"
	"golang.org/x/net/http2"

	"github.com/framegate/framegate/handler/local"
	"github.com/framegate/framegate/pool"
	"github.com/framegate/framegate/resolver/cluster"
)

// attempts are the tries of a call at endpoints, of which one at a time, or two with hedging, are under way. What is not
// atomic is owned by the handler's goroutine.
type attempts struct {
	call    *call
	addr    atomic.Pointer[string]      // of the endpoint that the last attempt goes to; nil before the first
	beside  atomic.Pointer[string]      // of that of a hedged call's attempt beside it; nil for none
	up      atomic.Pointer[pool.Stream] // the upstream in use
	current *attempt                    // whose upstream it is; nil if there is none
	last    *attempt                    // that was picked
	first   attempt                     // room for the first one

	transparent  bool           // a transparent retry was made: for an attempt that its endpoint did not see (gRFC A6)
	backoffSkips int            // endpoints that were passed by because they are left alone after a failure
	away         int            // attempts that were made because a connection was told to go away beneath another
	room         room           // of endpoints that refuse its stream
	retries      int            // attempts that were made since the route says so
	overBudget   bool           // one more was not made, for the route's budget
	answered     bool           // something of the upstream's answer is here
	waits        sync.WaitGroup // goroutines of attempts

	cancelHedge atomic.Pointer[context.CancelFunc] // ends the attempts of a hedged call that has no upstream yet
}

// attempt is one try of a call at an endpoint:
//
//	pick -> open -> its answer begins, or it ends without one -> close
//
// What became of its stream can be read also when it is closed. Its fields are set by one goroutine at a time; those that
// another reads meanwhile are atomic.
type attempt struct {
	*pool.Stream // nil until it is open
	picked       cluster.Attempt
	budgeted     bool          // counted by the route's retry budget; endExtra ends that
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

// GiveUp ends the attempt, because the request goes on with another.
func (a *attempt) GiveUp() {
	a.lost.Store(true)
	a.Reset(errLost)
}

// GivenUp reports whether it was given up.
func (a *attempt) GivenUp() bool { return a.lost.Load() }

// outcome is how an attempt ended whose answer had not begun.
type outcome struct {
	unprocessed bool       // the endpoint certainly did not see it
	away        bool       // it was not processed because the endpoint told the whole connection to go away
	full        bool       // it was not processed because the endpoint refused its stream alone, and calls wait until there is room
	inBackoff   bool       // it was not processed because the endpoint was left alone after an earlier failure
	late        bool       // its per-try timeout has passed
	waiting     bool       // the endpoint may wait for the rest of the request: that it said nothing is no failure
	lost        bool       // it was given up, because the request went on with another
	barred      bool       // a limit of the route is reached: no other attempt helps
	code        codes.Code // of its status
	pushback    []string   // the endpoint's grpc-retry-pushback-ms (gRFC A6)
}

// pick chooses the endpoint of an attempt. If it succeeds, the attempt is closed with the call at the latest.
func (at *attempts) pick(a *attempt) *local.Error {
	var err error
	if a.picked, err = at.call.target.Pick(); err != nil {
		return targetError(&at.call.target, err)
	}
	for at.last != nil && at.last.closed.Load() {
		at.last = at.last.earlier // there is no end of attempts while a call waits for room
	}
	a.earlier, at.last = at.last, a
	at.addr.Store(&a.picked.Address)
	return nil
}

// await returns the attempt whose answer is that of the call, when it has begun or has ended.
func (at *attempts) await() *attempt {
	for a := at.current; ; {
		o, ended := at.outcome(a)
		if !ended {
			return a
		}
		next := at.retry(a, o)
		if next == nil {
			return a
		}
		a = next
	}
}

// context returns the context of an attempt, made of ctx.
func (at *attempts) context(ctx context.Context) context.Context {
	if at.retries == 0 {
		return ctx
	}
	return at.retryContext(ctx)
}

// openFirst opens the current attempt, or another in its place if its endpoint cannot be reached.
func (at *attempts) openFirst() *local.Error {
	for {
		a := at.current
		o, e := at.open(at.context(at.call.ctx), a, at.call.hdr, nil)
		if e == nil {
			at.up.Store(a.Stream)
			at.call.upload.replay.Open(a.Stream)
			return nil
		}
		if at.current = at.another(a, o); at.current == nil {
			return e
		}
	}
}

// Errors that end attempts. Their texts reach no peer.
var (
	errLost = errors.New("handler: another attempt was faster")
	errLate = errors.New("handler: the attempt took too long")
)

// open opens the stream of an attempt that was picked, on another connection than that of avoid, if there is one; avoid
// may be nil. If it fails the attempt is closed and the outcome says how it ended; the endpoint has seen nothing of it.
func (at *attempts) open(ctx context.Context, a *attempt, hdr *grpc.CallHdr, avoid *pool.Stream) (outcome, *local.Error) {
	var options pool.OpenOptions
	if avoid != nil && !a.waited && avoid.Address() == a.picked.Address {
		options.Avoid = avoid
	}
	if at.call.target.BoundsWaiting() {
		options.Wait = func() (func(), bool) {
			a.overPending = !at.call.target.Wait()
			return at.call.target.WaitEnd, !a.overPending
		}
	}
	if r := at.call.target.Retry; r != nil && r.PerTryTimeout > 0 {
		ctx, a.cancel = context.WithCancel(ctx) // hedging, which has one too, is not beside retry
		a.timer = time.AfterFunc(r.PerTryTimeout, func() {
			a.late.Store(true)
			a.cancel()
		})
	}
	up, err := at.call.proxy.openerOf(&at.call.target).Open(ctx, a.picked.Address, hdr, options)
	if err == nil {
		a.Stream = up
		return outcome{}, nil
	}
	o := outcome{late: a.late.Load(), code: codes.Unavailable}
	e := openError(at.call.ctx, err)
	result := cluster.Unknown
	var dial *pool.DialError
	switch {
	case a.overPending:
		o.barred = true
		e = at.overPending()
	case o.late:
		o.unprocessed, e = true, local.ErrTimeout
		if errors.As(err, &dial) { // and not for a stream on a connection that is full
			result = cluster.Failed
		}
	case at.call.ctxErr() != nil:
		if errors.As(err, &dial) && time.Since(a.picked.Began) >= minSilence {
			result = cluster.Failed // it could not be connected to in all that time
		}
	case errors.As(err, &dial):
		o.unprocessed, o.inBackoff = true, dial.InBackoff
		if !dial.InBackoff { // which says nothing new
			result = cluster.Failed
		}
	case errors.As(err, new(*pool.FullError)):
		o.unprocessed, o.code = true, codes.ResourceExhausted
	}
	at.end(a, result)
	return o, e
}

// overPending is the error of a call that is not to wait.
func (at *attempts) overPending() *local.Error {
	return targetError(&at.call.target, &cluster.OverloadError{Limit: "limits.pending", RetryAfter: pendingHint})
}

// pendingHint is how long a client should wait when too many calls wait for connections.
const pendingHint = 100 * time.Millisecond

// minSilence is how long an endpoint must have said nothing at all to be blamed for a deadline that the client chose.
const minSilence = time.Second

// outcome returns how an attempt ended; ok is false if its answer has begun. It waits for either. It may be called once,
// and again when the attempt has ended.
func (at *attempts) outcome(a *attempt) (o outcome, ok bool) {
	if !a.TrailersOnly() && !a.Unprocessed() {
		if a.timer == nil || a.timer.Stop() {
			return outcome{}, false
		}
		a.late.Store(true) // the answer lost by a hair: its stream is being canceled
		a.Reset(errLate)
	}
	<-a.Stream.Done() // is near; only then is there a status to read
	unprocessed, refused := a.Unprocessed(), a.refused()
	o = outcome{
		unprocessed: unprocessed, away: unprocessed && !refused, full: unprocessed && refused && at.waitsForRoom(), late: a.late.Load(), waiting: !at.call.upload.sent.Load(), lost: a.lost.Load(),
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

// end ends an attempt that was picked: what it took of the endpoint, of its connection and of the budget is given
// back. It may be called more than once.
func (at *attempts) end(a *attempt, r cluster.Result) {
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
	at.endBudgeted(a)
}

// endBudgeted gives back what a further attempt took of the route's retry budget. It may be called more than once, and for
// any attempt.
func (at *attempts) endBudgeted(a *attempt) {
	if a.budgeted {
		a.budgeted = false
		at.call.target.RetryEnd()
	}
}

// finalResult says what a result of the call with that code and reason tells of the endpoint of its last attempt.
func (at *attempts) finalResult(code codes.Code, reason local.Reason) cluster.Result {
	a := at.current
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
		if a.Stream != nil && !at.answered && at.call.upload.sent.Load() && (a.late.Load() || routeTimedOut(at.call) || a.Silent() && time.Since(a.picked.Began) >= minSilence) {
			return cluster.Failed
		}
	}
	return cluster.Unknown
}

// endpoint returns the address of the endpoint that the last attempt goes to, or "".
func (at *attempts) endpoint() string {
	if addr := at.addr.Load(); addr != nil {
		return *addr
	}
	return ""
}

// goesTo reports whether an attempt is under way at the endpoint of that address. It may be called from any goroutine.
func (at *attempts) goesTo(address string) bool {
	beside := at.beside.Load()
	return at.endpoint() == address || beside != nil && *beside == address
}

// endAll ends what a panic left open.
func (at *attempts) endAll() {
	for a := at.last; a != nil; a = a.earlier {
		at.end(a, cluster.Unknown)
	}
}

// count counts the attempts of a call that has ended.
func (at *attempts) count() Attempts {
	a := Attempts{Transparent: at.away + at.room.asked, OverBudget: at.overBudget}
	if at.transparent {
		a.Transparent++
	}
	if at.call.target.Hedge != nil { // which is not beside retry
		a.Hedges = at.retries
	} else {
		a.Retries = at.retries
	}
	return a
}

// mayRetry asks the budget of the route for a further attempt; each true needs one RetryEnd of the target.
func (at *attempts) mayRetry() bool {
	if at.call.target.MayRetry() {
		return true
	}
	at.overBudget = true
	return false
}
