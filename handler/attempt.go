package handler

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/codes"
	"golang.org/x/net/http2"

	"github.com/framegate/framegate/handler/local"
	"github.com/framegate/framegate/handler/stream"
	"github.com/framegate/framegate/pool"
	"github.com/framegate/framegate/pool/transport"
	"github.com/framegate/framegate/resolver/cluster"
)

// attempts are the attempts of a call at endpoints (gRFC A6): one after the other, or with hedging up to two at a time. The
// fields that are not atomic are owned by the handler's goroutine.
type attempts struct {
	call    *call
	addr    atomic.Pointer[string]  // address of the endpoint of the last attempt; nil before the first
	beside  atomic.Pointer[string]  // address of the endpoint of a hedged call's other attempt; nil if there is none
	up      atomic.Pointer[attempt] // current, once it is open
	current *attempt                // the attempt whose answer is, so far, the call's; nil if there is none
	before  *FailedAttempt          // how the first attempt ended, if a data plane has made it; nil from then on
	last    *attempt                // the one picked last; attempt.earlier leads to those before it
	first   attempt                 // the first attempt, here to save an allocation

	transparent  bool           // a transparent retry was made: the endpoint did not process the attempt before (gRFC A6)
	backoffSkips int            // attempts that ended because their endpoint is left alone for a while after a failure
	away         int            // attempts that ended because their connection got a GOAWAY
	room         room           // waits for endpoints that refuse the stream
	retries      int            // attempts that were made because the route's retry or hedge says so
	overBudget   bool           // a retry or a hedge was not made, because of the route's retry budget
	answered     bool           // the headers of the upstream's answer have come
	waits        sync.WaitGroup // goroutines of attempts

	cancelHedge atomic.Pointer[context.CancelFunc] // cancels the attempts of a hedged call; nil without hedging
}

// attempt is one try of a call at an endpoint:
//
//	pick -> open -> its answer begins, or it ends without one -> close
//
// The status of its stream may be read after close, too. Its fields are set by one goroutine at a time; those that another
// goroutine reads meanwhile are atomic.
type attempt struct {
	stream.Upstream // nil until it is open
	picked          cluster.Attempt
	budgeted        bool          // the route's retry budget counts it; endBudgeted takes it out of the count
	waited          bool          // it was made after a wait for room at an endpoint, and may use any of the endpoint's connections
	overPending     bool          // it ended because as many calls as limits.pending allows wait for connections
	closed          atomic.Bool   // also read by the handler's goroutine while another goroutine opens the attempt
	ready           chan struct{} // closed when its goroutine of a hedged call has ended; nil without hedging
	earlier         *attempt      // the one picked before it, which may be open; nil if there is none

	cancel context.CancelFunc // of the context of its stream; nil if it has none of its own
	timer  *time.Timer        // of the per-try timeout; nil without one
	late   atomic.Bool        // its per-try timeout has passed
	lost   atomic.Bool        // it was given up, because the request went on with another attempt
}

// GiveUp ends the attempt because the request goes on with another one. It implements buffer.Attempt, as does GivenUp.
func (a *attempt) GiveUp() {
	a.lost.Store(true)
	a.Reset(errLost)
}

// GivenUp reports whether GiveUp was called.
func (a *attempt) GivenUp() bool { return a.lost.Load() }

// outcome is how an attempt ended that got no headers of an answer.
type outcome struct {
	unprocessed bool       // the endpoint certainly did not process the request
	away        bool       // unprocessed, because the endpoint sent a GOAWAY for the connection
	full        bool       // unprocessed, because the endpoint refused this stream (REFUSED_STREAM), and calls of the route wait for room
	inBackoff   bool       // unprocessed, because the endpoint is left alone for a while after an earlier failure
	late        bool       // the per-try timeout has passed
	waiting     bool       // the request was not sent whole: the endpoint may have been silent because it waits for the rest
	lost        bool       // it was given up, because the request went on with another attempt
	barred      bool       // a limit of the route is reached: no other attempt helps
	code        codes.Code // of the attempt's status
	pushback    []string   // values of the trailer grpc-retry-pushback-ms (gRFC A6)
}

// pick chooses the endpoint of an attempt. If it succeeds, the attempt is closed no later than the call ends.
func (at *attempts) pick(a *attempt) *local.Error {
	picked, err := at.call.target.Pick(time.Now())
	if err != nil {
		return TargetError(&at.call.target, err)
	}
	at.pickedAlready(a, picked)
	return nil
}

