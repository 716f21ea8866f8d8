package chaos

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A backend dies without a word, and stays dead.

func TestKill_NewCallsAreGoodAfterTwoSeconds(t *testing.T) {
	t.Parallel()
	backends := three(t)
	s := beginLoad(t, inFlight, defaults, asServers(backends)...)
	s.fault(backends[0].Kill)
	s.end(after)
	s.wantShare(s.from(settled), 0.999)
	require.Zero(t, s.report.Summary(s.faulted.Add(settled)).Broken, "streams that broke later than 2 s after the fault")
	require.Zero(t, s.streams().Stalled, "streams that stalled")
}

// onTheWay is how long before and after the end of a process a call may be between framegate and it, also in its socket,
// unread: what was sent then may have been seen, as far as framegate can know. It is as long as a call of that delay has
// taken beyond it until then, which on a loaded machine is longer than what is ample on another.
func (s *scenario) onTheWay(delay time.Duration) time.Duration {
	longest := 50 * time.Millisecond
	for _, c := range s.report.Calls {
		if c.Ended.Before(s.faulty) {
			longest = max(longest, c.Ended.Sub(c.Begun)-delay)
		}
	}
	return longest
}

func TestKill_WithRetryOnlyCallsThatTheKilledBackendSawAreLost(t *testing.T) {
	t.Parallel()
	// Each server has some thirteen calls at any time, however slow the machine is, so that there are some to lose.
	const delay = 400 * time.Millisecond
	backends := three(t)
	s := beginLoad(t, LoadConfig{Delay: delay}, retrying, asServers(backends)...)
	s.fault(backends[0].Kill)
	s.end(after)
	killed := backends[0].Seen()
	unseen := func(name string, in func(Call) bool) Window {
		return s.report.Where(name, func(c Call) bool { return killed[c.ID] == 0 && !c.Begun.Before(s.begun) && in(c) })
	}
	onTheWay := s.onTheWay(delay)
	isOnTheWay := func(c Call) bool {
		return c.Begun.After(s.faulty.Add(-onTheWay)) && c.Begun.Before(s.faulted.Add(onTheWay))
	}
	sent := unseen("unseen, on the way", isOnTheWay)
	rest := unseen("unseen, others", func(c Call) bool { return !isOnTheWay(c) })
	held := s.report.Where("seen by the killed", func(c Call) bool {
		return killed[c.ID] > 0 && !c.Ended.Before(s.faulty)
	})
	for _, w := range []Window{held, sent, rest} {
		t.Log(w)
	}
	require.Positive(t, held.Calls, "calls that the backend had when it was killed")
	s.wantNoneLost(rest)
	require.LessOrEqual(t, sent.Lost(), sent.Calls/2, "calls lost on the way, of which a third went there: %s", sent)
	s.wantNoneLost(s.from(onTheWay))
}

func TestKill_WithCodesListedNoUnaryCallIsLost(t *testing.T) {
	t.Parallel()
	repeating.inBothModes(t, func(t *testing.T, p plan) {
		backends := three(t)
		s := beginLoad(t, inFlight, p, asServers(backends)...)
		s.fault(backends[0].Kill)
		s.end(after)
		s.wantNoneLost(s.all())
	})
}
