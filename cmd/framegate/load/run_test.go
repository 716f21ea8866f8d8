package load

import (
	"context"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/framegate/framegate/test/race"
	"github.com/framegate/framegate/test/refusing"
)

var modes = []Mode{Unary, Client, Server, Bidi}

// short is a load for a test: a fifth of a second of small calls.
func short(mode Mode, target string) Config {
	c := Defaults()
	c.Target, c.Mode = target, mode
	c.Duration, c.Warmup = 200*time.Millisecond, 20*time.Millisecond
	c.Connections, c.Concurrency, c.SizeBytes, c.Messages = 2, 8, 1000, 5
	return c
}

// run runs cfg and checks what holds for every result.
func run(t *testing.T, ctx context.Context, cfg Config) *Result {
	t.Helper()
	r, err := Run(ctx, cfg, nil)
	require.NoError(t, err)
	for _, m := range []*Measured{&r.Target, r.Baseline} {
		if m == nil {
			continue
		}
		var errs int64
		for _, n := range m.Errors {
			errs += n
		}
		require.Equal(t, m.ErrorCount, errs, "the errors by code add up")
		require.Equal(t, m.ErrorCount > 0, m.FirstError != "")
		l := m.LatencyUS
		require.True(t, slices.IsSorted([]float64{l.P50, l.P90, l.P99, l.P999, l.Max}), "%+v", l)
	}
	return r
}

func TestRun_EveryModeCountsCallsAndNoErrors(t *testing.T) {
	t.Parallel()
	for _, mode := range modes {
		t.Run(string(mode), func(t *testing.T) {
			s := startServer(t, nil)
			cfg := short(mode, s.address)
			r := run(t, t.Context(), cfg)
			require.NoError(t, r.Err())

			m := r.Target
			require.Positive(t, m.Calls)
			require.Empty(t, m.Errors, m.FirstError)
			require.Zero(t, m.UnsentCalls)
			require.InDelta(t, 0.2, m.ElapsedSeconds, 1e-9)
			require.InDelta(t, float64(m.Calls)/0.2, m.Throughput.CallsPerSecond, 8/0.2+1, "only calls across an edge differ")
			require.Positive(t, m.LatencyUS.P50)
			require.Positive(t, m.LatencyUS.Mean)

			atServer, _ := s.seen()
			require.Greater(t, atServer, m.Calls, "the warm-up's calls do not count")

			perCall := func(mb float64) float64 { return mb * 1e6 / m.Throughput.CallsPerSecond }
			sent := map[Mode]float64{Unary: 1000, Client: 5000, Server: 1000, Bidi: 1000}[mode]
			received := map[Mode]float64{Unary: 1000, Client: 0, Server: 5000, Bidi: 1000}[mode]
			require.InDelta(t, sent, perCall(m.Throughput.SentMBPerSecond), 1e-6)
			require.InDelta(t, received, perCall(m.Throughput.ReceivedMBPerSecond), 1e-6)
		})
	}
}

func TestRun_OpensOneSocketPerConnection(t *testing.T) {
	t.Parallel()
	s := startServer(t, nil)
	cfg := short(Unary, s.address)
	cfg.Connections, cfg.Concurrency = 5, 20
	r := run(t, t.Context(), cfg)
	_, peers := s.seen()
	require.Equal(t, 5, peers)
	require.EqualValues(t, 5, r.Target.ConnectionsDialed)
}

