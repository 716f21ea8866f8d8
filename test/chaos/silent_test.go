package chaos

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A process is stopped: the kernel accepts connections and bytes for it, and nothing comes back.

// stoppedNoticed is when a stopped process must have been noticed without any setting: the first calls that it does not
// answer end by their deadlines after 2 s, and five in a row are enough.
const stoppedNoticed = 3 * time.Second

func TestStopped_CallsAreGoodOnceSomeHaveTimedOut(t *testing.T) {
	t.Parallel()
	backends := three(t)
	s := begin(t, defaults, asServers(backends)...)
	s.fault(backends[0].Stop)
	s.end(stoppedNoticed + 3*time.Second)
	s.wantShare(s.from(stoppedNoticed), 0.99)
}

func TestStopped_WithHealthChecksCallsAreGoodAfterTwoSeconds(t *testing.T) {
	t.Parallel()
	backends := three(t)
	s := begin(t, checked, asServers(backends)...)
	s.fault(backends[0].Stop)
	s.end(after)
	s.wantShare(s.from(settled), 0.999)
}

func TestStopped_WithPerTryTimeoutNoCallIsLost(t *testing.T) {
	t.Parallel()
	backends := three(t)
	s := begin(t, impatient, asServers(backends)...)
	s.fault(backends[0].Stop)
	s.end(after)
	s.wantNoneLost(s.all())
}

func TestStopped_WithHedgingNoCallIsLostOrLate(t *testing.T) {
	t.Parallel()
	backends := three(t)
	s := begin(t, hedging, asServers(backends)...)
	s.fault(backends[0].Stop)
	s.end(after)
	s.wantNoneLost(s.all())
	require.Less(t, s.from(0).P99, 700*time.Millisecond, "with a second try after 100 ms")
}

// A stream on a connection that says nothing is not kept waiting: it breaks when a ping is not answered, and is opened
// again elsewhere.
func TestStopped_WithKeepaliveStreamsGoOnElsewhere(t *testing.T) {
	t.Parallel()
	const longest = 4 * time.Second
	backends := three(t)
	s := begin(t, probing, asServers(backends)...)
	s.fault(backends[0].Stop)
	s.end(longest + 2*time.Second)
	for i, st := range s.report.Streams {
		require.Less(t, st.LongestSilence, longest, "stream %d waited for an answer", i)
	}
	require.Positive(t, s.streams().Broken, "streams on the stopped backend")
}

// What was stopped for longer than a call may take, and goes on, gets calls again.
func TestStopped_GoesOnAndTakesCallsAgain(t *testing.T) {
	t.Parallel()
	backends := three(t)
	s := begin(t, returning, asServers(backends)...)
	s.fault(func() {
		backends[0].Stop()
		s.load.Run(2500 * time.Millisecond)
		backends[0].Continue()
	})
	s.end(after)
	s.wantNoneLost(s.all())
	seen := backends[0].Seen()
	late := s.from(after - time.Second)
	taken := s.report.Where("taken", func(c Call) bool {
		return seen[c.ID] > 0 && c.Begun.After(s.ended.Add(-time.Second))
	})
	require.Greater(t, taken.Calls, late.Calls/6, "calls of the last second that came to it, of %d", late.Calls)
}

// An endpoint accepts connections from the beginning and does not speak HTTP/2: no call is sent to it, so none may be
// lost to it once it is known.

// muteNoticed is when such an endpoint must have been noticed: the default connect_timeout is 5 s.
const muteNoticed = 6 * time.Second

func TestMute_CallsAreGoodOnceAConnectionHasTimedOut(t *testing.T) {
	t.Parallel()
	backends := three(t)[:2]
	s := begin(t, defaults, asServers(backends, NewMute(t))...)
	s.end(muteNoticed + 3*time.Second)
	s.wantShare(s.from(muteNoticed), 0.99)
}

// With a connect_timeout below the deadline each call is sent elsewhere: no server can have seen it.
func TestMute_WithShortConnectTimeoutNoCallIsLost(t *testing.T) {
	t.Parallel()
	backends := three(t)[:2]
	s := begin(t, connectingFast, asServers(backends, NewMute(t))...)
	s.end(after)
	s.wantNoneLost(s.all())
	s.wantStreamsWhole()
}

func TestMute_WithPerTryTimeoutNoCallIsLost(t *testing.T) {
	t.Parallel()
	backends := three(t)[:2]
	s := begin(t, impatient, asServers(backends, NewMute(t))...)
	s.end(after)
	s.wantNoneLost(s.all())
}
