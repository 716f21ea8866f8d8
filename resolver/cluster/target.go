package cluster

import (
	"errors"
	"slices"
	"time"

	"github.com/framegate/framegate/pool/policy"
	"github.com/framegate/framegate/resolver/balance"
	"github.com/framegate/framegate/resolver/spec"
)

// Target is where a call goes: its route, and what the route does with calls. Whoever carries the call asks it to Admit
// the call, to Pick an endpoint for each attempt, and to Release the call. It belongs to one call and one goroutine at a
// time, and shares nothing with later versions of the route. A Target that was made by hand has the one endpoint Address
// and no limits.
type Target struct {
	Route     string    // name of the route
	Pattern   string    // of the match entry that the call met, such as /pkg.Service/*
	Mode      spec.Mode // of the route
	Backend   string    // name of the backend, once one was chosen; may be empty
	Address   string    // of the endpoint picked last: host:port or unix:/path
	Name      string    // host:port that Address was looked up of; empty if it is as written
	Authority string    // to send instead of the client's; empty keeps it

	// Times of the call as in Route; 0 for none.
	Timeout, IdleTimeout, MaxStreamAge time.Duration

	Retry   *spec.Retry // nil for none
	Hedge   *spec.Hedge // nil for none
	Program any         // of a route in struct mode or with a schema

	backends *Backends     // nil for a Target that was made by hand
	backend  *routeBackend // once one was chosen
	key      uint64        // for consistent_hash
	tried    [maxTried]*balance.Host
	attempts int // in tried

	admitted, charged bool // counted against the limits of the route, and of the backend
	budget            *budget
}

// maxTried is the most attempts that a call makes: maxAttempts, and a few beyond the route's retries that no endpoint saw.
const maxTried = spec.MaxAttempts + 6

// ErrNoEndpoint says that a route has no endpoint that may be used.
var ErrNoEndpoint = errors.New("no endpoint that may be used")

// OverloadError says that a call is over a limit.
type OverloadError struct {
	Limit      string        // the key of the limit, such as limits.concurrent
	RetryAfter time.Duration // when it may be worth to try again
}

func (e *OverloadError) Error() string { return "over " + e.Limit }

// overloadHint is how long a caller should leave a limit alone that has no rate.
const overloadHint = 100 * time.Millisecond

// Admit counts the call against the limits of its route, or returns an *OverloadError. In either case the call is
// released by Release. It does not allocate unless it refuses.
func (t *Target) Admit(req *spec.Request) error {
	if t.backends == nil {
		return nil
	}
	limits := t.backends.limits
	if err := limits.route.admit("limits", req); err != nil {
		return err
	}
	t.admitted = true
	if t.budget = limits.budget.Load(); t.budget != nil {
		t.budget.Begin()
	}
	return nil
}

// Release ends what Admit and Pick have counted for the call, its attempts aside. It may be called once, whatever came
// before.
func (t *Target) Release() {
	if t.admitted {
		t.backends.limits.route.concurrent.Release()
		if t.budget != nil {
			t.budget.End()
		}
	}
	if t.charged {
		t.backend.limits.concurrent.Release()
	}
}

// UseBackend sends the call to the backend of that name, if the route has it, instead of one by weight. It must come before the
// first Pick.
func (t *Target) UseBackend(backend string) {
	if t.backends != nil {
		if b := t.backends.named[backend]; b != nil {
			t.choose(b)
		}
	}
}

func (t *Target) choose(b *routeBackend) { t.backend, t.Backend = b, b.name }

// Pool is the policy of connections to the endpoints of the backend; nil for that of the gateway. Policies that are equal
// have one address.
func (t *Target) Pool() *policy.Policy {
	if t.backend == nil {
		return nil
	}
	return t.backend.pool
}

// ChooseBackend chooses the backend, unless it is chosen: the first Pick does so too. It returns ErrNoEndpoint if the backend has
// none.
func (t *Target) ChooseBackend() error {
	if t.backends == nil {
		if t.Address == "" {
			return ErrNoEndpoint
		}
		return nil
	}
	if t.backend == nil {
		b := t.backends.draw()
		if b == nil {
			return ErrNoEndpoint
		}
		t.choose(b)
	}
	if !t.backend.usable() {
		return ErrNoEndpoint
	}
	return nil
}

// Probe returns the address of an endpoint of the backend for something else than the call, and the Name that goes with it.
func (t *Target) Probe() (address, name string, err error) {
	if err := t.ChooseBackend(); err != nil || t.backends == nil {
		return t.Address, t.Name, err
	}
	if host := t.backend.picker.current.Load().Pick(t.key, nil); host != nil {
		return host.Address(), host.Owner.(*member).name, nil
	}
	return "", "", ErrNoEndpoint
}

