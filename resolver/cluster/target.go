package cluster

import (
	"errors"
	"slices"
	"time"

	"github.com/framegate/framegate/pool/policy"
	"github.com/framegate/framegate/resolver/balance"
	"github.com/framegate/framegate/resolver/spec"
)

// Target is where a call goes: its route, and what the route does with calls. The data plane asks it to Admit the call, to
// Pick an endpoint for each attempt, and to Release the call. It belongs to one call and is used by one goroutine at a time;
// later versions of the route do not change it. A Target that Aim did not fill has the one endpoint Address and no limits.
type Target struct {
	Route     string    // name of the route
	Pattern   string    // of the match entry that the call met, such as /pkg.Service/*
	Mode      spec.Mode // of the route
	Backend   string    // name of the backend, once one was chosen; may be empty
	Address   string    // of the endpoint picked last: host:port or unix:/path
	Name      string    // the host:port whose look-up gave Address; empty if Address is as written
	Authority string    // to send instead of the client's; empty keeps the client's

	// Times of the call as in Route; 0 for none.
	Timeout, IdleTimeout, MaxStreamAge time.Duration

	Retry   *spec.Retry // nil for none
	Hedge   *spec.Hedge // nil for none
	Program any         // of a route in struct mode or with a schema; see resolver.Route

	Copies uint16 // which of the route's mirrors get a copy of the call: a bit for each, by its place

	backends *Backends     // nil for a Target that Aim did not fill
	backend  *routeBackend // once one was chosen
	key      uint64        // for consistent_hash
	pinned   *Endpoint     // that every attempt goes to; nil for the balancer's choice
	aside    bool          // the limits of the route do not count it
	tried    [maxTried]*balance.Host
	attempts int // how many of tried are set

	admitted, charged bool // the call counts against the limits of the route, and of the backend
	budget            *budget
}

// maxTried bounds the attempts of a call: MaxAttempts, and a few more for attempts that no endpoint saw, which do not count
// as retries.
const maxTried = spec.MaxAttempts + 6

// ErrNoEndpoint means that a route has no endpoint that may be used.
var ErrNoEndpoint = errors.New("no endpoint that may be used")

// OverloadError means that a call is over a limit.
type OverloadError struct {
	Limit      string        // the key of the limit, such as limits.concurrent
	RetryAfter time.Duration // how long the caller should wait before it tries again
}

func (e *OverloadError) Error() string { return "over " + e.Limit }

// overloadHint is RetryAfter for a limit without a rate, which cannot tell when there will be room.
const overloadHint = 100 * time.Millisecond

// Admit counts the call, which has come now, against the limits of its route, or returns an *OverloadError. In either case the
// caller calls Release. It does not allocate unless it refuses.
func (t *Target) Admit(req *spec.Request, now time.Time) error {
	if t.backends == nil || t.aside {
		return nil
	}
	limits := t.backends.limits
	if err := limits.route.admit("limits", req, now); err != nil {
		return err
	}
	t.admitted = true
	if t.budget = limits.budget.Load(); t.budget != nil {
		t.budget.Begin()
	}
	return nil
}

// Release takes the call out of the limits that Admit and Pick have counted it against; Attempt.Done does that for attempts.
// It is called once, whatever Admit and Pick have returned.
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

// UseBackend sends the call to the backend of that name, if the route has one, instead of a backend by weight. It must be
// called before the first Pick.
func (t *Target) UseBackend(backend string) {
	if t.backends != nil {
		if b := t.backends.named[backend]; b != nil {
			t.choose(b)
		}
	}
}

func (t *Target) choose(b *routeBackend) { t.backend, t.Backend = b, b.name }

// Pool returns the policy of connections to the endpoints of the backend; nil for the gateway's default. Equal policies have
// one address.
func (t *Target) Pool() *policy.Policy {
	if t.backend == nil {
		return nil
	}
	return t.backend.pool
}

// ChooseBackend chooses the backend, unless one is chosen already. Pick does so too. It returns ErrNoEndpoint if the backend
// has no endpoint that may be used.
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

