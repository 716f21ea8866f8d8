package spec

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestBackoff_WaitGrowsToItsMaximum(t *testing.T) {
	for n, most := range map[int]time.Duration{1: 10 * time.Millisecond, 2: 20 * time.Millisecond, 3: 35 * time.Millisecond, 1000: 35 * time.Millisecond} {
		longest := time.Duration(0)
		for range 1000 {
			longest = max(longest, Backoff{Base: 10 * time.Millisecond, Max: 35 * time.Millisecond}.Wait(n))
		}
		require.LessOrEqual(t, longest, most)
		require.Greater(t, longest, most*9/10)
	}
	require.LessOrEqual(t, Backoff{}.Wait(1), 25*time.Millisecond)
	require.LessOrEqual(t, Backoff{Base: maxBackoff, Max: maxBackoff}.Wait(math.MaxInt), maxBackoff)
}
