package limit

import (
	"sync/atomic"
	"time"
)

// Bucket allows calls at a Rate. It has no lock; any number of goroutines may use it.
type Bucket struct {
	pace  pace
	start time.Time
	full  atomic.Int64 // when the bucket will be full again, in nanoseconds since start
}

// NewBucket returns a full Bucket. Values of r that are out of bounds are replaced by the nearest bound; see Rate.Validate.
func NewBucket(r Rate) *Bucket { return &Bucket{pace: r.pace(), start: time.Now()} }

// Allow takes a token at a time, which is about now. If there is none, ok is false, and retryAfter is how long it takes until there is
// one, which another call may take first.
func (b *Bucket) Allow(now time.Time) (ok bool, retryAfter time.Duration) {
	at := max(int64(now.Sub(b.start)), 0)
	for {
		full := b.full.Load()
		next, wait := b.pace.take(full, at)
		if wait > 0 {
			return false, wait
		}
		if b.full.CompareAndSwap(full, next) {
			return true, 0
		}
	}
}
