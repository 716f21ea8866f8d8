package balance

import (
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
)

const keys = 50_000

func keyed(i int) uint64 { return Key("user-" + strconv.Itoa(i)) }

// assign returns the host of each key.
func assign(p Picker) []*Host {
	hosts := make([]*Host, keys)
	for i := range hosts {
		hosts[i] = p.Pick(keyed(i), nil)
	}
	return hosts
}

func hashing(members []Member, prev Picker) Picker {
	return New(Policy{Kind: ConsistentHash}, members, prev)
}

func TestConsistentHash_SendsEqualKeysToTheSameHost(t *testing.T) {
	p := hashing(numbered(10), nil)
	require.Equal(t, assign(p), assign(p))
}

func TestConsistentHash_SharesKeysByWeight(t *testing.T) {
	for _, weights := range [][]float64{{1, 1, 1}, {10, 1}, {1, 2, 3, 4}, {1e6, 2e6, 5e5}, {0.25, 0.5}} {
		members := weighted(weights...)
		counts := make(map[*Host]int)
		for _, h := range assign(hashing(members, nil)) {
			counts[h]++
		}
		var sum float64
		for _, w := range weights {
			sum += w
		}
		for i, m := range members {
			require.InEpsilon(t, keys*weights[i]/sum, counts[m.Host], 0.05, "%v, member %d", weights, i)
		}
	}
}

func TestConsistentHash_GivesManyLightMembersNoMoreThanTheirShare(t *testing.T) {
	members := numbered(1001)
	for i := range members[1:] {
		members[1+i].Weight = 1e-6
	}
	light := 0
	for _, h := range assign(hashing(members, nil)) {
		if h != members[0].Host {
			light++
		}
	}
	require.Less(t, light, keys/1000*2)
}

func TestConsistentHash_MovesOnlyTheKeysOfAMemberThatGoes(t *testing.T) {
	for _, n := range []int{2, 3, 10, 100, 1000} {
		members := numbered(n)
		for i := range members {
			members[i].Weight = float64(1 + i%3)
		}
		var weights float64
		for _, m := range members {
			weights += m.Weight
		}
		before := assign(hashing(members, nil))
		for _, gone := range []int{0, n / 2, n - 1} {
			after := assign(hashing(slices.Delete(slices.Clone(members), gone, gone+1), nil))
			moved := 0
			for i := range before {
				if before[i] == members[gone].Host {
					moved++
				} else {
					require.Same(t, before[i], after[i], "a key moved between two that stay")
				}
			}
			share := members[gone].Weight / weights
			if n <= 100 {
				require.InEpsilon(t, keys*share, moved, 0.2, "without %d of %d", gone, n)
			} else {
				require.Less(t, moved, int(keys*share*1.5), "without %d of %d", gone, n)
			}
		}
	}
}

func TestConsistentHash_MovesKeysOnlyToOrFromAMemberWhoseWeightChanges(t *testing.T) {
	members := numbered(20)
	before := assign(hashing(members, nil))
	members[4].Weight = 1e6 // a ring of points would have no room for this
	heavy := assign(hashing(members, nil))
	members[4].Weight = Ramp(1, 1, 30)
	light := assign(hashing(members, nil))
	for i := range before {
		if heavy[i] != before[i] {
			require.Same(t, members[4].Host, heavy[i])
		}
		if light[i] != before[i] {
			require.Same(t, members[4].Host, before[i])
		}
	}
	require.NotEqual(t, before, heavy)
	require.NotEqual(t, before, light)
}

func TestConsistentHash_GivesAMemberItsKeysBack(t *testing.T) {
	members := numbered(5)
	first := hashing(members, nil)
	before := assign(first)
	members[2].Down = true
	down := hashing(members, first)
	counts := make(map[*Host]int)
	for i, h := range assign(down) {
		require.NotSame(t, members[2].Host, h)
		if before[i] == members[2].Host {
			counts[h]++
		} else {
			require.Same(t, before[i], h)
		}
	}
	require.Len(t, counts, 4, "all others take a part of its keys")
	for _, n := range counts {
		require.InEpsilon(t, keys/5/4, n, 0.2)
	}
	members[2].Down = false
	require.Equal(t, before, assign(hashing(members, down)))
}

func TestConsistentHash_AgreesWithOtherProcesses(t *testing.T) {
	members := numbered(50)
	for i := range members {
		members[i].Weight = float64(1+i%7) / 3
	}
	addresses := func(p Picker) (a []string) {
		for _, h := range assign(p) {
			a = append(a, h.Address())
		}
		return a
	}
	want := addresses(hashing(members, nil))
	random := rand.New(rand.NewPCG(1, 1))
	for range 3 {
		theirs := slices.Clone(members)
		for i := range theirs {
			theirs[i].Host = NewHost(members[i].Host.Address())
		}
		random.Shuffle(len(theirs), func(i, j int) { theirs[i], theirs[j] = theirs[j], theirs[i] })
		require.Equal(t, want, addresses(hashing(theirs, nil)))
	}
	// A change of this breaks stickiness between gateways of two versions.
	var fixed []string
	three := hashing(weighted(1, 1, 2), nil)
	for i := range 12 {
		fixed = append(fixed, three.Pick(keyed(i), nil).Address())
	}
	require.Equal(t, []string{"a", "c", "a", "a", "c", "c", "a", "c", "c", "c", "c", "b"}, fixed)
}

