package balance

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// letters returns the addresses of n picks.
func letters(p Picker, n int) string {
	var s strings.Builder
	for range n {
		s.WriteString(p.Pick(0, nil).Address())
	}
	return s.String()
}

func TestRoundRobin_RotatesStrictlyWithEqualWeights(t *testing.T) {
	for _, weight := range []float64{1, 7, 0.3} {
		p := newPicker(Policy{Kind: RoundRobin}, weighted(weight, weight, weight), nil, func() uint64 { return 0 })
		require.Equal(t, "bcabcabcabca", letters(p, 12), "weight %g", weight)
	}
}

func TestRoundRobin_BeginsAnywhere(t *testing.T) {
	begins := make(map[string]bool)
	for seed := range uint64(20) {
		begins[letters(newPicker(Policy{Kind: RoundRobin}, weighted(1, 1, 1), nil, seeded(seed)), 1)] = true
	}
	require.Len(t, begins, 3)
}

func TestRoundRobin_GivesExactSharesInEachCycle(t *testing.T) {
	for _, weights := range [][]float64{{5, 1, 1}, {10, 1}, {3, 2, 2}, {40, 20, 100, 60}, {1000, 1, 1, 500}} {
		members := weighted(weights...)
		var divisor uint64
		var cycle int
		for _, w := range weights {
			divisor = gcd(uint64(w), divisor)
			cycle += int(w)
		}
		cycle /= int(divisor)
		p := newPicker(Policy{Kind: RoundRobin}, members, nil, seeded(4))
		for range 3 {
			counts := count(p, cycle)
			for i, m := range members {
				require.Equal(t, int(weights[i])/int(divisor), counts[m.Host], "%v, member %d", weights, i)
			}
		}
	}
}

func TestRoundRobin_MixesUnequalWeights(t *testing.T) {
	p := newPicker(Policy{Kind: RoundRobin}, weighted(5, 1, 1), nil, seeded(1))
	twice := letters(p, 14)
	require.NotContains(t, twice, "aaaaa")
	require.NotContains(t, twice, "bc")
	require.NotContains(t, twice, "cb")
}

// In any stretch of picks, from any position, each member has its share of them, give or take four: drawn at random it
// would be tens. And none but one with most of the weight comes three times in a row.
func TestRoundRobin_IsNeverFarFromTheShares(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 5))
	lists := [][]float64{
		{5, 1, 1}, {10, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1}, {1e6, 1}, {0.1, 1, 1, 1}, {1e6, 999_999, 3, 1, 1}, {1, 1, 2, 2},
	}
	for _, n := range []int{2, 3, 10, 100} {
		var whole, fractions []float64
		for range n {
			whole = append(whole, float64(1+random.IntN(20)))
			fractions = append(fractions, 0.1+random.Float64())
		}
		lists = append(lists, whole, fractions)
	}
	for _, weights := range lists {
		var sum float64
		for _, w := range weights {
			sum += w
		}
		for seed := range uint64(3) {
			r := newRoundRobin(weighted(weights...), nil, seeded(seed))
			ahead := make([]float64, len(weights)) // picks more than the share, since the beginning
			most, least := make([]float64, len(weights)), make([]float64, len(weights))
			last, run := -1, 0
			for range 5_000 {
				picked := r.next()
				if picked != last {
					last, run = picked, 0
				}
				if run++; weights[picked] < sum/2 {
					require.Less(t, run, 3, "%v", weights)
				}
				ahead[picked]++
				for i, w := range weights {
					ahead[i] -= w / sum
					most[i], least[i] = max(most[i], ahead[i]), min(least[i], ahead[i])
				}
			}
			for i := range weights {
				require.Less(t, most[i]-least[i], 4.0, "member %d of %v", i, weights)
			}
		}
	}
}

func TestRoundRobin_BoundsItsMemoryAtAnyWeight(t *testing.T) {
	members := numbered(1000)
	for i := range members {
		members[i].Weight = float64(1_000_000 - 7*i)
	}
	r := newRoundRobin(members, nil, seeded(1))
	require.LessOrEqual(t, len(r.shares.cells), 4*len(members)+1)
	counts := count(r, 100_000)
	for _, m := range members {
		require.InDelta(t, 100, counts[m.Host], 3)
	}
}

func TestRoundRobin_GoesOnWhereTheOneBeforeWas(t *testing.T) {
	members := weighted(1, 1, 1, 1)
	policy := Policy{Kind: RoundRobin}
	p := newPicker(policy, members, nil, func() uint64 { return 0 })
	require.Equal(t, "b", letters(p, 1))
	next := newPicker(policy, members, p, func() uint64 { return 0 })
	require.Equal(t, "c", letters(next, 1))
	require.Equal(t, "d", letters(p, 1), "a call that still uses the one before")
	require.Equal(t, "abcd", letters(next, 4))

	// Weights that change all the time, with few picks between, get their shares all the same.
	counts := make(map[*Host]int)
	for i := range 2_000 {
		members[0].Weight = 0.5 + float64(i)*1e-4
		p = newPicker(policy, members, p, func() uint64 { return 0 })
		counts[p.Pick(0, nil)]++
	}
	require.InDelta(t, 2_000*0.6/3.6, counts[members[0].Host], 10)
	for _, m := range members[1:] {
		require.InDelta(t, 2_000/3.6, counts[m.Host], 10)
	}
}

func TestRoundRobin_PassesByTheTried(t *testing.T) {
	members := weighted(1, 1, 1)
	p := newPicker(Policy{Kind: RoundRobin}, members, nil, func() uint64 { return 0 })
	tried := []*Host{members[1].Host}
	var got string
	for range 4 {
		got += p.Pick(0, tried).Address()
	}
	require.Equal(t, "caca", got)
}

func TestStrideOf_MeetsEachPointOnce(t *testing.T) {
	for length := uint64(2); length < 300; length++ {
		stride := strideOf(length, 1)
		met := make(map[uint64]bool)
		for k := range length {
			met[k*stride%length] = true
		}
		require.Len(t, met, int(length), fmt.Sprintf("stride %d", stride))
	}
	for _, length := range []uint64{1 << 20, 1_000_001, 30030 * 17 * 19, maxLine} {
		stride := strideOf(length, 1)
		require.Equal(t, uint64(1), gcd(stride, length))
		require.InEpsilon(t, 0.618, float64(stride)/float64(length), 0.01)
	}
}