func TestRun_KeepsToItsConcurrency(t *testing.T) {
	t.Parallel()
	var now, most atomic.Int64
	s := startServer(t, func() error {
		n := now.Add(1)
		defer now.Add(-1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		time.Sleep(time.Millisecond) // the time that the service takes
		return nil
	})
	for began := time.Now(); most.Load() < 8 && time.Since(began) < time.Minute; {
		run(t, t.Context(), short(Unary, s.address))
	}
	require.EqualValues(t, 8, most.Load())
}

func TestRun_BaselineTakesTurnsWithTheTarget(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var turns []string
	note := func(name string) func() error {
		return func() error {
			mu.Lock()
			defer mu.Unlock()
			if len(turns) == 0 || turns[len(turns)-1] != name {
				turns = append(turns, name)
			}
			return nil
		}
	}
	target, baseline := startServer(t, note("target")), startServer(t, note("baseline"))
	cfg := short(Bidi, target.address)
	cfg.Duration = time.Second // no turn is too short for a call
	cfg.Baseline = baseline.address
	r := run(t, t.Context(), cfg)
	require.NoError(t, r.Err())

	require.Equal(t, []string{"target", "baseline", "target", "baseline", "target", "baseline", "target", "baseline"}, turns)
	require.Equal(t, target.address, r.Target.Address)
	require.Equal(t, baseline.address, r.Baseline.Address)
	require.InDelta(t, 1, r.Target.ElapsedSeconds, 1e-9)
	require.InDelta(t, 1, r.Baseline.ElapsedSeconds, 1e-9)
	require.InDelta(t, r.Target.LatencyUS.P50/r.Baseline.LatencyUS.P50, r.Ratio.P50, 1e-9)
	require.EqualValues(t, 2, r.Target.ConnectionsDialed, "connections last for the run")
}

func TestRun_RateIsKept(t *testing.T) {
	for _, mode := range modes {
		t.Run(string(mode), func(t *testing.T) {
			s := startServer(t, nil)
			cfg := short(mode, s.address)
			want := race.Choose(400, 100) // calls a second
			cfg.Duration, cfg.RatePerSecond = 500*time.Millisecond, want
			var rates []float64
			for range 10 { // a busy machine may stall for more than a tenth of a run, but hardly of each of ten
				r := run(t, t.Context(), cfg)
				require.NoError(t, r.Err())
				require.Empty(t, r.Target.Errors, r.Target.FirstError)
				require.EqualValues(t, want/2, r.Target.Calls+r.Target.UnsentCalls, "every call that was due is accounted for")
				rate := r.Target.Throughput.CallsPerSecond
				if math.Abs(rate-float64(want)) < float64(want)/10 {
					return
				}
				rates = append(rates, rate)
			}
			t.Fatalf("got %.0f calls/s, want %d ± 10%%", rates, want)
		})
	}
}

// A load that begins a call only when the last one has ended hides what a stall costs the calls behind it (coordinated omission).
func TestRun_RateCountsLatencyFromWhenACallWasDue(t *testing.T) {
	t.Parallel()
	s := startServer(t, func() error {
		time.Sleep(20 * time.Millisecond) // the time that the service takes: 50 calls/s and worker
		return nil
	})
	cfg := short(Unary, s.address)
	cfg.Connections, cfg.Concurrency, cfg.RatePerSecond = 1, 1, 100
	cfg.Duration, cfg.Warmup = 500*time.Millisecond, 0
	m := run(t, t.Context(), cfg).Target
	require.Greater(t, m.LatencyUS.Max, 150e3, "the last call waited for the backlog of half the calls before it")
	require.Positive(t, m.UnsentCalls)
	require.EqualValues(t, 50, m.Calls+m.UnsentCalls)
}

func TestRun_InterruptKeepsWhatWasMeasured(t *testing.T) {
	t.Parallel()
	for _, rate := range []int{0, 2000} {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var n atomic.Int64
		s := startServer(t, func() error {
			if n.Add(1) == 200 {
				cancel()
			}
			return nil
		})
		cfg := short(Bidi, s.address)
		cfg.Duration, cfg.Warmup, cfg.RatePerSecond = time.Minute, 0, rate
		cfg.Baseline = refusing.Address(t) // never comes to its turn
		started := time.Now()
		r := run(t, ctx, cfg)
		require.Less(t, time.Since(started), 40*time.Second)
		require.True(t, r.Interrupted)
		require.NoError(t, r.Err())
		require.Greater(t, r.Target.Calls, int64(150))
		require.Zero(t, r.Target.ErrorCount, "what the interrupt broke off is no error of the target: %s", r.Target.FirstError)
		require.Positive(t, r.Target.ElapsedSeconds)
		require.Less(t, r.Target.ElapsedSeconds, 40.0)
	}
}

func TestRun_InterruptEndsCallsThatAreNeverAnswered(t *testing.T) {
	t.Parallel()
	for _, mode := range modes {
		t.Run(string(mode), func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			release := make(chan struct{})
			s := startServer(t, func() error {
				cancel()
				<-release
				return nil
			})
			t.Cleanup(func() { close(release) }) // before the server's own cleanup
			cfg := short(mode, s.address)
			cfg.Duration = time.Minute
			started := time.Now()
			r := run(t, ctx, cfg)
			require.Less(t, time.Since(started), 40*time.Second)
			require.True(t, r.Interrupted)
			require.ErrorContains(t, r.Err(), "interrupted before "+s.address)
		})
	}
}

func TestRun_ReportsProgress(t *testing.T) {
	t.Parallel()
	s := startServer(t, nil)
	cfg := short(Unary, s.address)
	cfg.Duration = 60 * time.Second
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var got []Progress
	_, err := Run(ctx, cfg, func(p Progress) {
		got = append(got, p)
		cancel()
	})
	require.NoError(t, err)
	require.NotEmpty(t, got)
	require.Equal(t, "target", got[0].Side)
	require.Equal(t, cfg.Duration+cfg.Warmup, got[0].Total)
	require.Positive(t, got[0].Elapsed)
	require.Less(t, got[0].Elapsed, cfg.Duration/2)
	require.Positive(t, got[0].Calls)
	require.Positive(t, got[0].CallsPerSecond)
}