func TestConsistentHash_BoundsTheLoadUnderAHotKey(t *testing.T) {
	for _, n := range []int{2, 3, 16, 17, 100, 1000} {
		for _, percent := range []int{100, 125, 200} {
			members := numbered(n)
			var weights float64
			for i := range members {
				members[i].Weight = float64(1 + i%2)
				members[i].Down = i == 1 && n > 2
				if !members[i].Down {
					weights += members[i].Weight
				}
			}
			p := New(Policy{Kind: ConsistentHash, BoundPercent: percent}, members, nil)
			weightOf := make(map[*Host]float64)
			for _, m := range members {
				weightOf[m.Host] = m.Weight
			}
			for call := 1; call <= 3*n; call++ {
				h := p.Pick(keyed(1), nil)
				h.Begin()
				bound := math.Ceil(float64(percent)/100*float64(call)/weights*weightOf[h] - 1e-9)
				require.LessOrEqual(t, float64(h.Active()), bound, "call %d at %d hosts, %d %%", call, n, percent)
			}
		}
	}
}

func TestConsistentHash_KeepsAKeyWhileItsHostHasRoom(t *testing.T) {
	members := numbered(4)
	p := hashing(members, nil)
	host := p.Pick(keyed(1), nil)
	for _, m := range members {
		for range 3 {
			m.Host.Begin() // 13 with this call: each may have ceil(1.25 * 13 / 4) = 5
		}
	}
	host.Begin() // 4 of ceil(1.25 * 14 / 4) = 5
	require.Same(t, host, p.Pick(keyed(1), nil))
	host.Begin() // 5 of ceil(1.25 * 15 / 4) = 5
	other := p.Pick(keyed(1), nil)
	require.NotSame(t, host, other)
	require.Same(t, other, p.Pick(keyed(1), nil), "the one that it goes to instead is always the same")
	host.End()
	require.Same(t, host, p.Pick(keyed(1), nil))
}

// A hot key at 1,000 hosts would pass by hundreds that it has filled itself, each time.
func TestConsistentHash_LooksElsewhereForAHotKey(t *testing.T) {
	for _, c := range []struct{ calls, places int }{{nearby - 2, 1}, {600, 15}} {
		members := numbered(1000)
		p := hashing(members, nil)
		first := p.Pick(1, nil)
		for range c.calls {
			p.Pick(1, nil).Begin()
		}
		picked := make(map[*Host]bool)
		for range 20 {
			picked[p.Pick(1, nil)] = true
			first.Begin() // was full before, but is one more under way
		}
		if c.places == 1 {
			require.Len(t, picked, 1, "a few full hosts are passed by in order")
		} else {
			require.GreaterOrEqual(t, len(picked), c.places)
		}
	}
}

func TestConsistentHash_LetsAHeavierHostHaveMore(t *testing.T) {
	members := weighted(1, 3)
	p := hashing(members, nil)
	var key uint64
	for p.Pick(key, nil) != members[1].Host {
		key++
	}
	// Its bound is ceil(1.25 * calls * 3/4): one more than it has up to the 15th call, and 15 at the 16th.
	for call := 1; call <= 15; call++ {
		h := p.Pick(key, nil)
		require.Same(t, members[1].Host, h, "call %d", call)
		h.Begin()
	}
	require.Same(t, members[0].Host, p.Pick(key, nil))
}

func TestConsistentHash_SendsATriedKeyToTheSameOther(t *testing.T) {
	p := hashing(numbered(10), nil)
	for i := range 100 {
		host := p.Pick(keyed(i), nil)
		other := p.Pick(keyed(i), []*Host{host})
		require.NotSame(t, host, other)
		require.Same(t, other, p.Pick(keyed(i), []*Host{host}))
	}
}

func TestConsistentHash_TakesTheRingOverIfOnlyDownChanged(t *testing.T) {
	members := numbered(5)
	first := hashing(members, nil).(*consistentHash)
	members[1].Down = true
	slices.Reverse(members)
	require.Same(t, first.ring, hashing(members, first).(*consistentHash).ring)
	members[1].Weight = 2
	require.NotSame(t, first.ring, hashing(members, first).(*consistentHash).ring)
}

// With many hosts the sum of what is under way is counted a part at a time.
func TestLoad_CatchesUpWithinOneTurn(t *testing.T) {
	for _, n := range []int{1, exactHosts, exactHosts + 1, 1000} {
		members := numbered(n)
		l := &load{}
		for _, m := range members {
			m.Host.Begin()
			l.hosts = append(l.hosts, m.Host)
		}
		l.begin()
		require.Equal(t, int64(n), l.sum())
		for _, m := range members {
			m.Host.Begin()
		}
		for range (n + countedNow - 1) / countedNow {
			l.sum()
		}
		require.Equal(t, int64(2*n), l.sum())
	}
}
