package balance

import (
	"math"
	"math/bits"
	"slices"
)

// shares lays the members that take calls side by side on a line of whole numbers, each as long as its share. A point
// of the line is a member; a point drawn at random is a member drawn by weight. It is immutable.
type shares struct {
	members []share
	total   uint64 // length of the line, at most maxLine
	// cells has, for each piece of 1<<shift points, the member of its first point; one more at the end has the last
	// member. There are twice to four times as many pieces as members, so that most are of one or two members.
	cells  []uint32
	shift  uint
	random func() uint64
}

type share struct {
	host   *Host
	weight float64
	from   uint64 // where its part of the line begins
	length uint64 // of its part, at least 1
}

const (
	// maxLine leaves room to multiply two points in 128 bits, and is fine enough for weights from 1 to 1,000,000 of
	// thousands of members to the last digit.
	maxLine = 1 << 48
	// maxWeight keeps sums of weights finite.
	maxWeight = 1e15
)

// weightOf returns the weight that counts: 0 for a member without a place.
func (m *Member) weightOf() float64 {
	if m.Host == nil || !(m.Weight > 0) { // not a number is no weight either
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

// measureWhole sets the lengths to the weights in lowest terms, so that a cycle is as short as can be and exact. It
// reports whether that is possible: they are whole numbers, or all alike.
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

// measureScaled sets the lengths to the nearest that make a line of maxLine. As this is the same for all weights, a
// position on the line keeps its meaning while weights change a little, as they do during a slow start.
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
	longest.length += maxLine - total // what rounding has left, at most about one per member; it may be negative
}

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

// at returns the member of a point, which is less than total.
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
	// The error of taking the high half is n/2^64, which is nothing to see at n up to maxLine.
	high, _ := bits.Mul64(s.random(), n)
	return high
}

// draw returns a member drawn by weight; there must be one.
func (s *shares) draw() int { return s.at(s.below(s.total)) }

// drawBut is draw among all but one member; there must be two.
func (s *shares) drawBut(one int) int {
	m := &s.members[one]
	point := s.below(s.total - m.length)
	if point >= m.from {
		point += m.length
	}
	return s.at(point)
}

// redraws is how often a member that was tried is drawn again. Then they are all looked at.
const redraws = 4

// drawUntried is draw among those that are not in tried, and not the one (-1: none is left out for that). It returns -1
// if there are none.
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

// one returns a member drawn by weight, one that is not in tried if there is one; nil if there are no members.
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

// two returns two members drawn by weight, the second among all but the first. Both are not in tried if there are two
// such. If there is but one to choose, the second is nil; if there are no members, both are.
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
