package pool

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/framegate/framegate/pool/policy"
)

func TestConfig_ZeroMeansTheDefaults(t *testing.T) {
	t.Parallel()
	require.NoError(t, Config{}.Validate())
	p := New(Config{}, dialer{}, discard)
	defer p.Close()
	require.Equal(t, Config{
		Connections: policy.Connections{Max: 8}, StreamsPerConnection: 256, WhenFull: policy.WhenFullGrow,
		ConnectTimeout: 5 * time.Second, IdleTimeout: 5 * time.Minute,
		Backoff:      policy.Backoff{Base: 100 * time.Millisecond, Max: 2 * time.Second},
		Keepalive:    policy.Keepalive{Timeout: 20 * time.Second}, // Time 0: never
		StreamWindow: 256 << 10, ConnectionWindow: 1 << 20, MaxHeaderBytes: 64 << 10,
	}, p.Default().cfg)
}
