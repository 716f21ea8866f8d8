package cluster

import (
	"math/rand/v2"
	"time"

	"github.com/framegate/framegate/resolver/balance"
	"github.com/framegate/framegate/resolver/limit"
	"github.com/framegate/framegate/resolver/spec"
)

// hashOf returns the hash of a call's key, for consistent_hash; a random one for a call without a value. It does not
// allocate.
func hashOf(k spec.CallKey, req *spec.Request) uint64 {
	text, ip := k.Of(req)
	switch {
	case ip != nil:
		return balance.Key(string(ip))
	case text != "":
		return balance.Key(text)
	}
	return rand.Uint64()
}

// allowOf takes a token from the bucket of a call's key. Calls without a value share one bucket. It does not allocate.
func allowOf(k spec.CallKey, b *limit.Buckets, req *spec.Request, now time.Time) (ok bool, retryAfter time.Duration) {
	text, ip := k.Of(req)
	if ip != nil {
		return b.Allow(string(ip), now)
	}
	return b.Allow(text, now)
}
