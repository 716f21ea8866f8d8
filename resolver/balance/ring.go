package balance

import (
	"cmp"
	"math"
	"slices"

	"github.com/cespare/xxhash/v2"
)

// ring says which member each slot belongs to. A key has a slot; if the member of that may not be used, the next slot's
// is asked, and so on around.
//
// Each member claims slots in an order of its own, drawn from its address, at a rate that is its weight; a slot belongs
// to who claims it first. So shares follow the weights, and whether a member keeps a slot depends on nothing but its
// own claims and those of who beats it: when a member goes, its slots alone change hands; when its weight changes,
// slots move only to it or from it. A ring of points on a circle, whose number is bounded, cannot promise this: to keep
// within the bound it must change the points of all when one comes.
//
// A ring is immutable, and the same in every process for the same addresses and weights, in whatever order they came.
type ring struct {
	places []place  // by address
	owners []uint32 // of each slot the index in places
}

// place is a member's place on the ring.
type place struct {
	address string
	weight  float64
}

const (
	slotBits  = 16
	slotCount = 1 << slotBits
)

// slotOf returns where a key begins on the ring.
func slotOf(key uint64) uint32 { return uint32(mix(key) >> (64 - slotBits)) }

// mix spreads each bit of x over all bits (the finalizer of MurmurHash3). No two x have the same result.
func mix(x uint64) uint64 {
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	x *= 0xc4ceb9fe1a85ec53
	return x ^ x>>33
}

// claimant is a member while a ring is made.
type claimant struct {
	seed uint64  // sets its claims apart from the others'
	next float64 // which claim comes next, from 0
	lead float64 // how much earlier than the full turn it claims, so that equal weights do not claim all at once
	rate float64 // claims per unit of time
}

// newRing makes the ring of these places, which it keeps; they are sorted by address and their weights are positive.
// It takes a time that depends on the number of slots, hardly on that of places.
func newRing(places []place) *ring {
	r := &ring{places: places}
	if len(places) == 0 {
		return r
	}
	var rates float64
	claimants := make([]claimant, len(places))
	for i, p := range places {
		seed := xxhash.Sum64String(p.address)
		claimants[i] = claimant{seed: seed, lead: float64(mix(^seed)>>11) / (1 << 53), rate: p.weight}
		rates += p.weight
	}
	r.owners = make([]uint32, slotCount)
	claimed := make([]float64, slotCount) // when
	for i := range claimed {
		claimed[i] = math.Inf(1)
	}
	free := slotCount
	// One round is the time of as many claims as there are slots; about 12 rounds leave none free. The end of a round
	// is only when it is looked whether to go on: it changes nothing of who gets what.
	const maxRounds = 64
	round := slotCount / rates
	for n := 1; free > 0 && n <= maxRounds; n++ {
		end := round * float64(n)
		for i := range claimants {
			c := &claimants[i]
			for ; ; c.next++ {
				at := (c.next + c.lead) / c.rate
				if at >= end {
					break
				}
				slot := mix(c.seed+uint64(c.next)*0x9e3779b97f4a7c15) >> (64 - slotBits)
				if at < claimed[slot] {
					if math.IsInf(claimed[slot], 1) {
						free--
					}
					claimed[slot], r.owners[slot] = at, uint32(i)
				}
			}
		}
	}
	return r
}

// placesOf returns the places of the members that have one, and the members in the same order.
func placesOf(members []Member) ([]place, []Member) {
	sorted := make([]Member, 0, len(members))
	for _, m := range members {
		if m.weightOf() > 0 {
			sorted = append(sorted, m)
		}
	}
	slices.SortStableFunc(sorted, func(a, b Member) int { return cmp.Compare(a.Host.address, b.Host.address) })
	places := make([]place, len(sorted))
	for i := range sorted {
		places[i] = place{address: sorted[i].Host.address, weight: sorted[i].weightOf()}
	}
	return places, sorted
}
