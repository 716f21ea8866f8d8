package spec

import (
	"fmt"
	"slices"
	"time"
)

// BalancePolicy says how a route chooses among the endpoints of a backend, for each call anew.
type BalancePolicy string

// The policies. All of them respect weights.
const (
	WeightedRandom BalancePolicy = "weighted_random" // at random; the default
	RoundRobin     BalancePolicy = "round_robin"     // in turn, smoothly
	LeastRequest   BalancePolicy = "least_request"   // of two at random the one with fewer calls under way
	PeakEWMA       BalancePolicy = "peak_ewma"       // of two at random the one with less latency x calls under way
	ConsistentHash BalancePolicy = "consistent_hash" // by Hash, with bounded load
)

var balancePolicies = []BalancePolicy{WeightedRandom, RoundRobin, LeastRequest, PeakEWMA, ConsistentHash}

// Balancer is how a route balances. The zero value of a field means its default.
type Balancer struct {
	Policy       BalancePolicy `yaml:"policy,omitempty"`
	SlowStart    time.Duration `yaml:"slow_start,omitempty"`    // how long the weight of an endpoint that is new, or usable again, grows; 0 for not at all
	Decay        time.Duration `yaml:"decay,omitempty"`         // of peak_ewma: how long a latency counts, see balance.Policy; default 10s
	Hash         *CallKey      `yaml:"hash,omitempty"`          // of consistent_hash
	BoundPercent int           `yaml:"bound_percent,omitempty"` // of consistent_hash: bounds the calls under way of an endpoint, in percent of the mean; default 125
}

const (
	minSlowStart    = MinSlowStartStep
	maxSlowStart    = time.Hour
	minDecay        = 100 * time.Millisecond
	maxDecay        = 10 * time.Minute
	minBoundPercent = 101
	maxBoundPercent = 1000
)

// problems returns every mistake of a balancer, with its key below "balancer".
func (b Balancer) problems() (errs []error) {
	fail := func(format string, args ...any) { errs = append(errs, fmt.Errorf("balancer."+format, args...)) }
	policy := b.Policy
	if policy == "" {
		policy = WeightedRandom
	}
	if !slices.Contains(balancePolicies, policy) {
		fail("policy: %q, want %s", b.Policy, choices(balancePolicies))
		return errs
	}
	errs = append(errs, durationProblems("balancer.slow_start", b.SlowStart, minSlowStart, maxSlowStart)...)
	if b.SlowStart > 0 && policy == ConsistentHash {
		fail("slow_start: %s beside policy %s, want it beside another policy: a weight that grows would move keys again and again", b.SlowStart, policy)
	}
	switch {
	case b.Decay != 0 && policy != PeakEWMA:
		fail("decay: %s beside policy %s, want it beside %s only", b.Decay, policy, PeakEWMA)
	case b.Decay != 0 && (b.Decay < minDecay || b.Decay > maxDecay):
		fail("decay: %s, want %s to %s", b.Decay, minDecay, maxDecay)
	}
	switch {
	case policy != ConsistentHash && b.Hash != nil:
		fail("hash: %s beside policy %s, want it beside %s only", b.Hash, policy, ConsistentHash)
	case policy == ConsistentHash && b.Hash == nil:
		fail("hash: not there, want {header: NAME}, {authority: true} or {peer: true} beside %s", ConsistentHash)
	case b.Hash != nil:
		for _, err := range b.Hash.problems() {
			fail("hash%w", err)
		}
	}
	switch {
	case b.BoundPercent != 0 && policy != ConsistentHash:
		fail("bound_percent: %d beside policy %s, want it beside %s only", b.BoundPercent, policy, ConsistentHash)
	case b.BoundPercent != 0 && (b.BoundPercent < minBoundPercent || b.BoundPercent > maxBoundPercent):
		fail("bound_percent: %d, want %d to %d", b.BoundPercent, minBoundPercent, maxBoundPercent)
	}
	return errs
}

// MinSlowStartStep is the shortest time between two steps of a slow start.
const MinSlowStartStep = 100 * time.Millisecond
