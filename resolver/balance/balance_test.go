package balance

import (
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// seeded returns random numbers that are the same in each run.
func seeded(seed uint64) func() uint64 { return rand.New(rand.NewPCG(seed, 1)).Uint64 }

// weighted returns members a, b, c ... with these weights.
func weighted(weights ...float64) []Member {
	members := make([]Member, len(weights))
	for i, w := range weights {
		members[i] = Member{Host: NewHost(string(rune('a' + i))), Weight: w}
	}
	return members
}

// numbered returns n members of weight 1.
func numbered(n int) []Member {
	members := make([]Member, n)
	for i := range members {
		members[i] = Member{Host: NewHost(fmt.Sprintf("10.1.%d.%d:80", i/256, i%256)), Weight: 1}
	}
	return members
}

// count picks n times, with a new key each time, and returns how often each host was picked.
func count(p Picker, n int) map[*Host]int {
	counts := make(map[*Host]int)
	for i := range n {
		counts[p.Pick(mix(uint64(i)+1), nil)]++
	}
	return counts
}

// requireChiSquare fails if the counts are less likely than one in 10,000 to come from draws by these weights.
func requireChiSquare(t *testing.T, members []Member, counts map[*Host]int) {
	t.Helper()
	var weights, chi float64
	var n int
	for _, m := range members {
		weights += m.Weight
		n += counts[m.Host]
	}
	for _, m := range members {
		want := float64(n) * m.Weight / weights
		chi += (float64(counts[m.Host]) - want) * (float64(counts[m.Host]) - want) / want
	}
	// Wilson and Hilferty's approximation of the quantile; 3.719 is the normal distribution's.
	k := float64(len(members) - 1)
	limit := k * math.Pow(1-2/(9*k)+3.719*math.Sqrt(2/(9*k)), 3)
	require.Less(t, chi, limit, "chi square of %v", counts)
}

func TestNew_WeightsTenToOneGiveTenToOneCalls(t *testing.T) {
	for _, kind := range []Kind{RoundRobin, WeightedRandom, LeastRequest} {
		t.Run(string(kind), func(t *testing.T) {
			members := weighted(10, 1)
			counts := count(newPicker(Policy{Kind: kind}, members, nil, seeded(3)), 11_000)
			if kind == LeastRequest {
				// The first drawn wins each tie, and with nothing under way all are ties.
				requireChiSquare(t, members, counts)
			}
			require.InEpsilon(t, 10_000, counts[members[0].Host], 0.05)
			require.InEpsilon(t, 1_000, counts[members[1].Host], 0.05)
		})
	}
}

func TestPick_WithoutMembersReturnsNothing(t *testing.T) {
	for _, kind := range kinds {
		down := weighted(1, 1)
		down[0].Down, down[1].Down = true, true
		for name, members := range map[string][]Member{
			"none": nil, "all down": down, "no weights": weighted(0, -1, math.NaN()), "no host": {{Weight: 1}},
		} {
			p := New(Policy{Kind: kind}, members, nil)
			require.Nil(t, p.Pick(1, nil), "%s, %s", kind, name)
			require.Nil(t, p.Pick(1, []*Host{down[0].Host}), "%s, %s", kind, name)
		}
	}
}

func TestPick_ReturnsAHostThatIsUpAndNotTriedIfThereIsOne(t *testing.T) {
	for _, kind := range kinds {
		for _, n := range []int{1, 2, 3, 40} {
			for seed := range uint64(8) {
				members := numbered(n)
				random := rand.New(rand.NewPCG(seed, 2))
				var up, tried, untried []*Host
				for i := range members {
					m := &members[i]
					m.Weight = math.Pow(10, 5*random.Float64())
					m.Down = random.IntN(3) == 0
					if !m.Down {
						up = append(up, m.Host)
					}
					if random.IntN(3) > 0 {
						tried = append(tried, m.Host)
					} else if !m.Down {
						untried = append(untried, m.Host)
					}
					for range random.IntN(10) {
						m.Host.Begin()
					}
				}
				p := newPicker(Policy{Kind: kind}, members, nil, random.Uint64)
				for range 50 {
					key := random.Uint64()
					switch got := p.Pick(key, tried); {
					case len(untried) > 0:
						require.Contains(t, untried, got, "%s of %d", kind, n)
					case len(up) > 0:
						require.Contains(t, up, got, "%s of %d", kind, n)
					default:
						require.Nil(t, got)
					}
					if got := p.Pick(key, nil); len(up) > 0 {
						require.Contains(t, up, got, "%s of %d", kind, n)
					}
				}
			}
		}
	}
}

func TestPick_ReachesTheLightestOfAllWhenTheOthersAreTried(t *testing.T) {
	for _, kind := range kinds {
		members := weighted(1e300, 1, 1e-300)
		p := New(Policy{Kind: kind}, members, nil)
		require.Same(t, members[2].Host, p.Pick(5, []*Host{members[0].Host, members[1].Host}), kind)
	}
}

func TestPick_DoesNotAllocate(t *testing.T) {
	for _, kind := range kinds {
		for _, n := range []int{3, 1000} {
			members := busy(n, 3, true)
			p := New(Policy{Kind: kind}, members, nil)
			begin(members)
			tried := []*Host{members[1].Host, members[2].Host}
			var key uint64
			require.Zero(t, testing.AllocsPerRun(500, func() {
				key += 1 << 48
				h := p.Pick(key, nil)
				h.Begin()
				h.Answered(time.Millisecond)
				h.End()
				p.Pick(key, tried)
			}), "%s of %d", kind, n)
		}
	}
}

func TestNew_TakesAnUnknownKindForRoundRobin(t *testing.T) {
	for _, kind := range []Kind{"", "fastest"} {
		require.IsType(t, &roundRobin{}, New(Policy{Kind: kind}, weighted(1), nil))
	}
}

func TestNew_TakesPlaceOfAPickerOfAnotherKind(t *testing.T) {
	members := weighted(1, 2, 3)
	for _, before := range kinds {
		for _, after := range kinds {
			p := New(Policy{Kind: after}, members, New(Policy{Kind: before}, members, nil))
			require.NotNil(t, p.Pick(1, nil), "%s after %s", after, before)
		}
	}
}

func TestPolicy_FillsInDefaults(t *testing.T) {
	defaults := Policy{Decay: 10 * time.Second, BoundPercent: 125}
	require.Equal(t, defaults, Policy{}.withDefaults())
	require.Equal(t, defaults, Policy{Decay: -1, BoundPercent: 99}.withDefaults())
	own := Policy{Kind: PeakEWMA, Decay: time.Second, BoundPercent: 100}
	require.Equal(t, own, own.withDefaults())
}

func TestKey_IsTheSameInEveryProcess(t *testing.T) {
	require.Equal(t, uint64(0xef46db3751d8e999), Key(""), "XXH64 of nothing")
	require.Equal(t, uint64(0xd24ec4f1a98c6e5b), Key("a"), "XXH64 of a")
}

func TestRamp_GrowsFromATenthToAll(t *testing.T) {
	const window = 30 * time.Second
	for age, want := range map[time.Duration]float64{
		-time.Second: 20, 0: 20, 10 * time.Second: 80, 15 * time.Second: 110, window: 200, time.Hour: 200,
	} {
		require.InDelta(t, want, Ramp(200, age, window), 1e-9, "at %s", age)
	}
	require.InDelta(t, 200, Ramp(200, 0, 0), 0, "without a slow start")
}

// Run with -race: callers use hosts and pickers while pickers are replaced, in turn by each kind.
func TestPicker_IsReplacedUnderCalls(t *testing.T) {
	members := busy(40, 0, true)
	var mu sync.Mutex // guards p
	p := New(Policy{Kind: RoundRobin}, members, nil)
	current := func() Picker {
		mu.Lock()
		defer mu.Unlock()
		return p
	}
	var callers sync.WaitGroup
	for c := range uint64(4) {
		callers.Go(func() {
			random := rand.New(rand.NewPCG(c, 9))
			for range 5_000 {
				picker := current()
				first := picker.Pick(random.Uint64(), nil)
				if first == nil {
					t.Error("no host")
					return
				}
				first.Begin()
				first.Answered(time.Duration(random.IntN(1000)) * time.Microsecond)
				if second := picker.Pick(random.Uint64(), []*Host{first}); second == first {
					t.Error("a tried host was picked")
				}
				first.End()
			}
		})
	}
	for i := range 100 {
		members[i%len(members)].Down = i%3 == 0
		policy := Policy{Kind: kinds[i/4%len(kinds)], Decay: time.Duration(1+i%2) * time.Second}
		next := New(policy, members, current())
		mu.Lock()
		p = next
		mu.Unlock()
	}
	callers.Wait()
	for _, m := range members {
		require.Zero(t, m.Host.Active())
	}
}