// pickedAlready is pick for an endpoint that was chosen.
func (at *attempts) pickedAlready(a *attempt, picked cluster.Attempt) {
	a.picked = picked
	for at.last != nil && at.last.closed.Load() {
		at.last = at.last.earlier // closed attempts are dropped: a call that waits for room makes any number of them
	}
	a.earlier, at.last = at.last, a
	at.addr.Store(&a.picked.Address)
}

// await waits until the headers of an answer have come, and makes further attempts for those that end without. It returns the
// attempt whose answer, or whose status, is that of the call.
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

// header returns the header of the next attempt: that of a retry says in its metadata how many came before.
func (at *attempts) header() *transport.Header {
	if at.retries == 0 {
		return &at.call.hdr
	}
	return at.retryHeader()
}

// place is where an attempt was made; the zero place is none.
type place struct {
	address string
	conn    transport.Conn
}

// placeOf returns the place of an open attempt, or none for nil.
func placeOf(up stream.Upstream) place {
	if up == nil {
		return place{}
	}
	return place{up.Address(), up.Conn()}
}

// openFirst opens the current attempt, or another one in its place if that fails and there may be another.
func (at *attempts) openFirst() *local.Error {
	var avoid place
	for {
		a := at.current
		var o outcome
		var e *local.Error
		if at.before != nil {
			o, e = at.madeBefore(a)
			avoid = place{a.picked.Address, at.before.Conn}
			at.before = nil
		} else if o, e = at.open(at.call.ctx, a, at.header(), avoid); e == nil {
			at.up.Store(a)
			at.call.upload.replay.Open(a.Upstream)
			return nil
		}
		if at.current = at.another(a, o); at.current == nil {
			return e
		}
	}
}

// madeBefore ends the first attempt, which a data plane has made.
func (at *attempts) madeBefore(a *attempt) (outcome, *local.Error) {
	if at.before.Err != nil {
		return at.notOpened(a, at.before.Err)
	}
	o := outcome{unprocessed: true, away: !at.before.Refused, full: at.before.Refused && at.waitsForRoom(), code: codes.Unavailable}
	at.end(a, o.result())
	if at.before.Refused {
		return o, ResetError(http2.ErrCodeRefusedStream)
	}
	return o, UnprocessedError(a.picked.Address)
}

// Errors that end attempts. Their texts reach no peer.
var (
	errLost = errors.New("handler: another attempt was faster")
	errLate = errors.New("handler: the attempt took too long")
)

// open opens the stream of an attempt that was picked. If avoid is at the same endpoint, open prefers another
// connection than that of avoid. If it fails, the attempt is closed, the endpoint has seen nothing of it,
// and the outcome says how it ended.
func (at *attempts) open(ctx context.Context, a *attempt, hdr *transport.Header, avoid place) (outcome, *local.Error) {
	var options pool.OpenOptions
	if avoid.conn != nil && !a.waited && avoid.address == a.picked.Address {
		options.Avoid = avoid.conn
	}
	if at.call.target.BoundsWaiting() {
		options.Wait = func() (func(), bool) {
			a.overPending = !at.call.target.Wait()
			return at.call.target.WaitEnd, !a.overPending
		}
	}
	if r := at.call.target.Retry; r != nil && r.PerTryTimeout > 0 {
		ctx, a.cancel = context.WithCancel(ctx) // a.cancel is free: a route has a retry or a hedge, not both
		a.timer = time.AfterFunc(r.PerTryTimeout, func() {
			a.late.Store(true)
			a.cancel()
		})
	}
	up, err := at.call.openerOf(&at.call.target).Open(ctx, a.picked.Address, hdr, options)
	if err == nil {
		a.Upstream = up
		return outcome{}, nil
	}
	return at.notOpened(a, err)
}

// notOpened ends an attempt whose stream could not be opened because of err.
func (at *attempts) notOpened(a *attempt, err error) (outcome, *local.Error) {
	o := outcome{late: a.late.Load(), code: codes.Unavailable}
	e := openError(at.call.ctx, err)
	result := cluster.Unknown
	var dial *pool.DialError
	switch {
	case a.overPending:
		o.barred = true
		e = PendingError(&at.call.target)
	case o.late:
		o.unprocessed, e = true, local.ErrTimeout
		if errors.As(err, &dial) { // a wait for a stream on a full connection is no failure of the endpoint
			result = cluster.Failed
		}
	case at.call.ctxErr() != nil:
		if errors.As(err, &dial) && time.Since(a.picked.Began) >= minSilence {
			result = cluster.Failed // no connection in at least minSilence
		}
	case errors.As(err, &dial):
		o.unprocessed, o.inBackoff = true, dial.InBackoff
		if !dial.InBackoff { // the failure that led to the backoff was reported when it happened
			result = cluster.Failed
		}
	case errors.As(err, new(*pool.FullError)):
		o.unprocessed, o.code = true, codes.ResourceExhausted
	}
	at.end(a, result)
	return o, e
}

