package load

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestPacer_DueBeforeIsTheInverseOfAt(t *testing.T) {
	t.Parallel()
	for _, rate := range []int{1, 3, 7, 1000, 999_983, MaxRatePerSecond} {
		p := newPacer(newWindow(MaxWarmup, MaxDuration), rate)
		last := p.dueBefore(p.window.close)
		for _, n := range []int64{0, 1, 2, 10, 659, last / 2, last - 1} {
			if n < last {
				require.Equal(t, n, p.dueBefore(p.at(n)), "rate %d call %d", rate, n)
				require.Equal(t, n+1, p.dueBefore(p.at(n).Add(1)), "rate %d call %d", rate, n)
			}
		}
		require.True(t, p.at(last-1).Before(p.window.close))
		require.False(t, p.at(last).Before(p.window.close))
		require.EqualValues(t, 660*rate, last)
	}
}

func TestPacer_HandsOutEveryCallOnceAndNotEarly(t *testing.T) {
	t.Parallel()
	w := newWindow(0, 20*time.Millisecond)
	p := newPacer(w, 1000)
	go p.run(t.Context()) // ends with the window
	var n int64
	for due := range p.due {
		require.False(t, time.Now().Before(due))
		require.Equal(t, p.at(n), due)
		n++
	}
	require.EqualValues(t, 20, n)
	require.Zero(t, p.unsent)
}

func TestPacer_CountsWhatNobodyTook(t *testing.T) {
	t.Parallel()
	w := newWindow(10*time.Millisecond, 20*time.Millisecond)
	p := newPacer(w, 1000)
	slice, cancel := context.WithDeadline(t.Context(), w.close)
	defer cancel()
	p.run(slice)
	require.EqualValues(t, 20, p.unsent, "those of the warm-up do not count")
}
