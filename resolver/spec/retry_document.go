package spec

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"

	"google.golang.org/grpc/codes"
)

// Retry says which calls of a route are tried again. A call that no endpoint can have seen is tried again up to Attempts; it
// is tried again once even on a route without Retry. A call that an endpoint may have seen is tried again only after a
// status in Codes. No call is tried again once a part of an answer was passed on, or if its request is no longer kept in
// full. The zero value of a field means its default.
type Retry struct {
	Attempts      int           `yaml:"attempts,omitempty"`        // in all, the first included; 2 to 10, default 2
	Codes         []string      `yaml:"codes,omitempty"`           // gRPC's names of the statuses after which a call is tried again that an endpoint may have seen; default none
	PerTryTimeout time.Duration `yaml:"per_try_timeout,omitempty"` // until an attempt's answer begins; a longer one fails, and UNAVAILABLE or DEADLINE_EXCEEDED in Codes covers that; 0 for none
	Backoff       Backoff       `yaml:"backoff,omitempty"`         // before each further attempt
	Budget        RetryBudget   `yaml:"budget,omitempty"`
	BufferBytes   int           `yaml:"buffer_bytes,omitempty"` // how much of a request is kept; a longer one is not tried again; default 64 KiB

	codes uint32 // a bit for each code in Codes
}

// Hedge says that a call without an answer after Delay is sent to another endpoint as well. The first answer wins; the other
// attempt is canceled. It is for idempotent methods only, since both endpoints may handle the call.
type Hedge struct {
	Delay       time.Duration `yaml:"delay"` // 1ms or more
	Budget      RetryBudget   `yaml:"budget,omitempty"`
	BufferBytes int           `yaml:"buffer_bytes,omitempty"` // as in Retry
}

// Backoff is the time before a further attempt. It is random, from 0 up to a bound that is Base at first, doubles with each
// attempt and stays at Max.
type Backoff struct {
	Base time.Duration `yaml:"base,omitempty"` // default 25ms
	Max  time.Duration `yaml:"max,omitempty"`  // default 10 x Base
}

// RetryBudget bounds the further attempts under way to a share of the route's calls under way.
type RetryBudget struct {
	Percent int `yaml:"percent,omitempty"` // 1 to 100; default limit.DefaultBudgetPercent
	Min     int `yaml:"min,omitempty"`     // further attempts that are always allowed; default limit.DefaultBudgetMin
}

// Defaults of Retry and Hedge.
const (
	defaultAttempts      = 2
	defaultBackoffBase   = 25 * time.Millisecond
	defaultBackoffFactor = 10
	DefaultBufferBytes   = 64 << 10
)

const (
	MaxAttempts    = 10
	minBackoff     = time.Millisecond
	maxBackoff     = time.Minute
	maxBudgetMin   = 1_000_000
	maxBufferBytes = 16 << 20
)

// On reports whether a call may be tried again after a status of that code, though an endpoint may have seen it.
func (r *Retry) On(code uint32) bool { return code < 32 && r.codes&(1<<code) != 0 }

// OnLate reports whether a call may be tried again when PerTryTimeout has passed, though an endpoint may have seen it.
func (r *Retry) OnLate() bool { return r.codes&(1<<codes.Unavailable|1<<codes.DeadlineExceeded) != 0 }

// Wait returns how long to wait before the n-th further attempt, the first being 1.
func (b Backoff) Wait(n int) time.Duration {
	base, maxWait := b.Base, b.Max
	if base == 0 {
		base = defaultBackoffBase
	}
	if maxWait == 0 {
		maxWait = defaultBackoffFactor * base
	}
	d := min(base<<min(n-1, 16), maxWait)
	return time.Duration(rand.Int64N(int64(d) + 1))
}

// normalize fills defaults and returns every mistake.
func (r *Retry) normalize() (errs []error) {
	fail := func(format string, args ...any) { errs = append(errs, fmt.Errorf("retry."+format, args...)) }
	if r.Attempts == 0 {
		r.Attempts = defaultAttempts
	}
	if r.Attempts < 2 || r.Attempts > MaxAttempts {
		fail("attempts: %d, want 2 to %d, the first attempt included", r.Attempts, MaxAttempts)
	}
	r.codes = 0
	for i, name := range r.Codes {
		var code codes.Code
		if err := code.UnmarshalJSON([]byte(strconv.Quote(name))); err != nil || code == codes.OK {
			fail("codes[%d]: %q, want a status of gRPC such as UNAVAILABLE, other than OK", i, name)
			continue
		}
		r.codes |= 1 << code
	}
	errs = append(errs, durationProblems("retry.per_try_timeout", r.PerTryTimeout, minTimeout, maxTimeout)...)
	for _, err := range r.Backoff.problems() {
		fail("%w", err)
	}
	errs = append(errs, r.Budget.problems("retry")...)
	return append(errs, bufferProblems("retry", r.BufferBytes)...)
}

func (h *Hedge) problems() (errs []error) {
	if h.Delay < minTimeout || h.Delay > maxTimeout {
		errs = append(errs, fmt.Errorf("hedge.delay: %s, want %s to %s", h.Delay, minTimeout, maxTimeout))
	}
	errs = append(errs, h.Budget.problems("hedge")...)
	return append(errs, bufferProblems("hedge", h.BufferBytes)...)
}

func (b Backoff) problems() (errs []error) {
	if b.Base != 0 && (b.Base < minBackoff || b.Base > maxBackoff) {
		errs = append(errs, fmt.Errorf("backoff.base: %s, want %s to %s", b.Base, minBackoff, maxBackoff))
	}
	if minMax := max(b.Base, minBackoff); b.Max != 0 && (b.Max < minMax || b.Max > maxBackoff) {
		errs = append(errs, fmt.Errorf("backoff.max: %s, want base (%s) to %s", b.Max, minMax, maxBackoff))
	}
	return errs
}

func (b RetryBudget) problems(key string) (errs []error) {
	if b.Percent < 0 || b.Percent > 100 {
		errs = append(errs, fmt.Errorf("%s.budget.percent: %d, want 1 to 100", key, b.Percent))
	}
	if b.Min < 0 || b.Min > maxBudgetMin {
		errs = append(errs, fmt.Errorf("%s.budget.min: %d, want 1 to %d", key, b.Min, maxBudgetMin))
	}
	return errs
}

func bufferProblems(key string, n int) []error {
	if n < 0 || n > maxBufferBytes {
		return []error{fmt.Errorf("%s.buffer_bytes: %d, want 1 to %d", key, n, maxBufferBytes)}
	}
	return nil
}
