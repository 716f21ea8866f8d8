package chaos

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// goAwayEvery is after how many calls a backend ends a connection gracefully: some times a second.
var goAwayEvery = rate / 4

// A backend ends each connection gracefully every few calls: those that it has accepted finish, the others it has not seen.
func TestGoAway_EveryFewCallsNoneIsLost(t *testing.T) {
	t.Parallel()
	defaults.inBothModes(t, func(t *testing.T, p plan) {
		raw := NewRaw(t, RawConfig{GoAwayEvery: goAwayEvery})
		s := begin(t, p, asServers(three(t)[:2], raw)...)
		s.end(after)
		t.Logf("%d times GOAWAY", raw.GoAways())
		require.Greater(t, raw.GoAways(), 3)
		s.wantNoneLost(s.all())
		s.wantStreamsWhole()
	})
}

// All backends do that.
func TestGoAway_FromAllNoCallIsLost(t *testing.T) {
	t.Parallel()
	leaving := RawConfig{GoAwayEvery: goAwayEvery}
	s := begin(t, defaults, NewRaw(t, leaving), NewRaw(t, leaving), NewRaw(t, leaving))
	s.end(after)
	s.wantNoneLost(s.all())
	s.wantStreamsWhole()
}
