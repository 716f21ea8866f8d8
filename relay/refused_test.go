package relay

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// newFullEngine returns an engine whose listener has max_calls.
func newFullEngine(tb testing.TB, batch int) *engine {
	x := newEngine(tb, batch, 100)
	x.open()
	x.proxy.SetMaxCalls(map[string]int{"main": 1})
	return x
}

// A call that is refused because there are too many costs little.
func TestRefused_Allocates(t *testing.T) {
	x := newFullEngine(t, 10)
	for range 100 { // what is kept is there then
		x.refused()
	}
	require.Zero(t, testing.AllocsPerRun(100, x.refused))
}
