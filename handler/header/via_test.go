package header

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestHops_CountsFramegatesOnly(t *testing.T) {
	for via, want := range map[string]int{
		"":                                0,
		"2 framegate":                     1,
		"2 framegate,2 framegate":         2,
		" 2  framegate ,\t1.1\tframegate": 2,
		"HTTP/2 framegate":                1,
		"1.1 proxy, 2 framegate, 1.0 b":   1,
		"2 framegate (v1, a \\) \"comment\"), 2 framegate": 2,
		"2 other (2 framegate, 2 framegate (2 framegate))": 0,
		"2 other (not closed, 2 framegate":                 0,
		"2 framegate.example.com, 2 framegate:80":          0,
		"2 xframegate, framegate, 2, ,,":                   0,
		"2 a\\, 2 framegate":                               1,
		strings.Repeat("2 framegate,", 1000):               1000,
	} {
		require.Equal(t, want, Hops([]string{via}), "%q", via)
		require.Equal(t, 2*want, Hops([]string{via, via}), "%q twice", via)
	}
}
