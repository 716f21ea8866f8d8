package balance

import (
	"math"
	"math/bits"
	"slices"
)

// shares lays the members that take calls side by side on a line of points, each with a number of points that is its share.
// So a point drawn at random gives a member drawn by weight. It is immutable.
type shares struct {
	members []share
	total   uint64 // length of the line in points, at most maxLine
	// cells is an index for at: the line is cut into pieces of 1<<shift points, and cells has the member of each piece's first
	// point, and the last member at the end. There are two to four times as many pieces as members, so that most pieces have
	// points of one or two members.
	cells  []uint32
	shift  uint
	random func() uint64
}

// share is a member's part of the line.
type share struct {
	host   *Host
	weight float64
	from   uint64 // its first point
	length uint64 // in points, at least 1
}

const (
	// maxLine is so small that two points can be multiplied in 128 bits, and so large that shares are exact for thousands of
	// members with weights from 1 to 1,000,000.
	maxLine = 1 << 48
	// maxWeight keeps sums of weights finite.
	maxWeight = 1e15
)

// weightOf returns the weight of a member, up to maxWeight; 0 if it takes no calls and has no place on the ring.
func (m *Member) weightOf() float64 {
	if m.Host == nil || !(m.Weight > 0) { // so that NaN is no weight either
		return 0
	}
	return min(m.Weight, maxWeight)
}

func newShares(members []Member, random func() uint64) *shares {
	s := &shares{members: make([]share, 0, len(members)), random: random}
	for i := range members {
		if m := &members[i]; !m.Down && m.weightOf() > 0 {
			s.members = append(s.members, share{host: m.Host, weight: m.weightOf()})
		}
	}
	if len(s.members) == 0 {
		return s
	}
	if !s.measureWhole() {
		s.measureScaled()
	}
	for i := range s.members {
		s.members[i].from = s.total
		s.total += s.members[i].length
	}
	s.index()
	return s
}

// measureWhole sets the lengths to the weights divided by their greatest common divisor, so that shares are exact and a
// cycle is short. It reports false if that is not possible, because weights differ and some are not whole, or their sum is
// too large.
func (s *shares) measureWhole() bool {
	first, alike, sum := s.members[0].weight, true, 0.0
	for i := range s.members {
		alike = alike && s.members[i].weight == first
		sum += s.members[i].weight
	}
	if alike {
		for i := range s.members {
			s.members[i].length = 1
		}
		return true
	}
	if sum > maxLine {
		return false
	}
	var divisor uint64
	for i := range s.members {
		w := s.members[i].weight
		if w != math.Trunc(w) {
			return false
		}
		divisor = gcd(uint64(w), divisor)
	}
	for i := range s.members {
		s.members[i].length = uint64(s.members[i].weight) / divisor
	}
	return true
}

// measureScaled sets the lengths to the nearest ones that make a line of maxLine points. Since the line always has the same
// length, a position on it stays near the same member while weights change a little, as they do during a slow start.
func (s *shares) measureScaled() {
	var sum float64
	for i := range s.members {
		sum += s.members[i].weight
	}
	var total uint64
	longest := &s.members[0]
	for i := range s.members {
		m := &s.members[i]
		m.length = max(1, uint64(math.Round(m.weight/sum*maxLine)))
		total += m.length
		if m.length > longest.length {
			longest = m
		}
	}
	longest.length += maxLine - total // the error of rounding, about one point per member or less; it may be negative
}

// index makes cells and shift.
func (s *shares) index() {
	n := len(s.members)
	if keep := bits.Len(uint(n)) + 1; bits.Len64(s.total) > keep {
		s.shift = uint(bits.Len64(s.total) - keep)
	}
	count := (s.total-1)>>s.shift + 1
	s.cells = make([]uint32, count+1)
	i := 0
	for c := range count {
		for s.members[i].from+s.members[i].length <= c<<s.shift {
			i++
		}
		s.cells[c] = uint32(i)
	}
	s.cells[count] = uint32(n - 1)
}

// at returns the index of the member that a point below total belongs to.
func (s *shares) at(point uint64) int {
	c := point >> s.shift
	low, high := int(s.cells[c]), int(s.cells[c+1])
	for low < high {
		mid := int(uint(low+high+1) >> 1)
		if s.members[mid].from <= point {
			low = mid
		} else {
			high = mid - 1
		}
	}
	return low
}

// below returns a random number less than n.
func (s *shares) below(n uint64) uint64 {
	// The bias of taking the high half is n/2^64, which is negligible for n up to maxLine.
	high, _ := bits.Mul64(s.random(), n)
	return high
}

// draw returns the index of a member drawn by weight; there must be a member.
func (s *shares) draw() int { return s.at(s.below(s.total)) }

// drawBut is draw without the member with the index one; there must be two members.
func (s *shares) drawBut(one int) int {
	m := &s.members[one]
	point := s.below(s.total - m.length)
	if point >= m.from {
		point += m.length
	}
	return s.at(point)
}

// redraws is how many draws are made to get a member that is not in tried, before all members are looked at.
const redraws = 4

// drawUntried is draw among the members that are not in tried and do not have the index one, which is -1 to leave out none.
// It returns -1 if there are no such members.
func (s *shares) drawUntried(tried []*Host, one int) int {
	for range redraws {
		if i := s.draw(); i != one && !slices.Contains(tried, s.members[i].host) {
			return i
		}
	}
	var left uint64
	for i := range s.members {
		if i != one && !slices.Contains(tried, s.members[i].host) {
			left += s.members[i].length
		}
	}
	if left == 0 {
		return -1
	}
	point := s.below(left)
	for i := range s.members {
		if i == one || slices.Contains(tried, s.members[i].host) {
			continue
		}
		if point < s.members[i].length {
			return i
		}
		point -= s.members[i].length
	}
	return -1
}

// one returns a member drawn by weight: among those not in tried if there are such, else among all; nil if there are no
// members.
func (s *shares) one(tried []*Host) *share {
	if len(s.members) == 0 {
		return nil
	}
	i := -1
	if len(tried) > 0 {
		i = s.drawUntried(tried, -1)
	}
	if i < 0 {
		i = s.draw()
	}
	return &s.members[i]
}

// two returns two different members drawn by weight, among those not in tried if there are such, else among all. The second
// is nil if there is only one to draw from; both are nil if there are no members.
func (s *shares) two(tried []*Host) (first, second *share) {
	if len(s.members) == 0 {
		return nil, nil
	}
	if len(tried) > 0 {
		if i := s.drawUntried(tried, -1); i >= 0 {
			if j := s.drawUntried(tried, i); j >= 0 {
				second = &s.members[j]
			}
			return &s.members[i], second
		}
	}
	i := s.draw()
	if len(s.members) > 1 {
		second = &s.members[s.drawBut(i)]
	}
	return &s.members[i], second
}

func gcd(a, b uint64) uint64 {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}