// Probe returns the address of an endpoint of the backend, and the Name that goes with it, for other purposes than the call.
// It counts nothing.
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
func (t *Target) charge(now time.Time) error {
	if t.backends == nil || t.charged {
		return nil
	}
	if err := t.backend.limits.admit("backends.limits", nil, now); err != nil {
		return err
	}
	t.charged = true
	return nil
}

// Pick chooses the endpoint of the call's next attempt: if possible one that the call was not sent to before, even if that
// is an ejected one. The caller calls the Attempt's Done exactly once. The error is an *OverloadError of the backend's
// limits, or ErrNoEndpoint. Pick does not block, and does not allocate unless it fails.
func (t *Target) Pick(now time.Time) (Attempt, error) {
	if err := t.ChooseBackend(); err != nil {
		return Attempt{}, err
	}
	if err := t.charge(now); err != nil {
		return Attempt{}, err
	}
	if t.backends == nil {
		return Attempt{Address: t.Address, Began: now}, nil
	}
	p := t.backend.picker
	if t.pinned != nil {
		return t.pickPinned(now)
	}
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
	return Attempt{Address: t.Address, Began: now, Again: again, picker: p, member: m}, nil
}

// MayRetry reports whether the retry budget allows a further attempt now, and counts it if so. Each true needs one RetryEnd.
func (t *Target) MayRetry() bool { return t.budget == nil || t.budget.Retry() }

// RetryEnd ends a further attempt that MayRetry has counted.
func (t *Target) RetryEnd() {
	if t.budget != nil {
		t.budget.RetryEnd()
	}
}

// BoundsWaiting reports whether there is a limit on the calls that Wait counts. Like Wait, it is called after a Pick; before, there
// is none.
func (t *Target) BoundsWaiting() bool {
	return t.backend != nil && (!t.aside && t.backends.limits.route.pending.Bounded() || t.backend.limits.pending.Bounded())
}

// Wait counts the call as one that waits for a connection or a stream; it reports false if that is over a limit. Each
// true needs one WaitEnd.
func (t *Target) Wait() bool {
	if t.backends == nil {
		return true
	}
	if !t.backend.limits.pending.Acquire() {
		return false
	}
	if !t.aside && !t.backends.limits.route.pending.Acquire() {
		t.backend.limits.pending.Release()
		return false
	}
	return true
}

// WaitEnd ends a wait that Wait has counted.
func (t *Target) WaitEnd() {
	if t.backends == nil {
		return
	}
	t.backend.limits.pending.Release()
	if !t.aside {
		t.backends.limits.route.pending.Release()
	}
}

// admit counts a call, or returns an *OverloadError. If the error is nil the caller releases l.concurrent. key is the path of
// the limits in the route's document.
func (l *limits) admit(key string, req *spec.Request, now time.Time) error {
	if !l.concurrent.Acquire() {
		return &OverloadError{key + ".concurrent", overloadHint}
	}
	if r := l.rate.Load(); r != nil {
		ok, after := true, time.Duration(0)
		if r.buckets != nil {
			ok, after = allowOf(r.per, r.buckets, req, now)
		} else {
			ok, after = r.whole.Allow(now)
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
	Again   bool      // an earlier attempt of the call went to the same endpoint

	picker *picker // nil for a Target that Aim did not fill
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

// Answered notes how long the endpoint took to begin its answer, for peak_ewma. It is called when the answer begins, or when
// the caller stops waiting for it.
func (a *Attempt) Answered() {
	if a.picker != nil && a.picker.key.policy.Kind == balance.PeakEWMA {
		a.member.host.Answered(time.Since(a.Began))
	}
}

// Works notes that the endpoint answers, whatever the attempt's result will be. It ends the endpoint's trial.
func (a *Attempt) Works() {
	if a.picker != nil {
		a.picker.cluster.succeeded(a.member)
	}
}

// Done ends the attempt now. It is called exactly once.
func (a *Attempt) Done(r Result, now time.Time) {
	if a.picker == nil {
		return
	}
	a.member.host.End()
	if r == Unknown {
		return
	}
	if m := a.member.ejection.Load(); m != nil {
		m.Report(r == Failed, now)
	}
	if r == Succeeded {
		a.Works()
	}
}
