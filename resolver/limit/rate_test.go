package limit

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestRate_ValidateNamesKeyValueAndBound(t *testing.T) {
	for want, r := range map[string]Rate{
		"calls_per_second: 0, want 0.001 to 1000000":                                                              {},
		"calls_per_second: -1, want 0.001 to 1000000":                                                             {PerSecond: -1},
		"calls_per_second: NaN, want 0.001 to 1000000":                                                            {PerSecond: math.NaN()},
		"calls_per_second: +Inf, want 0.001 to 1000000":                                                           {PerSecond: math.Inf(1)},
		"calls_per_second: 0.0009, want 0.001 to 1000000":                                                         {PerSecond: 0.0009},
		"calls_per_second: 1.000001e+06, want 0.001 to 1000000":                                                   {PerSecond: 1_000_001},
		"burst: -1, want 0 (calls_per_second, rounded up) to 1000000":                                             {PerSecond: 1, Burst: -1},
		"burst: 1000001, want 0 (calls_per_second, rounded up) to 1000000":                                        {PerSecond: 1, Burst: 1_000_001},
		"calls_per_second: 0, want 0.001 to 1000000\nburst: -5, want 0 (calls_per_second, rounded up) to 1000000": {Burst: -5},
	} {
		require.EqualError(t, r.Validate(), want)
		_ = NewBuckets(r, 1) // does not panic
		ok, _ := NewBucket(r).Allow(time.Now())
		require.True(t, ok, "%+v: a bucket always has one token", r)
	}
	require.NoError(t, Rate{PerSecond: MinPerSecond, Burst: MaxBurst}.Validate())
	require.NoError(t, Rate{PerSecond: MaxPerSecond, Burst: 0}.Validate())
}

// The extremes stay within 64 bits.
func TestRate_NoTimeOverflows(t *testing.T) {
	p := Rate{PerSecond: MinPerSecond, Burst: MaxBurst}.pace()
	require.Positive(t, p.slack)
	full, wait := p.take(int64(1<<62), 0)
	require.Positive(t, wait)
	require.Equal(t, int64(1<<62), full)
	require.Positive(t, p.slack+p.every)
}
