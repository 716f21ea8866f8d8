package policy

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestPolicy_TakesWhatIsLeftOutFromTheGateway(t *testing.T) {
	base := Policy{
		Connections: Connections{2, 8}, StreamsPerConnection: 256, WhenFull: WhenFullGrow, ConnectTimeout: time.Second, IdleTimeout: time.Minute,
		MaxAge: time.Hour, Backoff: Backoff{100 * time.Millisecond, 2 * time.Second}, Keepalive: Keepalive{30 * time.Second, 20 * time.Second},
		StreamWindow: 256 << 10, ConnectionWindow: 1 << 20, MaxHeaderBytes: 64 << 10,
	}
	require.Equal(t, base, Policy{}.WithDefaultsFrom(base))
	whole := Policy{
		Connections: Connections{1, 4}, StreamsPerConnection: 100, WhenFull: WhenFullFail, ConnectTimeout: 2 * time.Second, IdleTimeout: time.Hour,
		MaxAge: 2 * time.Hour, Backoff: Backoff{time.Second, time.Minute}, Keepalive: Keepalive{time.Minute, time.Second},
		StreamWindow: 70_000, ConnectionWindow: 80_000, MaxHeaderBytes: 5000,
	}
	require.Equal(t, whole, whole.WithDefaultsFrom(base))
	for name, c := range map[string]struct{ says, changed Policy }{
		"more at least than the gateway's most":   {Policy{Connections: Connections{Min: 9}}, Policy{Connections: Connections{9, 9}}},
		"less at most than the gateway's least":   {Policy{Connections: Connections{Max: 1}}, Policy{Connections: Connections{1, 1}}},
		"a base beyond the gateway's maximum":     {Policy{Backoff: Backoff{Base: 3 * time.Second}}, Policy{Backoff: Backoff{3 * time.Second, 3 * time.Second}}},
		"a maximum below the gateway's base":      {Policy{Backoff: Backoff{Max: 50 * time.Millisecond}}, Policy{Backoff: Backoff{50 * time.Millisecond, 50 * time.Millisecond}}},
		"a stream's window beyond a connection's": {Policy{StreamWindow: 2 << 20}, Policy{StreamWindow: 2 << 20, ConnectionWindow: 2 << 20}},
		"a connection's window below a stream's":  {Policy{ConnectionWindow: 70_000}, Policy{StreamWindow: 70_000, ConnectionWindow: 70_000}},
	} {
		require.Equal(t, c.changed.WithDefaultsFrom(base), c.says.WithDefaultsFrom(base), name)
		got := c.says.WithDefaultsFrom(base)
		require.Empty(t, got.Problems(), name)
		require.LessOrEqual(t, got.Connections.Min, got.Connections.Max, name)
		require.LessOrEqual(t, got.Backoff.Base, got.Backoff.Max, name)
		require.LessOrEqual(t, got.StreamWindow, got.ConnectionWindow, name)
	}
	never := Policy{MaxAge: -1, Keepalive: Keepalive{Time: -1}, IdleTimeout: -1}
	merged := never.WithDefaultsFrom(base)
	require.Equal(t, []time.Duration{-1, -1, -1}, []time.Duration{merged.MaxAge, merged.Keepalive.Time, merged.IdleTimeout}, "never stays never")
}

