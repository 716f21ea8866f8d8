package chaos

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// pauseBetweenRestarts is how long a backend serves again before the next one is restarted.
const pauseBetweenRestarts = 300 * time.Millisecond

// restartAll ends and starts every backend, one after the other, twice.
func restartAll(s *scenario, backends []*Backend, end func(*Backend)) {
	for range 2 {
		for _, b := range backends {
			end(b)
			b.Start()
			s.load.Run(pauseBetweenRestarts)
		}
	}
}

// Backends that end as they should: calls finish, and no new ones are taken.
func TestRollingRestart_LosesNoUnaryCall(t *testing.T) {
	t.Parallel()
	backends := three(t)
	s := beginLoad(t, inFlight, defaults, asServers(backends)...)
	s.fault(func() { restartAll(s, backends, (*Backend).Terminate) })
	s.end(pauseBetweenRestarts)
	s.wantNoneLost(s.all())
	require.Zero(t, s.streams().Stalled, "streams that stalled")
}

// Backends that take a while to start: what is known of one that was away must not outlast it, when the next one goes.
func TestRollingRestart_OfSlowStartersLosesNoUnaryCall(t *testing.T) {
	t.Parallel()
	const away = 1500 * time.Millisecond
	backends := three(t)
	s := beginLoad(t, inFlight, defaults, asServers(backends)...)
	s.fault(func() {
		for _, b := range backends {
			b.Terminate()
			s.load.Run(away)
			b.Start()
			s.load.Run(pauseBetweenRestarts)
		}
	})
	s.end(pauseBetweenRestarts)
	s.wantNoneLost(s.all())
}

func TestRollingRestart_ByKillWithRetryLosesNoUnaryCall(t *testing.T) {
	t.Parallel()
	backends := three(t)
	s := beginLoad(t, inFlight, repeating, asServers(backends)...)
	s.fault(func() { restartAll(s, backends, (*Backend).Kill) })
	s.end(pauseBetweenRestarts)
	s.wantNoneLost(s.all())
	require.Zero(t, s.streams().Stalled, "streams that stalled")
}
