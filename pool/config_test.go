package pool

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/framegate/framegate/pool/h2conn"
)

func TestConfig_ZeroMeansTheDefaults(t *testing.T) {
	require.NoError(t, Config{}.Validate())
	p := New(Config{}, discard)
	defer p.Close()
	require.Equal(t, Config{
		MaxConnections: 8, StreamsPerConnection: 256, WhenFull: WhenFullGrow,
		ConnectTimeout: 5 * time.Second, IdleTimeout: 5 * time.Minute,
		Backoff:      Backoff{Base: 100 * time.Millisecond, Max: 2 * time.Second},
		Keepalive:    h2conn.Keepalive{Timeout: 20 * time.Second}, // Time 0: never
		StreamWindow: 256 << 10, ConnectionWindow: 1 << 20, MaxHeaderBytes: 64 << 10,
	}, p.Default().cfg)
}

func TestConfig_ValidateNamesFieldValueAndBound(t *testing.T) {
	for want, cfg := range map[string]Config{
		"connections.min: -1, want 0 to connections.max (8)":                            {MinConnections: -1},
		"connections.min: 9, want 0 to connections.max (8)":                             {MinConnections: 9},
		"connections.max: -1, want 1 to 1024":                                           {MaxConnections: -1},
		"connections.max: 1025, want 1 to 1024":                                         {MaxConnections: 1025},
		`when_full: "Wait", want wait, fail or grow`:                                    {WhenFull: "Wait"},
		"max_age: 999ms, want 0s (never) or 1s to 8760h0m0s":                            {MaxAge: 999 * time.Millisecond},
		"max_age: -1s, want 0s (never) or 1s to 8760h0m0s":                              {MaxAge: -time.Second},
		"backoff.base: 1µs, want 1ms to 8760h0m0s":                                      {Backoff: Backoff{Base: time.Microsecond}},
		"backoff.max: 1s, want backoff.base (2s) to 8760h0m0s":                          {Backoff: Backoff{Base: 2 * time.Second, Max: time.Second}},
		"streams_per_connection: -3, want 1 or more":                                    {StreamsPerConnection: -3},
		"connect_timeout: -1s, want 1ms to 8760h0m0s":                                   {ConnectTimeout: -time.Second},
		"keepalive.time: 10ms, want 0s (never) or 1s to 8760h0m0s":                      {Keepalive: h2conn.Keepalive{Time: 10 * time.Millisecond}},
		"keepalive.time: -1s, want 0s (never) or 1s to 8760h0m0s":                       {Keepalive: h2conn.Keepalive{Time: -time.Second}},
		"idle_timeout: 1ns, want 1ms to 8760h0m0s, or less than 0s (never)":             {IdleTimeout: 1},
		"backoff.max: 2562047h47m16.854775807s, want backoff.base (100ms) to 8760h0m0s": {Backoff: Backoff{Max: math.MaxInt64}}, // doubled, it would be less than 0
		"max_age: 2562047h47m16.854775807s, want 0s (never) or 1s to 8760h0m0s":         {MaxAge: math.MaxInt64},                // a tenth more would be in the past
		"keepalive.timeout: 1ms, want 1s to 8760h0m0s":                                  {Keepalive: h2conn.Keepalive{Timeout: time.Millisecond}},
		"stream_window: 65534, want 65535 to 2147483647":                                {StreamWindow: 65534},
		"stream_window: 2147483648, want 65535 to 2147483647\n" +
			"connection_window: 2147483648, want stream_window (2147483648) to 2147483647": {StreamWindow: 1 << 31, ConnectionWindow: 1 << 31},
		"connection_window: 100000, want stream_window (262144) to 2147483647": {ConnectionWindow: 100000},
		"max_header_bytes: 4095, want at least 4096":                           {MaxHeaderBytes: 4095},
	} {
		t.Run(want, func(t *testing.T) {
			require.EqualError(t, cfg.Validate(), want)
		})
	}
	for name, cfg := range map[string]Config{
		"the least": {
			MaxConnections: 1, StreamsPerConnection: 1, WhenFull: WhenFullFail, ConnectTimeout: time.Millisecond, IdleTimeout: -1, MaxAge: time.Second,
			Backoff:      Backoff{Base: time.Millisecond, Max: time.Millisecond},
			Keepalive:    h2conn.Keepalive{Time: time.Second, Timeout: time.Second},
			StreamWindow: 65535, ConnectionWindow: 65535, MaxHeaderBytes: 4096,
		},
		"the most": {MinConnections: 1024, MaxConnections: 1024, Backoff: Backoff{Base: time.Hour}, StreamWindow: 1<<31 - 1, ConnectionWindow: 1<<31 - 1, MaxHeaderBytes: 1<<32 - 1},
	} {
		t.Run(name, func(t *testing.T) { require.NoError(t, cfg.Validate()) })
	}
}

func TestConfig_ValidateReportsEverythingAtOnce(t *testing.T) {
	err := Config{
		MinConnections: -1, MaxConnections: -1, StreamsPerConnection: -1, WhenFull: "x", ConnectTimeout: -1, MaxAge: -1, Backoff: Backoff{Base: -1, Max: -2},
		Keepalive: h2conn.Keepalive{Time: 1, Timeout: 1}, StreamWindow: 1, ConnectionWindow: 1<<31 - 1, MaxHeaderBytes: 1,
	}.Validate()
	require.Error(t, err)
	require.Len(t, strings.Split(err.Error(), "\n"), 12)
}
