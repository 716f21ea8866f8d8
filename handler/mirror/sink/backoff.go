package sink

import (
	"context"
	"math/rand/v2"
	"time"
)

// The pauses between attempts: each is twice the one before.
const (
	minPause = 200 * time.Millisecond
	maxPause = 5 * time.Second
)

// backoff says how long to pause before an attempt. The zero value begins with minPause. It is not safe for concurrent use.
type backoff struct{ last time.Duration }

// next returns the next pause, between three quarters of it and all of it, so that many sinks do not try at once.
func (b *backoff) next() time.Duration {
	b.last = min(max(2*b.last, minPause), maxPause)
	return b.last - rand.N(b.last/4)
}

// reset makes the next pause the shortest.
func (b *backoff) reset() { b.last = 0 }

// sleep pauses for d, or until ctx ends.
func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
