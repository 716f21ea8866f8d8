package balance

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// under sets how many calls are under way at each member.
func under(members []Member, active ...int) {
	for i, n := range active {
		for members[i].Host.Active() < n {
			members[i].Host.Begin()
		}
	}
}

func TestLeastRequest_TakesTheLessLoadedOfTwoForTheirWeights(t *testing.T) {
	for _, c := range []struct {
		weights []float64
		active  []int
		want    int
	}{
		{[]float64{1, 1}, []int{3, 2}, 1},
		{[]float64{1, 1}, []int{0, 1}, 0},
		{[]float64{2, 1}, []int{3, 2}, 0},
		{[]float64{2, 1}, []int{5, 2}, 1},
		{[]float64{10, 0.5}, []int{19, 1}, 0},
		{[]float64{10, 0.5}, []int{21, 1}, 1},
	} {
		members := weighted(c.weights...)
		under(members, c.active...)
		p := newPicker(Policy{Kind: LeastRequest}, members, nil, seeded(1))
		counts := count(p, 1000)
		require.Equal(t, 1000, counts[members[c.want].Host], "weights %v, under way %v", c.weights, c.active)
	}
}

func TestLeastRequest_DrawsBothByWeight(t *testing.T) {
	members := weighted(6, 3, 2)
	under(members, 6*9, 3*9, 2*8) // the last wins whenever it is drawn, the others tie
	p := newPicker(Policy{Kind: LeastRequest}, members, nil, seeded(1))
	// Drawn first 2/11; second after the first member 6/11 * 2/5, after the second 3/11 * 2/8. What is left goes to the
	// first drawn of the other two.
	expected := weighted(6./11*3/5, 3./11*6/8, 2./11+6./11*2/5+3./11*2/8)
	counts := make(map[*Host]int)
	for host, n := range count(p, 200_000) {
		for i := range members {
			if members[i].Host == host {
				counts[expected[i].Host] = n
			}
		}
	}
	requireChiSquare(t, expected, counts)
}

// With equal numbers of calls under way, which is what the policy aims at, a host that is 50 times as slow as two
// others answers 1 of 101 calls. No load gives it fewer, as it is never idle for long; a light one gives it more, as
// then it is often a tie between idle hosts. So the figure is the 99th percentile only where all workers are busy all
// the time: 30 callers, one after the other's answer, at three workers. Elsewhere it is the percentile that leaves the
// slow share out.
func TestLeastRequest_KeepsLatencyNearTheFastHosts(t *testing.T) {
	full := queue{workers: 1, calls: 500_000, clients: 30}.play(LeastRequest)
	require.Less(t, full.slowShare(), 0.01)
	require.LessOrEqual(t, percentile(full.all, 99), 3*percentile(full.fast, 99))

	closed := queue{workers: 4, calls: 100_000, clients: 24}.play(LeastRequest)
	require.Less(t, closed.slowShare(), 0.015)
	require.LessOrEqual(t, percentile(closed.all, 98), 3*percentile(closed.fast, 99))

	// 80 % of what the two fast hosts can do: 25,600 calls per second.
	open := queue{workers: 16, calls: 100_000, gap: time.Second / 25_600}.play(LeastRequest)
	require.Less(t, open.slowShare(), 0.015)
	require.LessOrEqual(t, percentile(open.all, 98), 3*percentile(open.fast, 99))

	// What this is worth: in rotation a third of the calls is slow, even at the few that the slow host can do.
	rotation := queue{workers: 16, calls: 20_000, gap: time.Second / 800}.play(RoundRobin)
	require.Greater(t, percentile(rotation.all, 70), 3*percentile(rotation.fast, 99))
}
