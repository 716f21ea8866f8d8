package balance

import (
	"cmp"
	"math"
	"slices"

	"github.com/cespare/xxhash/v2"
)

// ring assigns each slot to a member. A key has a slot; if that slot's member may not be used, the next slot is tried, and so
// on around the ring.
//
// To make a ring, each member claims slots in an order of its own, which its address decides, and at a rate that is its
// weight. A slot belongs to the member that claims it first. So the number of a member's slots follows its weight, and a
// change of the members moves few slots: when a member goes, only its slots move; when its weight changes, slots move only
// to it or from it. The usual ring, with a bounded number of points on a circle, does not have that property, because a new
// member changes the number of points of all others.
//
// A ring is immutable. It is the same in every process for the same addresses and weights, in whatever order they were given.
type ring struct {
	places []place  // by address
	owners []uint32 // by slot: the index of its member in places
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

// slotOf returns the slot of a key.
func slotOf(key uint64) uint32 { return uint32(mix(key) >> (64 - slotBits)) }

// mix spreads each bit of x over all bits of the result (the finalizer of MurmurHash3). It is a bijection.
func mix(x uint64) uint64 {
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	x *= 0xc4ceb9fe1a85ec53
	return x ^ x>>33
}

// claimant is a member while a ring is made.
type claimant struct {
	seed uint64  // decides the order of its claims
	next float64 // the number of its next claim, from 0
	lead float64 // offset of its claims, from 0 to below 1, so that members with equal weights do not claim at the same time
	rate float64 // claims per unit of time
}

// newRing makes the ring of these places, which it keeps; they are sorted by address, and their weights are positive. The
// time that it takes depends on the number of slots, and hardly on that of places.
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
	claimed := make([]float64, slotCount) // by slot: when it was claimed
	for i := range claimed {
		claimed[i] = math.Inf(1)
	}
	free := slotCount
	// In one round there are as many claims as slots; after about 12 rounds no slot is free. Rounds serve only to check that:
	// their length does not change which member gets a slot.
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

// placesOf returns the places of the members with a positive weight, sorted by address, and these members in the same order.
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
