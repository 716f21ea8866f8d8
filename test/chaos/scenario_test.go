package chaos

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/framegate/framegate/test/race"
	"github.com/framegate/framegate/test/testbed"
)

const (
	warmUp = 700 * time.Millisecond  // not counted: connections are made
	before = 1500 * time.Millisecond // what is counted before the fault
	after  = 4500 * time.Millisecond // what is counted from the fault on, if the scenario says nothing else

	// settled is how long after a fault callers may notice it.
	settled = 2 * time.Second
)

// rate is how many unary calls a second a scenario makes. Several run side by side, see TestMain, and with the race detector a
// call takes several times as long.
var rate = race.Choose(100, 50)

// inFlight is a load of which each of three servers has some three calls at any time.
var inFlight = LoadConfig{Delay: 100 * time.Millisecond}

// scenario is a load on a framegate whose servers have a fault at some time.
type scenario struct {
	t       *testing.T
	plan    plan
	servers []Server
	addr    string // of framegate
	load    *Load

	begun   time.Time // of what is counted
	faulty  time.Time // the fault begins
	faulted time.Time // the fault is complete
	ended   time.Time
	report  *Report
}

// begin puts the load on a framegate in this process, in front of the servers, and warms up.
func begin(t *testing.T, p plan, servers ...Server) *scenario {
	t.Helper()
	return beginLoad(t, LoadConfig{}, p, servers...)
}

// beginLoad is begin with a load of the test's choice.
func beginLoad(t *testing.T, load LoadConfig, p plan, servers ...Server) *scenario {
	t.Helper()
	return beginAt(t, testbed.NewProxy(t, p.document(servers...)).Addr, load, p, servers...)
}

// beginAt is beginLoad with a framegate that is there already.
func beginAt(t *testing.T, addr string, load LoadConfig, p plan, servers ...Server) *scenario {
	t.Helper()
	orDefault(&load.Rate, rate)
	s := &scenario{t: t, plan: p, servers: servers, addr: addr, load: StartLoad(t, addr, load)}
	s.load.Run(warmUp)
	s.begun = time.Now()
	s.faulty, s.faulted = s.begun, s.begun // unless fault is called
	return s
}

// fault counts for a while what there is without a fault, and then makes one.
func (s *scenario) fault(do func()) {
	s.t.Helper()
	s.load.Run(before)
	s.faulty = time.Now()
	do()
	s.faulted = time.Now()
}

// end lets the load go on for d and says what came of it.
func (s *scenario) end(d time.Duration) {
	s.t.Helper()
	s.load.Run(d)
	s.ended = time.Now()
	s.report = s.load.Stop()
	earlier := s.report.Where("before", func(c Call) bool { return !c.Begun.Before(s.begun) && c.Ended.Before(s.faulty) })
	during := s.report.Where("fault and 2 s after", func(c Call) bool {
		return !c.Begun.Before(s.begun) && !c.Ended.Before(s.faulty) && c.Begun.Before(s.faulted.Add(settled))
	})
	for _, w := range []Window{earlier, during, s.from(settled)} {
		if w.Calls > 0 {
			s.t.Log(w)
		}
	}
	s.t.Log(s.streams())
	s.t.Logf("%-22s 1 %% of the calls began more than %.1f ms late", "harness", milliseconds(s.report.Lateness()))
	require.NoError(s.t, s.report.KeptRate())
	s.wantNoneTwice()
	require.Zero(s.t, earlier.Lost(), "calls were lost before there was a fault")
}

// from is the window of the calls that began d after the fault, or later.
func (s *scenario) from(d time.Duration) Window {
	return s.report.Between("from "+d.String()+" on", s.faulted.Add(d), s.ended)
}

// all is the window of all calls that are counted.
func (s *scenario) all() Window { return s.report.Between("all", s.begun, s.ended) }

// streams is what came of the streams since the load's beginning.
func (s *scenario) streams() StreamsSummary { return s.report.Summary(s.report.Begun) }

// wantShare asserts that of the calls of w a share is good.
func (s *scenario) wantShare(w Window, least float64) {
	s.t.Helper()
	require.Positive(s.t, w.Calls)
	require.GreaterOrEqual(s.t, w.Share(), least, "the share of good calls %s", w)
}

// wantNoneLost asserts that all calls of w are good.
func (s *scenario) wantNoneLost(w Window) {
	s.t.Helper()
	require.Positive(s.t, w.Calls)
	require.Zero(s.t, w.Lost(), "calls that were lost: %s", w)
}

// wantStreamsWhole asserts that no stream was broken or kept waiting.
func (s *scenario) wantStreamsWhole() {
	s.t.Helper()
	got := s.streams()
	require.Zero(s.t, got.Broken+got.Stalled, "streams that were broken or stalled: %s", got)
}

// seen adds up the calls that have reached any server.
func (s *scenario) seen() Seen {
	seen := Seen{}
	for _, server := range s.servers {
		seen.Add(server.Seen())
	}
	return seen
}

// wantNoneTwice asserts that no call has reached servers more than once, unless the route lists codes, and that the
// servers count at all.
func (s *scenario) wantNoneTwice() {
	s.t.Helper()
	seen := s.seen()
	good := s.report.Where("good", func(c Call) bool { return c.Code == 0 && seen[c.ID] == 0 })
	require.Zero(s.t, good.Calls, "calls that were answered well and that no server has counted")
	var twice []uint64
	for id, n := range seen {
		if n > 1 {
			twice = append(twice, id)
		}
	}
	slices.Sort(twice)
	s.t.Logf("%-22s %5d calls and streams, %d of them more than once", "seen by servers", len(seen), len(twice))
	if !s.plan.mayRepeat {
		require.Empty(s.t, twice, "numbers of calls that have reached servers more than once, without codes listed")
	}
}

// three starts three backends.
func three(t *testing.T) []*Backend {
	t.Helper()
	return []*Backend{NewBackend(t), NewBackend(t), NewBackend(t)}
}

// asServers is what is common to backends.
func asServers(backends []*Backend, more ...Server) []Server {
	var servers []Server
	for _, b := range backends {
		servers = append(servers, b)
	}
	return append(servers, more...)
}
