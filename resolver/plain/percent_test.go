package plain

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestPercent_IsAsGRPCWantsIt(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]string{"": "", "plain ~": "plain ~", "100%": "100%25", "ä\n\x00": "%C3%A4%0A%00"} {
		require.Equal(t, want, Percent(s))
		require.Equal(t, s, FromPercent(want))
	}
	for _, v := range []string{"%", "%4", "%zz", "100%"} {
		require.Equal(t, v, FromPercent(v))
	}
}
