package balance

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

var kinds = []Kind{RoundRobin, WeightedRandom, LeastRequest, PeakEWMA, ConsistentHash}

// busy returns n members with mixed weights, calls under way and latencies. Of each everyth one is down (0: none).
func busy(n, everyth int, mixed bool) []Member {
	random := rand.New(rand.NewPCG(1, uint64(n)))
	members := make([]Member, n)
	for i := range members {
		members[i] = Member{Host: NewHost(fmt.Sprintf("10.0.%d.%d:8080", i/256, i%256)), Weight: 1}
		if mixed {
			members[i].Weight = float64(1 + random.IntN(10))
		}
		members[i].Down = everyth != 0 && i%everyth == 0
	}
	return members
}

// begin gives each member calls and a latency.
func begin(members []Member) {
	random := rand.New(rand.NewPCG(2, uint64(len(members))))
	for _, m := range members {
		for range int(m.Weight) * (1 + random.IntN(2)) {
			m.Host.Begin()
		}
		m.Host.Answered(time.Duration(1+random.IntN(1000)) * time.Microsecond)
	}
}

func BenchmarkPick(b *testing.B) {
	for _, kind := range kinds {
		for _, c := range []struct {
			name    string
			members []Member
		}{
			{"3", busy(3, 0, true)},
			{"1000", busy(1000, 0, true)},
			{"1000_equal", busy(1000, 0, false)},
			{"1000_500_down", busy(1000, 2, true)},
		} {
			b.Run(fmt.Sprintf("%s/%s", kind, c.name), func(b *testing.B) {
				p := New(Policy{Kind: kind}, c.members, nil)
				begin(c.members)
				b.ReportAllocs()
				b.ResetTimer()
				b.RunParallel(func(pb *testing.PB) {
					key := rand.Uint64()
					for pb.Next() {
						key += 0x9e3779b97f4a7c15
						if p.Pick(key, nil) == nil {
							b.Error("no host")
							return
						}
					}
				})
			})
		}
	}
}

// BenchmarkPick_HotKey picks for one key that has filled most of the hosts: the longest way to go.
func BenchmarkPick_HotKey(b *testing.B) {
	for _, calls := range []int{0, 100, 790} {
		b.Run(fmt.Sprintf("consistent_hash/1000/%d_calls", calls), func(b *testing.B) {
			p := New(Policy{Kind: ConsistentHash}, busy(1000, 0, false), nil)
			for range calls {
				p.Pick(1, nil).Begin()
			}
			b.ReportAllocs()
			b.ResetTimer()
			for range b.N {
				p.Pick(1, nil)
			}
		})
	}
}

func BenchmarkNew(b *testing.B) {
	for _, kind := range kinds {
		for _, n := range []int{3, 1000} {
			b.Run(fmt.Sprintf("%s/%d", kind, n), func(b *testing.B) {
				members := busy(n, 0, true)
				b.ReportAllocs()
				for b.Loop() {
					New(Policy{Kind: kind}, members, nil)
				}
			})
		}
	}
}
