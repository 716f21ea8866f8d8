package handler

import "testing"

// The timer of a time that is over at once may fire before the line after the one that starts it.
func TestIdleWatch_StartsItsTimerWhenItIsReady(t *testing.T) {
	t.Parallel()
	for range 20_000 {
		newIdleTimer(&call{}, 1).stop()
	}
}
