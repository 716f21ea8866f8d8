package spec

import (
	"fmt"

	"github.com/framegate/framegate/resolver/limit"
	"github.com/framegate/framegate/resolver/strict"
)

// Limits bound the calls of a route, or those of a route that go to one of its backends. A call over a limit is refused
// at once, with nothing sent upstream. 0 means no limit.
type Limits struct {
	Concurrent     int      `yaml:"concurrent,omitempty"`       // calls under way
	Pending        int      `yaml:"pending,omitempty"`          // calls under way that wait for a connection, or for a stream on one
	CallsPerSecond float64  `yaml:"calls_per_second,omitempty"` // on average, by a token bucket
	Burst          int      `yaml:"burst,omitempty"`            // calls at once; default CallsPerSecond, at least 1
	Per            *CallKey `yaml:"per,omitempty"`              // gives each value of the key a bucket; calls without a value share one; of a route only
}

const maxConcurrent = 10_000_000

// problems returns every mistake of limits whose path in the document is key.
func (l Limits) problems(key string) (errs []error) {
	fail := func(format string, args ...any) { errs = append(errs, fmt.Errorf(key+"."+format, args...)) }
	if l.Concurrent < 0 || l.Concurrent > maxConcurrent {
		fail("concurrent: %d, want 0 (no limit) to %d", l.Concurrent, maxConcurrent)
	}
	if l.Pending < 0 || l.Pending > maxConcurrent {
		fail("pending: %d, want 0 (no limit) to %d", l.Pending, maxConcurrent)
	}
	switch {
	case l.CallsPerSecond != 0:
		errs = append(errs, strict.Within(key+".", l.Rate().Validate())...)
	case l.Burst != 0:
		fail("burst: %d without calls_per_second, want both", l.Burst)
	}
	if l.Per != nil {
		if l.CallsPerSecond == 0 {
			fail("per: %s without calls_per_second, want both", l.Per)
		}
		for _, err := range l.Per.problems() {
			fail("per%w", err)
		}
	}
	return errs
}

// Rate returns the rate of the token bucket.
func (l Limits) Rate() limit.Rate { return limit.Rate{PerSecond: l.CallsPerSecond, Burst: l.Burst} }
