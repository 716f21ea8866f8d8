package balance

import (
	"math"
	"math/bits"
	"slices"
	"sync/atomic"
)

// roundRobin walks around the line of shares in equal strides. A stride that has no divisor in common with the line's
// length meets each point once before it meets one again, so that the shares are exact over a cycle; one near the
// golden section of it spreads any stretch of its points evenly over the line, so that no member comes in bursts.
// Nothing is kept per cycle: memory depends on the members alone, whatever their weights, and a pick is one atomic
// addition.
//
// Members with equal weights have a line of one point each and a stride of 1: strict rotation.
type roundRobin struct {
	shares *shares
	stride uint64
	// position counts the picks, of this picker and of those before and after it that took it over. It begins anywhere,
	// so that several gateways do not go in step.
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
	r.position.Store(random() >> 1) // far from where it would wrap
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
	// Which strides near the golden section spread best is told by their continued fraction: the smaller its terms, the
	// more even (L. Kuipers, H. Niederreiter, Uniform Distribution of Sequences, chapter 2.3).
	const around = 64
	golden := uint64(math.Round(float64(length) * (math.Phi - 1)))
	best, least := uint64(1), uint64(math.MaxUint64)
	for d := range uint64(around) {
		for _, s := range [2]uint64{golden - d, golden + d} {
			if s == 0 || s >= length { // golden - d wraps to a large number below 0
				continue
			}
			if terms, ok := continuedFraction(s, length); ok && terms < least {
				best, least = s, terms
			}
		}
	}
	return best
}

// continuedFraction returns the sum of the terms of a/b, and whether the two have no common divisor.
func continuedFraction(a, b uint64) (sum uint64, coprime bool) {
	for a != 0 {
		sum += b / a
		a, b = b%a, a
	}
	return sum, b == 1
}
