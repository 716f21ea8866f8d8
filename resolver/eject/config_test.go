package eject

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestConfig_ZeroMeansTheDefaults(t *testing.T) {
	require.NoError(t, Config{}.Validate())
	require.Equal(t, Config{
		ConsecutiveFailures: 5, FailurePercent: 0, MinCalls: 20, Window: 10 * time.Second,
		BaseTime: 10 * time.Second, MaxTime: 5 * time.Minute, MaxPercent: 50,
	}, Config{}.withDefaults())
	require.Equal(t, time.Hour, Config{BaseTime: time.Hour}.withDefaults().MaxTime, "no less than base_time")
	require.Equal(t, Off, Config{ConsecutiveFailures: Off}.withDefaults().ConsecutiveFailures)
}

func TestConfig_ValidateNamesKeyValueAndBound(t *testing.T) {
	for want, cfg := range map[string]Config{
		"consecutive_failures: -2, want 1 to 1000000, or -1 (off)":          {ConsecutiveFailures: -2},
		"failure_percent: -1, want 0 (off) to 100":                          {FailurePercent: -1},
		"failure_percent: 101, want 0 (off) to 100":                         {FailurePercent: 101},
		"min_calls: -1, want 1 to 1000000":                                  {MinCalls: -1},
		"window: 999ms, want 1s to 10m0s":                                   {Window: 999 * time.Millisecond},
		"window: 11m0s, want 1s to 10m0s":                                   {Window: 11 * time.Minute},
		"base_time: 1ms, want 10ms to 24h0m0s":                              {BaseTime: time.Millisecond},
		"max_time: 5s, want base_time (10s) to 24h0m0s":                     {MaxTime: 5 * time.Second},
		"max_time: 25h0m0s, want base_time (10s) to 24h0m0s":                {MaxTime: 25 * time.Hour},
		"max_percent: -1, want 1 to 100":                                    {MaxPercent: -1},
		"max_percent: 101, want 1 to 100":                                   {MaxPercent: 101},
		"min_calls: -3, want 1 to 1000000\nmax_percent: 200, want 1 to 100": {MinCalls: -3, MaxPercent: 200},
	} {
		require.EqualError(t, cfg.Validate(), want)
	}
	require.NoError(t, Config{
		ConsecutiveFailures: Off, FailurePercent: 100, MinCalls: 1, Window: time.Second,
		BaseTime: 10 * time.Millisecond, MaxTime: 10 * time.Millisecond, MaxPercent: 1,
	}.Validate())
}

func TestConfig_ShareThatMayBeEjectedIsRoundedDownButOneOfTwo(t *testing.T) {
	for _, c := range []struct{ percent, members, want int }{
		{50, 0, 0}, {50, 1, 0}, {50, 2, 1}, {50, 3, 1}, {50, 4, 2}, {50, 5, 2},
		{10, 2, 1}, {10, 9, 1}, {10, 19, 1}, {10, 20, 2},
		{100, 1, 1}, {100, 3, 3}, {99, 3, 2}, {99, 1, 0}, {1, 1, 0},
	} {
		require.Equal(t, c.want, Config{MaxPercent: c.percent}.mayEject(c.members), "%+v", c)
	}
}