// PendingError returns the local error of a call that may not wait for a connection, because as many calls as limits.pending
// allows wait already.
func PendingError(t *cluster.Target) *local.Error {
	return TargetError(t, &cluster.OverloadError{Limit: "limits.pending", RetryAfter: pendingHint})
}

// pendingHint is the pushback of calls that are refused because connections are full, or too many calls wait for them.
const pendingHint = 100 * time.Millisecond

// minSilence is how long an endpoint must have been silent before a client's deadline counts as the endpoint's failure: a
// client may choose a deadline that no endpoint can meet.
const minSilence = time.Second

// outcome waits until the headers of an attempt's answer have come, and returns false, or until the attempt has ended without
// any, and returns how. It may be called once, and again after it returned true.
func (at *attempts) outcome(a *attempt) (o outcome, ok bool) {
	if !a.TrailersOnly() && !a.Unprocessed() {
		if a.timer == nil || a.timer.Stop() {
			return outcome{}, false
		}
		a.late.Store(true) // the answer came just after the timer fired, which is canceling the stream
		a.Reset(errLate)
	}
	<-a.Done() // comes soon; there is no status to read before
	unprocessed, refused := a.Unprocessed(), a.refused()
	o = outcome{
		unprocessed: unprocessed, away: unprocessed && !refused, full: unprocessed && refused && at.waitsForRoom(), late: a.late.Load(), waiting: !at.call.upload.sent.Load(), lost: a.lost.Load(),
		code: a.Status().Code(), pushback: a.TrailerValues(local.PushbackTrailer),
	}
	if code, isReset := a.ResetCode(); isReset {
		o.code = ResetError(code).Code
	}
	return o, true
}

// result returns what to report of the endpoint of an attempt that did not become the call's result.
func (o outcome) result() cluster.Result {
	switch {
	case o.away, o.lost, o.full, o.late && o.waiting:
		return cluster.Unknown // the endpoint drains, was not waited for, is busy, or waits for the request: none is a failure
	case o.late, o.code == codes.Unavailable:
		return cluster.Failed
	}
	return cluster.Succeeded
}

// refused reports whether the endpoint refused this stream with REFUSED_STREAM, not all streams after a GOAWAY.
func (a *attempt) refused() bool {
	code, ok := a.ResetCode()
	return ok && code == http2.ErrCodeRefusedStream
}

// end closes an attempt that was picked and reports r of its endpoint: it gives back the endpoint's slot, the stream and the
// attempt's share of the retry budget. It may be called more than once: later calls do nothing.
func (at *attempts) end(a *attempt, r cluster.Result) {
	if a.closed.Swap(true) {
		return
	}
	if a.timer != nil {
		a.timer.Stop()
	}
	if a.Upstream != nil {
		a.Close()
	}
	if a.cancel != nil {
		a.cancel()
	}
	a.picked.Done(r, time.Now())
	at.endBudgeted(a)
}

// endBudgeted takes an attempt out of the count of the route's retry budget. It does nothing for an attempt that is not
// counted.
func (at *attempts) endBudgeted(a *attempt) {
	if a.budgeted {
		a.budgeted = false
		at.call.target.RetryEnd()
	}
}

// finalResult returns what to report of the endpoint of the current attempt for a call that ends with that code and reason; an
// empty reason stands for a status of the endpoint's own.
func (at *attempts) finalResult(code codes.Code, reason local.Reason) cluster.Result {
	a := at.current
	switch reason {
	case "":
		if code == codes.Unavailable {
			return cluster.Failed
		}
		return cluster.Succeeded
	case local.ReasonUpstreamReset, local.ReasonBadResponseFraming:
		if a.Upstream != nil && a.Unprocessed() && !a.refused() {
			return cluster.Unknown // the endpoint sent a GOAWAY, which is no failure
		}
		return cluster.Failed
	case local.ReasonTimeout:
		if a.Upstream != nil && !at.answered && at.call.upload.sent.Load() && (a.late.Load() || routeTimedOut(at.call) || a.Silent() && time.Since(a.picked.Began) >= minSilence) {
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

// endAll closes the attempts that are still open, such as after a panic.
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
	if at.call.target.Hedge != nil { // then the route has no retry
		a.Hedges = at.retries
	} else {
		a.Retries = at.retries
	}
	return a
}

// mayRetry reports whether the route's retry budget allows a further attempt, and counts it there. For each true, RetryEnd
// of the target is called once.
func (at *attempts) mayRetry() bool {
	if at.call.target.MayRetry() {
		return true
	}
	at.overBudget = true
	return false
}
