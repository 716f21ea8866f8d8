package cluster

import (
	"math/rand/v2"
	"time"

	"github.com/framegate/framegate/resolver/balance"
	"github.com/framegate/framegate/resolver/limit"
	"github.com/framegate/framegate/resolver/spec"
)

// hashOf returns what consistent_hash goes by. Calls without a value go anywhere. It does not allocate.
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

// allowOf takes a token from the call's bucket. Calls without a value share one. It does not allocate.
func allowOf(k spec.CallKey, b *limit.Buckets, req *spec.Request) (ok bool, retryAfter time.Duration) {
	text, ip := k.Of(req)
	if ip != nil {
		return b.Allow(string(ip))
	}
	return b.Allow(text)
}
