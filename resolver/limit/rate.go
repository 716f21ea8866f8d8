package limit

import (
	"errors"
	"fmt"
	"math"
	"time"
)

// Rate is how many calls may begin in a second, and how many at once after a pause. Rates can be compared with ==. The
// zero value is not valid.
type Rate struct {
	PerSecond float64 `yaml:"calls_per_second"` // 0.001 to 1,000,000
	Burst     int     `yaml:"burst,omitempty"`  // up to 1,000,000; 0 means PerSecond, rounded up
}

// Bounds of a Rate. They keep every time that is computed from it within 64 bits of nanoseconds.
const (
	MinPerSecond = 0.001
	MaxPerSecond = 1_000_000
	MaxBurst     = 1_000_000
)

// Validate reports every field that is out of bounds, by its name in a document.
func (r Rate) Validate() error {
	var errs []error
	if !(r.PerSecond >= MinPerSecond && r.PerSecond <= MaxPerSecond) { // so that NaN is out of bounds too
		errs = append(errs, fmt.Errorf("calls_per_second: %v, want %v to %d", r.PerSecond, MinPerSecond, MaxPerSecond))
	}
	if r.Burst < 0 || r.Burst > MaxBurst {
		errs = append(errs, fmt.Errorf("burst: %d, want 0 (calls_per_second, rounded up) to %d", r.Burst, MaxBurst))
	}
	return errors.Join(errs...)
}

// within returns r with its defaults, and with values that are out of bounds replaced by the nearest bound.
func (r Rate) within() Rate {
	if !(r.PerSecond >= MinPerSecond) {
		r.PerSecond = MinPerSecond
	}
	r.PerSecond = min(r.PerSecond, MaxPerSecond)
	if r.Burst <= 0 {
		r.Burst = int(math.Ceil(r.PerSecond))
	}
	r.Burst = min(r.Burst, MaxBurst)
	return r
}

// pace is a Rate as buckets use it (the generic cell rate algorithm). The state of a bucket is one time: when it will be full
// again. Each call moves that time on by every, and a call may begin if the time is at most slack ahead. So nothing has to
// fill a bucket, and it is known when the next token comes.
type pace struct {
	every int64 // nanoseconds for one token
	slack int64 // nanoseconds for all tokens but one
}

func (r Rate) pace() pace {
	r = r.within()
	every := int64(math.Round(float64(time.Second) / r.PerSecond))
	return pace{every: every, slack: every * int64(r.Burst-1)}
}

// take takes a token at the time now from a bucket that will be full again at the time full; both are in nanoseconds since a
// common time. It returns the new time at which the bucket will be full; or, with a wait above 0, how long until there is a
// token.
func (p pace) take(full, now int64) (newFull int64, wait time.Duration) {
	if ahead := full - now; ahead > p.slack {
		return full, time.Duration(ahead - p.slack)
	}
	return max(full, now) + p.every, 0
}