// charge counts the call against the limits of its backend, once.
func (t *Target) charge() error {
	if t.backends == nil || t.charged {
		return nil
	}
	if err := t.backend.limits.admit("backends.limits", nil); err != nil {
		return err
	}
	t.charged = true
	return nil
}

// Pick chooses the endpoint of the call's next attempt: one that it was not sent to before, if there is one; an ejected one
// rather than one that has failed this very call. Whoever gets the Attempt calls its Done exactly once. The error is an
// *OverloadError of the backend's limits, or ErrNoEndpoint. It neither blocks nor, unless it fails, allocates.
func (t *Target) Pick() (Attempt, error) {
	if err := t.ChooseBackend(); err != nil {
		return Attempt{}, err
	}
	if err := t.charge(); err != nil {
		return Attempt{}, err
	}
	if t.backends == nil {
		return Attempt{Address: t.Address, Began: time.Now()}, nil
	}
	p := t.backend.picker
	c := p.current.Load()
	tried := t.tried[:t.attempts]
	host := c.Pick(t.key, tried)
	again := slices.Contains(tried, host)
	if again {
		if h := c.spare(tried); h != nil {
			host, again = h, false
		}
	}
	if host == nil {
		return Attempt{}, ErrNoEndpoint
	}
	if t.attempts < len(t.tried) {
		t.tried[t.attempts] = host
		t.attempts++
	}
	if c.panic {
		p.cluster.panics.Add(1)
	}
	host.Begin()
	m := host.Owner.(*member)
	t.Address, t.Name = host.Address(), m.name
	return Attempt{Address: t.Address, Began: time.Now(), Again: again, picker: p, member: m}, nil
}

// MayRetry reports whether the budget allows a further attempt now; each true needs one RetryEnd.
func (t *Target) MayRetry() bool { return t.budget == nil || t.budget.Retry() }

// RetryEnd says that a further attempt has ended.
func (t *Target) RetryEnd() {
	if t.budget != nil {
		t.budget.RetryEnd()
	}
}

// BoundsWaiting reports whether there is a limit on the calls that Wait counts. Like Wait, it comes after a Pick.
func (t *Target) BoundsWaiting() bool {
	return t.backends != nil && (t.backends.limits.route.pending.Bounded() || t.backend.limits.pending.Bounded())
}

// Wait counts the call as one that waits for a connection or a stream; it reports false if that is over a limit. Each
// true needs one WaitEnd.
func (t *Target) Wait() bool {
	if t.backends == nil {
		return true
	}
	if !t.backends.limits.route.pending.Acquire() {
		return false
	}
	if !t.backend.limits.pending.Acquire() {
		t.backends.limits.route.pending.Release()
		return false
	}
	return true
}

// WaitEnd says that a wait has ended.
func (t *Target) WaitEnd() {
	if t.backends != nil {
		t.backend.limits.pending.Release()
		t.backends.limits.route.pending.Release()
	}
}

// admit counts a call, with its concurrency held if the error is nil. key is the path of the limits.
func (l *limits) admit(key string, req *spec.Request) error {
	if !l.concurrent.Acquire() {
		return &OverloadError{key + ".concurrent", overloadHint}
	}
	if r := l.rate.Load(); r != nil {
		ok, after := true, time.Duration(0)
		if r.buckets != nil {
			ok, after = allowOf(r.per, r.buckets, req)
		} else {
			ok, after = r.whole.Allow()
		}
		if !ok {
			l.concurrent.Release()
			return &OverloadError{key + ".calls_per_second", after}
		}
	}
	return nil
}

// Attempt is one try of a call at one endpoint.
type Attempt struct {
	Address string    // of the endpoint
	Began   time.Time // when it was picked
	Again   bool      // the call was sent there before

	picker *picker // nil for a Target that was made by hand
	member *member
}

// Result is how an attempt went, as far as the endpoint is to blame.
type Result int

// The results.
const (
	Unknown   Result = iota // it ended for other reasons, such as the client's
	Succeeded               // the endpoint answered, if only with an error that is not UNAVAILABLE
	Failed                  // the endpoint could not be connected to, broke off, said UNAVAILABLE or nothing at all
)

// Answered says that the first of the endpoint's answer is here, or will not be waited for any longer.
func (a *Attempt) Answered() {
	if a.picker != nil && a.picker.key.policy.Kind == balance.PeakEWMA {
		a.member.host.Answered(time.Since(a.Began))
	}
}

// Works says that the endpoint answers, whatever the attempt comes to: it is on trial no longer.
func (a *Attempt) Works() {
	if a.picker != nil {
		a.picker.cluster.succeeded(a.member)
	}
}

// Done ends the attempt.
func (a *Attempt) Done(r Result) {
	if a.picker == nil {
		return
	}
	a.member.host.End()
	if r == Unknown {
		return
	}
	if m := a.member.ejection.Load(); m != nil {
		m.Report(r == Failed)
	}
	if r == Succeeded {
		a.Works()
	}
}
