package relay

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// A call that is refused because there are too many costs little.
func TestRefused_Allocates(t *testing.T) {
	x := newFullEngine(t, 10)
	for range 100 { // what is kept is there then
		x.refused()
	}
	require.Zero(t, testing.AllocsPerRun(100, x.refused))
}
