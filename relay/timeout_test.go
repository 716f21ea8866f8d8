package relay

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestTimeout_ParsesWhatGRPCAllows(t *testing.T) {
	for v, want := range map[string]time.Duration{
		"1n": 1, "0n": 0, "99999999n": 99999999, "20u": 20 * time.Microsecond, "100m": 100 * time.Millisecond, "1S": time.Second,
		"00000001S": time.Second, "2M": 2 * time.Minute, "3H": 3 * time.Hour, "99999999H": maxDuration, "99999999M": 99999999 * time.Minute,
	} {
		d, ok := parseTimeout(v)
		require.True(t, ok, v)
		require.Equal(t, want, d, v)
	}
	for _, v := range []string{"", "S", "1", "1s", "1h", "-1S", "+1S", "1.5S", " 1S", "1S ", "123456789S", "1SS", "\x001S", "¹S"} {
		_, ok := parseTimeout(v)
		require.False(t, ok, "%q", v)
	}
}

func TestTimeout_FormatsInTheFinestUnitThatHasRoom(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-time.Second: "1n", 0: "1n", 1: "1n", 99999999: "99999999n", 100000000: "100000u", 100000001: "100001u",
		time.Second: "1000000u", time.Hour: "3600000m", 1000 * time.Hour: "3600000S", maxDuration: "2562048H",
	} {
		require.Equal(t, want, formatTimeout(d), d.String())
		back, ok := parseTimeout(want)
		require.True(t, ok)
		require.GreaterOrEqual(t, back, d)
	}
}

func FuzzTimeout(f *testing.F) {
	f.Add(int64(0))
	f.Add(int64(1e18))
	f.Fuzz(func(t *testing.T, n int64) {
		v := formatTimeout(time.Duration(n))
		d, ok := parseTimeout(v)
		require.True(t, ok, v)
		require.LessOrEqual(t, len(v), maxTimeoutDigits+1)
		require.GreaterOrEqual(t, d, time.Duration(n))
		require.LessOrEqual(t, float64(d), max(1, float64(n))*1.00001+1)
	})
}
