package load

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestConfig_Bounds(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		change func(*Config)
		want   string // of the flags; "" = valid
	}{
		"defaults":            {func(c *Config) {}, ""},
		"host name":           {func(c *Config) { c.Target = "localhost:80" }, ""},
		"IPv6":                {func(c *Config) { c.Target = "[::1]:80" }, ""},
		"no target":           {func(c *Config) { c.Target = "" }, `--target: "", want host:port`},
		"target without port": {func(c *Config) { c.Target = "127.0.0.1" }, `--target: "127.0.0.1", want host:port`},
		"target port 0":       {func(c *Config) { c.Target = "127.0.0.1:0" }, `--target: "127.0.0.1:0", want host:port`},
		"target port 65536":   {func(c *Config) { c.Target = "a:65536" }, `--target: "a:65536", want host:port`},
		"target without host": {func(c *Config) { c.Target = ":80" }, `--target: ":80", want host:port`},
		"baseline":            {func(c *Config) { c.Baseline = "x" }, `--baseline: "x", want host:port`},
		"mode":                {func(c *Config) { c.Mode = "duplex" }, `--mode: "duplex", want unary, client, server or bidi`},
		"duration 0":          {func(c *Config) { c.Duration = 0 }, "--duration: 0s, want more than 0 and at most 10m0s"},
		"duration 11m":        {func(c *Config) { c.Duration = 11 * time.Minute }, "--duration: 11m0s, want more than 0 and at most 10m0s"},
		"duration 10m":        {func(c *Config) { c.Duration = 10 * time.Minute }, ""},
		"warmup 0":            {func(c *Config) { c.Warmup = 0 }, ""},
		"warmup -1":           {func(c *Config) { c.Warmup = -1 }, "--warmup: -1ns, want 0s to 1m0s"},
		"connections 0":       {func(c *Config) { c.Connections = 0 }, "--connections: 0, want 1 to 1024"},
		"connections 1025":    {func(c *Config) { c.Connections = 1025 }, "--connections: 1025, want 1 to 1024"},
		"connections idle":    {func(c *Config) { c.Connections = 65 }, "--connections: 65, want at most the concurrency, 64"},
		"concurrency 0":       {func(c *Config) { c.Concurrency = 0 }, "--concurrency: 0, want 1 to 65536"},
		"concurrency 65537":   {func(c *Config) { c.Concurrency = 65537 }, "--concurrency: 65537, want 1 to 65536"},
		"concurrency 65536":   {func(c *Config) { c.Concurrency = 65536 }, ""},
		"size 0":              {func(c *Config) { c.SizeBytes = 0 }, ""},
		"size -1":             {func(c *Config) { c.SizeBytes = -1 }, "--size: -1, want 0 to 67108864"},
		"size 64 MiB + 1":     {func(c *Config) { c.SizeBytes = 64<<20 + 1 }, "--size: 67108865, want 0 to 67108864"},
		"size 64 MiB":         {func(c *Config) { c.SizeBytes = 64 << 20 }, ""},
		"too much in flight": {func(c *Config) { c.SizeBytes, c.Concurrency = 64<<20, 65 },
			"--size: 67108864 with concurrency 65, want at most 4294967296 bytes in flight"},
		"messages 0":   {func(c *Config) { c.Messages = 0 }, "--messages: 0, want 1 to 1000000"},
		"rate -1":      {func(c *Config) { c.RatePerSecond = -1 }, "--rate: -1, want 0 to 1000000"},
		"rate 1000001": {func(c *Config) { c.RatePerSecond = 1_000_001 }, "--rate: 1000001, want 0 to 1000000"},
		"all at once": {func(c *Config) { c.Target, c.SizeBytes, c.RatePerSecond = "", -1, -1 },
			`--target: "", want host:port; --size: -1, want 0 to 67108864; --rate: -1, want 0 to 1000000`},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := Defaults()
			cfg.Target = "127.0.0.1:8888"
			tc.change(&cfg)
			err := cfg.Validate()
			if tc.want == "" {
				require.NoError(t, err)
				return
			}
			var bad *ConfigError
			require.ErrorAs(t, err, &bad)
			require.Equal(t, tc.want, bad.Flags())
		})
	}
}

func TestRun_ChecksItsConfig(t *testing.T) {
	t.Parallel()
	_, err := Run(t.Context(), Config{}, nil)
	var bad *ConfigError
	require.ErrorAs(t, err, &bad)
	require.Contains(t, bad.Error(), `target: "", want host:port; mode: "", want`)
}
