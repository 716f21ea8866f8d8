package balance

import "testing"

func TestWeightedRandom_DrawsInProportion(t *testing.T) {
	for _, weights := range [][]float64{
		{1, 1}, {10, 1}, {1, 2, 3, 4, 5, 6, 7, 8, 9, 10}, {0.5, 1, 0.1, 7.25}, {1e6, 1e5, 1e4},
	} {
		members := weighted(weights...)
		p := newPicker(Policy{Kind: WeightedRandom}, members, nil, seeded(1))
		requireChiSquare(t, members, count(p, 200_000))
	}
	members := busy(1000, 0, true)
	requireChiSquare(t, members, count(newPicker(Policy{Kind: WeightedRandom}, members, nil, seeded(2)), 500_000))
}

func TestWeightedRandom_DrawsInProportionAmongTheUntried(t *testing.T) {
	members := weighted(50, 3, 2, 1, 4)
	tried := []*Host{members[0].Host, members[4].Host}
	p := newPicker(Policy{Kind: WeightedRandom}, members, nil, seeded(1))
	counts := make(map[*Host]int)
	for range 60_000 {
		counts[p.Pick(0, tried)]++
	}
	requireChiSquare(t, members[1:4], counts)
}
