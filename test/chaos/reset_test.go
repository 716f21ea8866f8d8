package chaos

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A backend refuses every stream: it says that it has not looked at it, so every call is sent elsewhere.
func TestRefuse_NoCallIsLost(t *testing.T) {
	t.Parallel()
	defaults.inBothModes(t, func(t *testing.T, p plan) {
		raw := NewRaw(t, RawConfig{})
		s := begin(t, p, asServers(three(t)[:2], raw)...)
		s.fault(func() { raw.Become(Refuses) })
		s.end(after)
		t.Logf("%d streams were refused", raw.Refused())
		require.Positive(t, raw.Refused())
		s.wantNoneLost(s.all())
		s.wantStreamsWhole()
	})
}

func TestRefuse_FromTheBeginningNoCallIsLost(t *testing.T) {
	t.Parallel()
	raw := NewRaw(t, RawConfig{})
	raw.Become(Refuses)
	s := begin(t, defaults, asServers(three(t)[:2], raw)...)
	s.end(after)
	t.Logf("%d streams were refused", raw.Refused())
	require.Positive(t, raw.Refused())
	s.wantNoneLost(s.all())
	s.wantStreamsWhole()
}

// Five failures in a row eject an endpoint; those that are under way by then are lost too.
const maxLostToEjection = 25

// A backend begins each answer and then resets the stream: the caller may have part of an answer, so nothing can be
// sent again. The endpoint is ejected.
func TestReset_EjectsTheEndpoint(t *testing.T) {
	t.Parallel()
	raw := NewRaw(t, RawConfig{})
	s := begin(t, defaults, asServers(three(t)[:2], raw)...)
	s.fault(func() { raw.Become(Resets) })
	s.end(after)
	s.wantShare(s.from(time.Second), 0.999)
	require.LessOrEqual(t, s.all().Lost(), maxLostToEjection, "calls lost until the endpoint was ejected: %s", s.all())
}
