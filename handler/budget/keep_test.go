package budget

import (
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestKeep_HasAPartOfItsOwn(t *testing.T) {
	b := New(MinBytes)
	var one, other, unbounded Keep
	one.Of(b)
	other.Of(b)
	require.True(t, one.Hold(b.keptMax-1))
	require.False(t, other.Hold(2))
	require.True(t, other.Hold(1))
	require.EqualValues(t, b.keptMax, b.Stats().Used)
	require.False(t, one.Hold(b.keptMax))
	require.True(t, one.Hold(5), "less is always possible")
	require.True(t, other.Hold(b.keptMax-5))
	require.True(t, one.Hold(0))
	require.True(t, other.Hold(0))
	require.Zero(t, b.Stats().Used)
	require.True(t, unbounded.Hold(1<<40))

	b.small.Add(b.smallMax) // by small messages
	require.False(t, one.Hold(1))
	b.small.Add(-b.smallMax)
	require.Zero(t, b.Stats().Used)
}

func TestKeep_ManyAtOnce(t *testing.T) {
	b := New(MinBytes)
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			var k Keep
			k.Of(b)
			for i := range int64(1000) {
				k.Hold(i * b.keptMax / 4000)
			}
			k.Hold(0)
		})
	}
	wg.Wait()
	require.Zero(t, b.Stats().Used)
}
