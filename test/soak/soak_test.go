package soak

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/framegate/framegate/test/chaos"
	"github.com/framegate/framegate/test/race"
	"github.com/framegate/framegate/test/testbed"
)

func TestMain(m *testing.M) {
	chaos.RunProcess()
	os.Exit(m.Run())
}

const (
	// durationEnv and restartsEnv, set in the environment, replace how long the test takes and how often a backend restarts.
	durationEnv = "TEST_SOAK_DURATION"
	restartsEnv = "TEST_SOAK_RESTARTS"

	// The shares of all calls, and of each kind, that end as they should: one backend of three is away for a moment now
	// and then, and some kinds are rare.
	leastAsWanted       = 0.9
	leastOfKindAsWanted = 0.5

	goroutineSlack = 40
	fileSlack      = 20
)

func durationFrom(t *testing.T, env string, otherwise time.Duration) time.Duration {
	t.Helper()
	text := os.Getenv(env)
	if text == "" {
		return otherwise
	}
	d, err := time.ParseDuration(text)
	require.NoError(t, err, env)
	require.Positive(t, d, env)
	return d
}

// A framegate that is used in all ways, and whose backends come and go, does not grow.
func TestSoak_RSSAndGoroutinesAreFlat(t *testing.T) {
	length := durationFrom(t, durationEnv, 16*time.Second)
	every := durationFrom(t, restartsEnv, 2*time.Second)
	backends := []*chaos.Backend{chaos.NewBackend(t), chaos.NewBackend(t), chaos.NewBackend(t)}
	framegate := chaos.StartFramegate(t, chaos.FramegateConfig{Address: chaos.FreeAddress(t), Routes: routes(t, backends)})

	ctx, cancel := context.WithTimeout(t.Context(), length)
	defer cancel()
	type result struct {
		samples []sample
		err     error
	}
	sampled := make(chan result, 1)
	go func() {
		s := sampler{pid: framegate.PID(), admin: framegate.Admin}
		samples, err := s.run(ctx)
		sampled <- result{samples, err}
	}()
	l := startLoad(t, framegate.Address)
	restarts := restartInTurn(ctx, backends, every)
	l.finish()
	got := <-sampled
	require.NoError(t, got.err)

	t.Logf("%s with %d restarts of a backend:%s", length, restarts, l)
	rss, goroutines, files := split(got.samples)
	t.Log(rss)
	t.Log(goroutines)
	t.Log(files)
	require.Positive(t, restarts)
	var all tally
	for name, of := range l.tallies {
		require.GreaterOrEqual(t, of.share(), leastOfKindAsWanted, "%s: share that ended as wanted", name)
		all.Made += of.Made
		all.AsWanted += of.AsWanted
	}
	require.GreaterOrEqual(t, all.share(), leastAsWanted, "share of all calls that ended as wanted")
	require.NoError(t, rss.checkFlat())
	require.NoError(t, goroutines.checkFlat())
	require.NoError(t, files.checkFlat())
	framegate.Terminate()
	framegate.Wait()
}

// restartInTurn ends and starts a backend each time, gracefully and as kill -9 does in turn, until ctx ends.
func restartInTurn(ctx context.Context, backends []*chaos.Backend, every time.Duration) (n int) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for ; ; n++ {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return n
		}
		b := backends[n%len(backends)]
		if n%2 == 0 {
			b.Terminate()
		} else {
			b.Kill()
		}
		b.Start()
	}
}

func split(samples []sample) (rss, goroutines, files series) {
	rss = series{name: "RSS", unit: "KiB", per: 1 << 10, slack: race.Choose[int64](8<<20, 96<<20)}
	goroutines = series{name: "goroutines", per: 1, slack: goroutineSlack}
	files = series{name: "descriptors", per: 1, slack: fileSlack}
	for _, s := range samples {
		rss.values = append(rss.values, s.RSSBytes)
		goroutines.values = append(goroutines.values, s.Goroutines)
		files.values = append(files.values, s.Files)
	}
	return rss, goroutines, files
}

// routes returns a document with the same backends behind a route in frame mode and one in struct mode, with all that runs
// for balancing and failure.
func routes(t *testing.T, backends []*chaos.Backend) string {
	t.Helper()
	var endpoints string
	for _, b := range backends {
		endpoints += fmt.Sprintf("{address: %q}, ", b.Address())
	}
	return fmt.Sprintf(`routes:
- name: frame
  match: [{method: "/%[1]s/*"}]
  balancer: {policy: peak_ewma, slow_start: 2s}
  retry: {attempts: 3, codes: [UNAVAILABLE], per_try_timeout: 1s}
  limits: {concurrent: 10000, pending: 1000, calls_per_second: 100000, per: {peer: true}}
  idle_timeout: 1m
  backends:
  - endpoints: [%[2]s]
    health: {type: tcp, interval: 500ms}
    ejection: {failure_percent: 50, base_time: 1s}
    pool: {connections: {min: 1}, max_age: 5s}
- name: struct
  match: [{method: "/%[1]s/*", headers: [{name: %[3]s, exact: %[4]s}]}]
  %[5]s
  balancer: {policy: least_request}
  hedge: {delay: 50ms}
  backends: [{endpoints: [%[2]s]}]
`, chaos.Service, endpoints, structHeader, structValue, strings.Join(chaos.StructKeys(t), "\n  "))
}

func rising(from, by int64, n int) (values []int64) {
	for i := range n {
		values = append(values, from+by*int64(i))
	}
	return values
}

func TestSeries_OnlyGrowthAfterTheFirstThirdCounts(t *testing.T) {
	for name, tc := range map[string]struct {
		values []int64
		want   string // "" = flat
	}{
		"steady":           {rising(1000, 0, 60), ""},
		"falls":            {rising(1000, -5, 60), ""},
		"leaks":            {rising(1000, 10, 60), "x grows: median 1500 things in the last third, 1300 in the second, want 1450"},
		"within a tenth":   {rising(1000, 5, 60), ""},
		"fills at first":   {append(rising(100, 50, 20), rising(1100, 0, 40)...), ""},
		"peaks once":       {append(rising(1000, 0, 59), 9000), ""},
		"too few samples":  {rising(1000, 0, 2), "x: 2 samples"},
		"nothing is there": {rising(0, 0, 60), "x: 60 samples with a median of 0"},
	} {
		t.Run(name, func(t *testing.T) {
			err := series{name: "x", unit: "things", per: 1, slack: 20, values: tc.values}.checkFlat()
			if tc.want == "" {
				require.NoError(t, err)
			} else {
				require.ErrorContains(t, err, tc.want)
			}
		})
	}
}

func TestSampler_CountsAFramegate(t *testing.T) {
	f := chaos.StartFramegate(t, chaos.FramegateConfig{Address: chaos.FreeAddress(t), Routes: "routes: []"})
	s := sampler{pid: f.PID(), admin: f.Admin}
	t.Cleanup(s.client.CloseIdleConnections)
	first, err := s.take(t.Context())
	require.NoError(t, err)
	require.Greater(t, first.RSSBytes, int64(4<<20))
	require.Greater(t, first.Goroutines, int64(3))
	require.Greater(t, first.Files, int64(4))

	for range 10 { // ten clients more
		h2 := testbed.DialH2(t, f.Address)
		h2.OpenEnd(t, testbed.RequestFields()).Outcome()
	}
	second, err := s.take(t.Context())
	require.NoError(t, err)
	require.GreaterOrEqual(t, second.Files, first.Files+10)
	require.Greater(t, second.Goroutines, first.Goroutines)
}
