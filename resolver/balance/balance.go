// Package balance chooses one of a backend's endpoints for each call.
//
// Enter at New and Picker; a file per policy follows: round_robin.go, weighted_random.go, least_request.go,
// peak_ewma.go and consistent_hash.go. shares.go turns weights into choices for the first four, ring.go for the last.
// host.go has what is known of an endpoint. The package knows nothing of routes, health or connections: who may take
// calls, and with which weight, is told to New each time that it changes.
package balance

import (
	"math/rand/v2"
	"time"

	"github.com/cespare/xxhash/v2"
)

// Kind names a way to choose, as routes spell it.
type Kind string

const (
	// RoundRobin takes the members in turn: in strict rotation if their weights are equal, else mixed evenly.
	RoundRobin Kind = "round_robin"
	// WeightedRandom draws each time anew, in proportion to the weights.
	WeightedRandom Kind = "weighted_random"
	// LeastRequest draws two by weight and takes the one with fewer calls under way for its weight.
	LeastRequest Kind = "least_request"
	// PeakEWMA draws two by weight and takes the one whose latency times load is smaller.
	PeakEWMA Kind = "peak_ewma"
	// ConsistentHash sends equal keys to the same member, as long as that one is not overloaded.
	ConsistentHash Kind = "consistent_hash"
)

const (
	// DefaultDecay is the Decay of a Policy that states none.
	DefaultDecay = 10 * time.Second
	// DefaultBoundPercent is the BoundPercent of a Policy that states none.
	DefaultBoundPercent = 125
)

// Policy says how to choose. It is comparable: two that are equal choose alike.
type Policy struct {
	// Kind is the way to choose. One that is not listed above, such as "", is taken for RoundRobin.
	Kind Kind
	// Decay is for PeakEWMA: in this time an old latency loses all but 1/e of its say. DefaultDecay if not positive.
	Decay time.Duration
	// BoundPercent is for ConsistentHash: a host gets no further call while it has this percentage of the mean load.
	// DefaultBoundPercent if it is below 100, with which not all calls would find a place.
	BoundPercent int
}

func (p Policy) withDefaults() Policy {
	if p.Decay <= 0 {
		p.Decay = DefaultDecay
	}
	if p.BoundPercent < 100 {
		p.BoundPercent = DefaultBoundPercent
	}
	return p
}

// Member is a host as one backend has it.
type Member struct {
	Host *Host
	// Weight is the member's share of the calls, relative to the others. A member takes no calls and has no place
	// anywhere if this is not positive.
	Weight float64
	// Down members take no calls. They keep their place in consistent hashing, so that they get their keys back.
	Down bool
}

// Picker chooses among the members that it was made of. It is safe for concurrent use and holds nothing to be closed.
type Picker interface {
	// Pick returns a host that is neither down nor in tried; if there is none, one that is not down; else nil.
	// The key is for ConsistentHash (see Key), the others ignore it. Pick neither allocates nor blocks, and it does not
	// count the call: the caller calls Begin of the host that it uses.
	Pick(key uint64, tried []*Host) *Host
}

// New returns a Picker of the members; it does not keep the slice. Their order matters only to RoundRobin, which takes
// them in it. prev is the Picker that this one replaces, or nil; it may still be in use, then and later. Its position
// is taken over if both are RoundRobin; its ring, which takes milliseconds to make, if both are ConsistentHash and no
// address and no weight has changed.
func New(p Policy, members []Member, prev Picker) Picker {
	return newPicker(p, members, prev, rand.Uint64)
}

// newPicker is New with a source of random numbers, which must be safe for concurrent use if the Picker is used so.
func newPicker(p Policy, members []Member, prev Picker, random func() uint64) Picker {
	p = p.withDefaults()
	switch p.Kind {
	case WeightedRandom:
		return newWeightedRandom(members, random)
	case LeastRequest:
		return newLeastRequest(members, random)
	case PeakEWMA:
		return newPeakEWMA(members, p.Decay, random)
	case ConsistentHash:
		return newConsistentHash(members, p.BoundPercent, prev)
	default:
		return newRoundRobin(members, prev, random)
	}
}

// Key returns the key of a text. It is the same in every process and every version.
func Key(s string) uint64 { return xxhash.Sum64String(s) }

// Ramp returns the weight of an endpoint of this age during its slow start: a tenth of weight at first, growing in
// proportion to the age up to all of it at the end of the window.
func Ramp(weight float64, age, window time.Duration) float64 {
	const least = 0.1
	switch {
	case age >= window:
		return weight
	case age <= 0:
		return weight * least
	}
	return weight * (least + (1-least)*float64(age)/float64(window))
}
