package chaos

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
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

// A backend begins each answer and then resets the stream: the caller may have part of an answer, so nothing can be
// sent again. Five failures in a row eject the endpoint: calls that begin when five have ended go elsewhere.
func TestReset_EjectsTheEndpoint(t *testing.T) {
	t.Parallel()
	const failures = 5
	raw := NewRaw(t, RawConfig{})
	s := begin(t, defaults, asServers(three(t)[:2], raw)...)
	s.fault(func() { raw.Become(Resets) })
	s.end(after)
	s.wantShare(s.from(time.Second), 0.999)
	var ended []time.Time // of the calls that were lost
	for _, c := range s.report.Calls {
		if c.Code != codes.OK {
			ended = append(ended, c.Ended)
		}
	}
	slices.SortFunc(ended, time.Time.Compare)
	require.GreaterOrEqual(t, len(ended), failures)
	s.wantNoneLost(s.report.Between("after the ejection", ended[failures-1].Add(50*time.Millisecond), s.ended))
}
