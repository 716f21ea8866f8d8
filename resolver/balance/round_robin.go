package balance

import (
	"math"
	"math/bits"
	"slices"
	"sync/atomic"
)

// roundRobin walks around the line of shares in equal strides. If the stride has no divisor in common with the line's length,
// the walk meets each point once before it meets one again, so that shares are exact over a cycle. If the stride is also
// near the golden section of the length, any part of the walk is spread evenly over the line, so that no member comes in
// bursts. Memory depends only on the number of members, whatever their weights, and a pick costs one atomic addition.
//
// If all weights are equal, each member has one point on the line and the stride is 1, which is a strict rotation.
type roundRobin struct {
	shares *shares
	stride uint64
	// position counts the picks of this picker, and of those before and after it that share it. It begins at random, so that
	// several gateways are not in step.
	position *atomic.Uint64
}

func newRoundRobin(members []Member, prev Picker, random func() uint64) *roundRobin {
	r := &roundRobin{shares: newShares(members, random)}
	r.stride = strideOf(r.shares.total, len(r.shares.members))
	if p, ok := prev.(*roundRobin); ok && p != nil {
		r.position = p.position
		return r
	}
	r.position = new(atomic.Uint64)
	r.position.Store(random() >> 1) // far from overflow
	return r
}

func (r *roundRobin) Pick(_ uint64, tried []*Host) *Host {
	members := r.shares.members
	if len(members) == 0 {
		return nil
	}
	i := r.next()
	if len(tried) == 0 {
		return members[i].host
	}
	for range redraws {
		if h := members[i].host; !slices.Contains(tried, h) {
			return h
		}
		i = r.next()
	}
	for range members {
		if h := members[i].host; !slices.Contains(tried, h) {
			return h
		}
		if i++; i == len(members) {
			i = 0
		}
	}
	return members[i].host
}

// next returns the member whose turn it is.
func (r *roundRobin) next() int {
	total := r.shares.total
	turn := r.position.Add(1) % total
	if r.stride != 1 {
		high, low := bits.Mul64(turn, r.stride)
		turn = bits.Rem64(high, low, total)
	}
	return r.shares.at(turn)
}

// strideOf returns the stride for a line of this length with so many members.
func strideOf(length uint64, members int) uint64 {
	if length == uint64(members) {
		return 1
	}
	// Among the strides near the golden section, the one whose continued fraction has the smallest terms spreads points most
	// evenly (L. Kuipers, H. Niederreiter, Uniform Distribution of Sequences, chapter 2.3).
	const around = 64
	golden := uint64(math.Round(float64(length) * (math.Phi - 1)))
	best, minTerms := uint64(1), uint64(math.MaxUint64)
	for d := range uint64(around) {
		for _, s := range [2]uint64{golden - d, golden + d} {
			if s == 0 || s >= length { // a negative golden - d wraps to a large number
				continue
			}
			if terms, ok := continuedFraction(s, length); ok && terms < minTerms {
				best, minTerms = s, terms
			}
		}
	}
	return best
}

// continuedFraction returns the sum of the terms of the continued fraction of a/b, and whether a and b have no common
// divisor.
func continuedFraction(a, b uint64) (sum uint64, coprime bool) {
	for a != 0 {
		sum += b / a
		a, b = b%a, a
	}
	return sum, b == 1
}
