package balance

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestShares_FindsTheMemberOfEveryPoint(t *testing.T) {
	for _, weights := range [][]float64{
		{1}, {1, 1}, {5, 1, 1}, {1, 100, 1}, {1000, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1}, {3, 9, 27, 81, 243},
	} {
		s := newShares(weighted(weights...), seeded(1))
		var point uint64
		for i, m := range s.members {
			for range m.length {
				require.Equal(t, i, s.at(point), "point %d of %v", point, weights)
				point++
			}
		}
		require.Equal(t, s.total, point)
	}
}

func TestShares_OfWeightsThatAreNotWholeNumbersFillTheSameLine(t *testing.T) {
	for _, weights := range [][]float64{{0.1, 0.2, 0.7}, {1e-300, 1, 1e300}, {1e15, 1e15, 1, 1}} {
		s := newShares(weighted(weights...), seeded(1))
		require.Equal(t, uint64(maxLine), s.total, "%v", weights)
		for i, m := range s.members {
			require.Equal(t, i, s.at(m.from), "%v", weights)
			require.Equal(t, i, s.at(m.from+m.length-1), "%v", weights)
		}
	}
}