func TestPolicy_ValidateNamesFieldValueAndBound(t *testing.T) {
	for want, cfg := range map[string]Policy{
		"connections.min: -1, want 1 to 1024":                                              {Connections: Connections{Min: -1}},
		"connections.min: 9, want at most connections.max (8)":                             {Connections: Connections{9, 8}},
		"connections.max: -1, want 1 to 1024":                                              {Connections: Connections{Max: -1}},
		"connections.max: 1025, want 1 to 1024":                                            {Connections: Connections{Max: 1025}},
		`when_full: "Wait", want wait, fail or grow`:                                       {WhenFull: "Wait"},
		"max_age: 999ms, want 1s to 8760h0m0s, or less than 0s (never)":                    {MaxAge: 999 * time.Millisecond},
		"backoff.base: 1µs, want 1ms to 8760h0m0s":                                         {Backoff: Backoff{Base: time.Microsecond}},
		"backoff.max: 1s, want backoff.base (2s) to 8760h0m0s":                             {Backoff: Backoff{Base: 2 * time.Second, Max: time.Second}},
		"streams_per_connection: -3, want 1 to 1048576":                                    {StreamsPerConnection: -3},
		"connect_timeout: -1s, want 1ms to 8760h0m0s":                                      {ConnectTimeout: -time.Second},
		"keepalive.time: 10ms, want 1s to 8760h0m0s, or less than 0s (never)":              {Keepalive: Keepalive{Time: 10 * time.Millisecond}},
		"idle_timeout: 1ns, want 1ms to 8760h0m0s, or less than 0s (never)":                {IdleTimeout: 1},
		"backoff.max: 2562047h47m16.854775807s, want backoff.base (1ms) to 8760h0m0s":      {Backoff: Backoff{Max: math.MaxInt64}}, // doubled, it would be less than 0
		"max_age: 2562047h47m16.854775807s, want 1s to 8760h0m0s, or less than 0s (never)": {MaxAge: math.MaxInt64},                // a tenth more would be in the past
		"keepalive.timeout: 1ms, want 1s to 8760h0m0s":                                     {Keepalive: Keepalive{Timeout: time.Millisecond}},
		"stream_window: 65534, want 65535 to 2147483647":                                   {StreamWindow: 65534},
		"stream_window: 2147483648, want 65535 to 2147483647\n" +
			"connection_window: 2147483648, want 65535 to 2147483647": {StreamWindow: 1 << 31, ConnectionWindow: 1 << 31},
		"connection_window: 100000, want at least stream_window (262144)": {StreamWindow: 262144, ConnectionWindow: 100000},
		"max_header_bytes: 4095, want 4096 to 2147483647":                 {MaxHeaderBytes: 4095},
	} {
		t.Run(want, func(t *testing.T) {
			require.EqualError(t, cfg.Validate(), want)
		})
	}
	for name, cfg := range map[string]Policy{
		"nothing":               {},
		"never":                 {MaxAge: -1, IdleTimeout: -1, Keepalive: Keepalive{Time: -1}},
		"the gateway's default": Default(),
		"the least": {
			Connections: Connections{Max: 1}, StreamsPerConnection: 1, WhenFull: WhenFullFail, ConnectTimeout: time.Millisecond, IdleTimeout: -1, MaxAge: time.Second,
			Backoff:      Backoff{Base: time.Millisecond, Max: time.Millisecond},
			Keepalive:    Keepalive{Time: time.Second, Timeout: time.Second},
			StreamWindow: 65535, ConnectionWindow: 65535, MaxHeaderBytes: 4096,
		},
		"the most": {Connections: Connections{1024, 1024}, Backoff: Backoff{Base: time.Hour}, StreamWindow: 1<<31 - 1, ConnectionWindow: 1<<31 - 1, MaxHeaderBytes: 1<<31 - 1},
	} {
		t.Run(name, func(t *testing.T) { require.NoError(t, cfg.Validate()) })
	}
}

func TestPolicy_ValidateReportsEverythingAtOnce(t *testing.T) {
	err := Policy{
		Connections: Connections{-1, -1}, StreamsPerConnection: -1, WhenFull: "x", ConnectTimeout: -1, MaxAge: 1, Backoff: Backoff{Base: -1, Max: -2},
		Keepalive: Keepalive{Time: 1, Timeout: 1}, StreamWindow: 1, ConnectionWindow: 1<<31 - 1, MaxHeaderBytes: 1,
	}.Validate()
	require.Error(t, err)
	require.Len(t, strings.Split(err.Error(), "\n"), 12)
}

func TestPolicy_BackoffDoublesUpToMaxAndTakesUpToAQuarterOff(t *testing.T) {
	b := Backoff{Base: 100 * time.Millisecond, Max: 2 * time.Second}
	for i, want := range []time.Duration{100, 200, 400, 800, 1600, 2000, 2000} {
		want *= time.Millisecond
		require.Equal(t, want, b.After(i+1, 0))
		require.Equal(t, want-want/8, b.After(i+1, 0.5))
		require.Greater(t, b.After(i+1, 0.999), want-want/4)
	}
	require.Equal(t, b.Max, b.After(1<<40, 0))
	require.Equal(t, time.Duration(1<<62), Backoff{Base: 1, Max: 1 << 62}.After(100, 0))
}
