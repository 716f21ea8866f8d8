package balance

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestHost_CountsWhatIsUnderWay(t *testing.T) {
	h := NewHost("10.0.0.1:80")
	require.Equal(t, "10.0.0.1:80", h.Address())
	h.Begin()
	h.Begin()
	h.End()
	require.Equal(t, 1, h.Active())
}

// clocked returns a host that a PeakEWMA picker of this decay has, and its clock.
func clocked(address string, decay time.Duration) (*Host, *time.Duration) {
	now := new(time.Duration)
	h := newHost(address, func() time.Duration { return *now })
	New(Policy{Kind: PeakEWMA, Decay: decay}, []Member{{Host: h, Weight: 1}}, nil)
	return h, now
}

func TestHost_FollowsALongerLatencyAtOnceAndAShorterOneSlowly(t *testing.T) {
	h, now := clocked("a", 10*time.Second)
	estimate := func() time.Duration {
		peak, _ := h.latency()
		return time.Duration(math.Round(peak))
	}
	require.Zero(t, estimate())
	h.Answered(10 * time.Millisecond)
	require.Equal(t, 10*time.Millisecond, estimate(), "the first answer")
	h.Answered(100 * time.Millisecond)
	require.Equal(t, 100*time.Millisecond, estimate(), "a longer one")
	h.Answered(10 * time.Millisecond)
	require.Equal(t, 100*time.Millisecond, estimate(), "a shorter one in the same moment")

	*now += 10 * time.Second
	h.Answered(10 * time.Millisecond)
	afterDecay := 10*time.Millisecond + time.Duration(math.Round(90e6/math.E))
	require.Equal(t, afterDecay, estimate(), "a shorter one after Decay")

	// Many samples come to the same as one: how far it falls depends on the time alone.
	for range 10_000 {
		*now += time.Millisecond
		h.Answered(10 * time.Millisecond)
	}
	require.InDelta(t, 10e6+90e6/math.E/math.E, float64(estimate()), 1e3, "10,000 of them in another Decay")
}

func TestHost_LearnsNothingUntilAPeakEWMAPickerHasIt(t *testing.T) {
	h := newHost("a", func() time.Duration {
		t.Error("the clock was read")
		return 0
	})
	h.Answered(time.Second)
	peak, _ := h.latency()
	require.Zero(t, peak)
}

func TestHost_TakesALatencyThatCannotBeForTheShortest(t *testing.T) {
	h, _ := clocked("a", time.Second)
	h.Answered(-time.Second)
	peak, _ := h.latency()
	require.InDelta(t, 1, peak, 0)
}
