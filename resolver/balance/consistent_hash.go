package balance

import (
	"math"
	"math/bits"
	"slices"
	"sync"
	"sync/atomic"
)

// consistentHash sends a key to the member that owns its slot on the ring, but skips members that are down, tried or full. A
// member is full if it has BoundPercent of its share, by weight, of the calls under way at all members that are up, this
// call included (V. Mirrokni, M. Thorup, M. Zadimoghaddam, Consistent Hashing with Bounded Loads).
type consistentHash struct {
	ring  *ring
	seats []seat   // by index of the ring's places
	up    []uint32 // indexes of the seats that are up
	// quota is how many calls a member with a weight of 1 may have for each call under way.
	quota float64
	load  load
}

// nearby is how many full hosts a key skips, one slot after the other, before it goes on at another slot.
const nearby = 8

// seat is a place of the ring with the state that the member has for this picker.
type seat struct {
	host   *Host
	weight float64
	down   bool
}

func newConsistentHash(members []Member, boundPercent int, prev Picker) *consistentHash {
	places, sorted := placesOf(members)
	c := &consistentHash{seats: make([]seat, len(sorted))}
	var weights float64
	for i, m := range sorted {
		c.seats[i] = seat{host: m.Host, weight: places[i].weight, down: m.Down}
		if !m.Down {
			weights += places[i].weight
			c.up = append(c.up, uint32(i))
			c.load.hosts = append(c.load.hosts, m.Host)
		}
	}
	if weights > 0 {
		c.quota = float64(boundPercent) / 100 / weights
	}
	c.load.begin()
	if p, ok := prev.(*consistentHash); ok && p != nil && slices.Equal(p.ring.places, places) {
		c.ring = p.ring
	} else {
		c.ring = newRing(places)
	}
	return c
}

func (c *consistentHash) Pick(key uint64, tried []*Host) *Host {
	if len(c.up) == 0 {
		return nil
	}
	sum := c.load.sum()
	perWeight := c.quota * float64(sum+1)
	slot, passed := slotOf(key), 0
	// Among so many slots each member almost certainly has one; the chance that one has none is one in millions.
	for range min(16*len(c.seats), slotCount) {
		s := &c.seats[c.ring.owners[slot]]
		if !s.down && (len(tried) == 0 || !slices.Contains(tried, s.host)) {
			if !s.full(perWeight) {
				return s.host
			}
			passed++
		}
		if slot = (slot + 1) % slotCount; passed == nearby {
			// A key with so many calls goes to many hosts anyway, so it need not find the same ones each time, at the cost
			// of skipping all that it has filled. It goes on at a slot that changes with the load.
			slot = slotOf(mix(key) + uint64(sum))
			passed++
		}
	}
	return c.leastLoaded(key, tried)
}

// full reports whether the host has all the calls that it may have. perWeight is how many a weight of 1 may have.
func (s *seat) full(perWeight float64) bool {
	return float64(s.host.active.Load()) >= math.Ceil(perWeight*s.weight)
}

// leastLoaded returns the host that has the fewest calls for its weight, of those that are up and not in tried. If all that
// are up are in tried, it returns one of them.
func (c *consistentHash) leastLoaded(key uint64, tried []*Host) *Host {
	high, _ := bits.Mul64(mix(key), uint64(len(c.up)))
	from := int(high)
	var best *seat
	for i := range c.up {
		s := &c.seats[c.up[(from+i)%len(c.up)]]
		if slices.Contains(tried, s.host) {
			continue
		}
		if best == nil || float64(s.host.Active())*best.weight < float64(best.host.Active())*s.weight {
			best = s
		}
	}
	if best == nil {
		best = &c.seats[c.up[from]]
	}
	return best.host
}

// load sums the calls under way at some hosts. The sum is exact for up to exactHosts hosts. For more, each call of sum counts
// only a few hosts and takes the earlier counts of the others, so that it costs the same for any number of hosts.
type load struct {
	hosts []*Host

	mu    sync.Mutex   // held to change what follows; sum does without a change if it would have to wait
	seen  []int64      // by host: its calls when it was counted last
	next  int          // the index of the host to count next
	total atomic.Int64 // sum of seen
}

const (
	exactHosts = 16
	countedNow = 8
)

// begin counts all hosts for the first time.
func (l *load) begin() {
	l.seen = make([]int64, len(l.hosts))
	for i, h := range l.hosts {
		l.seen[i] = h.active.Load()
		l.total.Add(l.seen[i])
	}
}

// sum returns the sum, as of now or of a moment ago.
func (l *load) sum() int64 {
	if len(l.hosts) <= exactHosts {
		var sum int64
		for _, h := range l.hosts {
			sum += h.active.Load()
		}
		return sum
	}
	if l.mu.TryLock() {
		var change int64
		for range countedNow {
			active := l.hosts[l.next].active.Load()
			change += active - l.seen[l.next]
			l.seen[l.next] = active
			if l.next++; l.next == len(l.hosts) {
				l.next = 0
			}
		}
		if change != 0 {
			l.total.Add(change)
		}
		l.mu.Unlock()
	}
	return l.total.Load()
}
