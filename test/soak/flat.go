package soak

import (
	"fmt"
	"slices"
)

// series is one figure over the time of a run.
type series struct {
	name   string
	unit   string
	per    int64 // values are divided by it to be shown in unit
	slack  int64 // growth that is always allowed
	values []int64
}

// maxGrowth is how much the median of a run's last third may be above that of the second, as a share. The first third does
// not count, because pools and caches fill up in it.
const maxGrowth = 0.10

// medians returns the medians of the three thirds of the run.
func (s series) medians() (m [3]int64) {
	for i := range m {
		third := slices.Clone(s.values[i*len(s.values)/3 : (i+1)*len(s.values)/3])
		if len(third) == 0 {
			continue
		}
		slices.Sort(third)
		m[i] = third[len(third)/2]
	}
	return m
}

// checkFlat returns an error if the figure has grown by more than maxGrowth and slack.
func (s series) checkFlat() error {
	m := s.medians()
	if len(s.values) < 3 || m[1] == 0 {
		return fmt.Errorf("soak: %s: %d samples with a median of %d, want some of each third", s.name, len(s.values), m[1])
	}
	if bound := int64(float64(m[1])*(1+maxGrowth)) + s.slack; m[2] > bound {
		return fmt.Errorf("soak: %s grows: median %d %s in the last third, %d in the second, want %d at most",
			s.name, m[2]/s.per, s.unit, m[1]/s.per, bound/s.per)
	}
	return nil
}

func (s series) String() string {
	m := s.medians()
	line := fmt.Sprintf("%-12s medians of the thirds %d, %d, %d %s", s.name, m[0]/s.per, m[1]/s.per, m[2]/s.per, s.unit)
	if len(s.values) > 0 {
		line += fmt.Sprintf("; from %d to %d", slices.Min(s.values)/s.per, slices.Max(s.values)/s.per)
	}
	return line
}
