package chaos

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"

	"github.com/framegate/framegate/conf"
	"github.com/framegate/framegate/test/testbed"
)

// A framegate that may have a few calls under way gets twice the calls that it can carry.

const (
	overloadCalls = 8                      // that may be under way
	overloadDelay = 100 * time.Millisecond // of each
)

var overloaded = LoadConfig{Streams: -1, Delay: overloadDelay}

// carried returns how many calls a second are good with as many callers as there may be calls, each of which calls
// again when it has its answer.
func carried(t *testing.T, addr string) float64 {
	t.Helper()
	const during = time.Second
	l := &Load{cfg: overloaded.withDefaults(), addr: addr, begun: time.Now()}
	cc := Dial(t, addr)
	var callers sync.WaitGroup
	var n atomic.Uint64
	for range overloadCalls {
		callers.Go(func() {
			for time.Since(l.begun) < during {
				l.call(cc, firstFreshID+n.Add(1), time.Now())
			}
		})
	}
	callers.Wait()
	r := &Report{Begun: l.begun, Calls: l.calls}
	all := r.Where("one at a time each", func(Call) bool { return true })
	t.Log(all)
	require.Zero(t, all.Lost(), "who has an answer may call again at once")
	return float64(all.Good) / during.Seconds()
}

func TestOverload_TwiceTheLoadLeavesGoodputAndIsRefusedSoon(t *testing.T) {
	for name, bound := range map[string]struct {
		route plan
		proxy func(*conf.Config)
	}{
		"limits of the route":  {plan{route: []string{`limits: {concurrent: 8}`}}, func(*conf.Config) {}},
		"limits of a backend":  {plan{backend: []string{`limits: {concurrent: 8}`}}, func(*conf.Config) {}},
		"calls of a listener":  {plan{}, func(c *conf.Config) { c.Listeners[0].MaxCalls = overloadCalls }},
		"a pool that is full":  {plan{backend: []string{`pool: {connections: {max: 1}, streams_per_connection: 8, when_full: fail}`}}, func(*conf.Config) {}},
		"a pool, few may wait": {plan{backend: []string{`pool: {connections: {max: 1}, streams_per_connection: 8, when_full: wait}`, `limits: {pending: 8}`}}, func(*conf.Config) {}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			backend := NewBackend(t)
			proxy := testbed.NewProxy(t, bound.route.document(backend), bound.proxy)
			// What is carried differs from second to second on a machine that does other things beside: one time of a few that
			// is good shows that it can be.
			var s *scenario
			var short error
			for range 3 {
				most := carried(t, proxy.Addr)
				load := overloaded
				load.Rate = int(2 * most)
				s = beginAt(t, proxy.Addr, load, bound.route, backend)
				s.load.Run(2 * time.Second)
				s.ended = time.Now()
				s.report = s.load.Stop()
				goodput := float64(s.all().Good) / s.ended.Sub(s.begun).Seconds()
				refused := refusedIn(t, s.report)
				t.Logf("%.0f calls/s at most, %d offered: %.0f good, %d refused, half of them in %.1f ms and 99 %% in %.1f ms",
					most, load.Rate, goodput, len(refused), milliseconds(quantile(refused, 0.5)), milliseconds(quantile(refused, 0.99)))
				s.wantNoneTwice()
				short = s.report.KeptRate()
				if share := goodput / most; share < 0.9 {
					short = fmt.Errorf("goodput under twice the load is %.0f %% of the most that is carried, want 90 %%", 100*share)
				}
				if late := quantile(refused, 0.99); late >= 100*time.Millisecond {
					short = fmt.Errorf("99 %% of the refused calls in %s, want less than 100 ms", late)
				}
				if short == nil {
					break
				}
				t.Log(short)
			}
			require.NoError(t, short)
		})
	}
}

// refusedIn returns how long the calls took that were refused, which are all that were not good, and some.
func refusedIn(t *testing.T, r *Report) (took []time.Duration) {
	t.Helper()
	for _, c := range r.Calls {
		if c.Code != codes.OK {
			require.Equal(t, "overloaded", c.Reason, "%v: %s", c.Code, c.Message)
			require.Equal(t, codes.ResourceExhausted, c.Code)
			took = append(took, c.Ended.Sub(c.Begun))
		}
	}
	require.NotEmpty(t, took)
	return took
}
