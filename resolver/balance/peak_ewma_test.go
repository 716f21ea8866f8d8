package balance

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// two returns a PeakEWMA picker of two hosts on one clock.
func two(decay time.Duration) (p Picker, a, b *Host, now *time.Duration) {
	now = new(time.Duration)
	clock := func() time.Duration { return *now }
	a, b = newHost("a", clock), newHost("b", clock)
	members := []Member{{Host: a, Weight: 1}, {Host: b, Weight: 1}}
	p = newPicker(Policy{Kind: PeakEWMA, Decay: decay}, members, nil, seeded(1))
	return p, a, b, now
}

// requireAlways fails unless the picker takes this one however the two are drawn.
func requireAlways(t *testing.T, p Picker, want *Host, why string) {
	t.Helper()
	for range 50 {
		require.Equal(t, want.Address(), p.Pick(0, nil).Address(), why)
	}
}

// requireTie fails unless the picker takes the one that it has drawn first.
func requireTie(t *testing.T, p Picker, why string) {
	t.Helper()
	require.Len(t, count(p, 50), 2, why)
}

func TestPeakEWMA_TakesTheSmallerLatencyTimesLoad(t *testing.T) {
	p, a, b, _ := two(time.Second)
	a.Answered(2 * time.Millisecond)
	b.Answered(5 * time.Millisecond)
	requireAlways(t, p, a, "2 ms against 5")
	a.Begin()
	requireAlways(t, p, a, "2 ms times 2 against 5")
	a.Begin()
	requireAlways(t, p, b, "2 ms times 3 against 5")
	b.Begin()
	requireAlways(t, p, a, "2 ms times 3 against 5 times 2")
	a.Begin()
	a.Begin()
	requireTie(t, p, "2 ms times 5 against 5 times 2")
}

func TestPeakEWMA_TriesEachHostOnceBeforeItKnowsIt(t *testing.T) {
	p, a, b, _ := two(time.Second)
	requireTie(t, p, "nothing known")
	a.Answered(time.Nanosecond)
	requireAlways(t, p, b, "b is unknown and idle")
	b.Begin()
	for range 1000 {
		a.Begin()
	}
	requireAlways(t, p, a, "b is unknown and has a call")
	b.End()
	b.Answered(time.Millisecond)
	requireAlways(t, p, a, "1 ns times 1,001 against 1 ms")
}

func TestPeakEWMA_SharesCallsByNumberAmongTheUnknown(t *testing.T) {
	p, a, b, _ := two(time.Second)
	a.Begin()
	requireAlways(t, p, b, "1 against none")
	b.Begin()
	b.Begin()
	requireAlways(t, p, a, "1 against 2")
}

func TestPeakEWMA_GivesASlowHostAnotherChance(t *testing.T) {
	p, a, b, now := two(10 * time.Second)
	a.Answered(50 * time.Millisecond)
	for range 39 { // 10 s * ln 50 = 39.1 s
		*now += time.Second
		b.Answered(time.Millisecond)
		requireAlways(t, p, b, now.String())
	}
	*now += time.Second
	b.Answered(time.Millisecond)
	requireAlways(t, p, a, "50 ms of 40 s ago")
	a.Answered(50 * time.Millisecond)
	requireAlways(t, p, b, "it is still slow")
}

func TestPeakEWMA_KeepsP99NearTheFastHosts(t *testing.T) {
	for _, q := range append(openLoads(), closedLoads()...) {
		r := q.play(PeakEWMA)
		require.LessOrEqual(t, percentile(r.all, 99), 3*percentile(r.fast, 99), fmt.Sprintf("%+v", q))
		require.Less(t, r.slowShare(), 0.01, fmt.Sprintf("%+v", q))
	}
}
