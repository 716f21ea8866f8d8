// Package balance chooses one of a backend's endpoints for each call.
//
// Enter at New and Picker. Each policy has a file: round_robin.go, weighted_random.go, least_request.go, peak_ewma.go and
// consistent_hash.go. shares.go turns weights into choices for the first four, ring.go for the last. host.go has the load
// and the latency of an endpoint. The package knows nothing of routes, health or connections: the caller makes a new Picker
// whenever the members that may take calls, or their weights, change. A policy has a Kind, a case in newPicker, and its name
// in resolver/spec/balancer_document.go.
package balance

import (
	"math/rand/v2"
	"time"

	"github.com/cespare/xxhash/v2"
)

// Kind names a way to choose. Routes use the same names.
type Kind string

const (
	// RoundRobin takes the members in turn: in strict rotation if their weights are equal, else mixed evenly.
	RoundRobin Kind = "round_robin"
	// WeightedRandom draws a member for each call, in proportion to the weights.
	WeightedRandom Kind = "weighted_random"
	// LeastRequest draws two by weight and takes the one with fewer calls under way for its weight.
	LeastRequest Kind = "least_request"
	// PeakEWMA draws two by weight and takes the one whose latency times load is smaller.
	PeakEWMA Kind = "peak_ewma"
	// ConsistentHash sends equal keys to the same member, as long as that one is not overloaded.
	ConsistentHash Kind = "consistent_hash"
)

const (
	// DefaultDecay is the default of Policy.Decay.
	DefaultDecay = 10 * time.Second
	// DefaultBoundPercent is the default of Policy.BoundPercent.
	DefaultBoundPercent = 125
)

// Policy says how to choose. Policies can be compared with ==; equal ones choose alike.
type Policy struct {
	// Kind is the way to choose. Any value that is not listed above, such as "", means RoundRobin.
	Kind Kind
	// Decay is for PeakEWMA: the time in which the influence of an old latency falls to 1/e. DefaultDecay if not positive.
	Decay time.Duration
	// BoundPercent is for ConsistentHash: a host gets no further call while it has this percentage of the mean load. Below
	// 100, with which there would not be room for all calls, it means DefaultBoundPercent.
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

// Member is a host with the weight and the state that it has in one backend.
type Member struct {
	Host *Host
	// Weight is the member's share of the calls, relative to the others. A member whose Weight is not positive takes no
	// calls, and has no place on the ring.
	Weight float64
	// Down members take no calls. They keep their place on the ring of consistent hashing, so that they get their keys back.
	Down bool
}

// Picker chooses among the members that it was made of. It is safe for concurrent use, and need not be closed.
type Picker interface {
	// Pick returns a host that is neither down nor in tried; if there is none, one that is not down; else nil.
	// The key is for ConsistentHash (see Key); other kinds ignore it. Pick does not allocate, block or count the call: the
	// caller calls Begin of the host that it uses.
	Pick(key uint64, tried []*Host) *Host
}

// New returns a Picker of the members; it does not keep the slice. Their order matters only for RoundRobin, which takes them
// in that order. prev is the Picker that the new one replaces, or nil; it may stay in use. If both are RoundRobin, the new
// one goes on where prev stands. If both are ConsistentHash and no address or weight has changed, it shares the ring of
// prev, which takes milliseconds to make.
func New(p Policy, members []Member, prev Picker) Picker {
	return newPicker(p, members, prev, rand.Uint64)
}

// newPicker is New with a source of random numbers, which must be safe for concurrent use if the Picker is used that way.
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

// Key returns the key of a text, for Pick. It is the same in every process and every version of framegate.
func Key(s string) uint64 { return xxhash.Sum64String(s) }

// Ramp returns the weight of an endpoint of this age during its slow start: a tenth of weight at first, then growing in
// proportion to the age, up to weight at the end of the window.
func Ramp(weight float64, age, window time.Duration) float64 {
	const minShare = 0.1
	switch {
	case age >= window:
		return weight
	case age <= 0:
		return weight * minShare
	}
	return weight * (minShare + (1-minShare)*float64(age)/float64(window))
}
