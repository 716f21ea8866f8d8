package etcdclient

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestJitter_StaysWithinAQuarter(t *testing.T) {
	for range 1000 {
		d := Jitter(time.Second)
		require.GreaterOrEqual(t, d, 750*time.Millisecond)
		require.Less(t, d, 1250*time.Millisecond)
	}
}
