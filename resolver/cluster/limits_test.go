package cluster

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/framegate/framegate/resolver/spec"
	"github.com/framegate/framegate/test/routetest"
)

// limited returns a route with limits of its own and of its backend.
func limited(t testing.TB, route, backend string) *spec.Route {
	return routetest.MustRoute(t, routetest.Doc("r", "*", "limits: {"+route+"}, retry: {attempts: 5, budget: {percent: 50, min: 1}}",
		routetest.Backend("name: b, limits: {"+backend+"}", "a:1")))
}

// refusal admits a call and picks for it, and returns the error. The call is not released.
func refusal(t *testing.T, r *router, req spec.Request) (*Target, error) {
	t.Helper()
	target, ok := r.Resolve(req)
	require.True(t, ok)
	if err := target.Admit(&req, time.Now()); err != nil {
		return &target, err
	}
	a, err := target.Pick(time.Now())
	if err == nil {
		a.Done(Succeeded, time.Now())
	}
	return &target, err
}

func wantOverload(t *testing.T, err error, limit string, after time.Duration) {
	t.Helper()
	var over *OverloadError
	require.ErrorAs(t, err, &over)
	require.Equal(t, OverloadError{limit, after}, *over)
	require.EqualError(t, err, "over "+limit)
}

func TestLimits_CallsUnderWayAreBoundedAndSurviveAPut(t *testing.T) {
	for _, where := range []string{"limits", "backends.limits"} {
		t.Run(where, func(t *testing.T) {
			doc := func(n int) *spec.Route {
				if where == "limits" {
					return limited(t, fmt.Sprintf("concurrent: %d", n), "")
				}
				return limited(t, "", fmt.Sprintf("concurrent: %d", n))
			}
			r := newRouter()
			defer r.Close()
			old := doc(2)
			r.Apply("file", []*spec.Route{old})
			one, err := refusal(t, r, anyCall)
			require.NoError(t, err)
			two, err := refusal(t, r, anyCall)
			require.NoError(t, err)
			three, err := refusal(t, r, anyCall)
			wantOverload(t, err, where+".concurrent", 100*time.Millisecond)
			three.Release() // gives back nothing that it has not got

			for _, n := range []int{2, 3, 1} {
				next := doc(n)
				r.Update("file", []*spec.Route{old}, []*spec.Route{next})
				old = next
				var more []*Target
				for range max(0, n-2) {
					target, err := refusal(t, r, anyCall)
					require.NoError(t, err)
					more = append(more, target)
				}
				over, err := refusal(t, r, anyCall)
				wantOverload(t, err, where+".concurrent", 100*time.Millisecond)
				over.Release()
				for _, target := range more {
					target.Release()
				}
			}
			one.Release()
			_, err = refusal(t, r, anyCall)
			wantOverload(t, err, where+".concurrent", 100*time.Millisecond)
			two.Release()
			three, err = refusal(t, r, anyCall)
			require.NoError(t, err)
			three.Release()
		})
	}
}

func TestLimits_CallsPerSecondSurviveAPut(t *testing.T) {
	for _, where := range []string{"limits", "backends.limits"} {
		t.Run(where, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				doc := func(rate string) *spec.Route {
					if where == "limits" {
						return limited(t, rate+", concurrent: 1", "")
					}
					return limited(t, "concurrent: 1", rate)
				}
				r := newRouter()
				defer r.Close()
				const rate = "calls_per_second: 2, burst: 3"
				old := doc(rate)
				r.Apply("file", []*spec.Route{old})
				for range 3 {
					target, err := refusal(t, r, anyCall)
					require.NoError(t, err)
					target.Release()
				}
				for range 5 { // a refused call holds nothing
					target, err := refusal(t, r, anyCall)
					wantOverload(t, err, where+".calls_per_second", 500*time.Millisecond)
					target.Release()
				}
				next := doc(rate)
				r.Update("file", []*spec.Route{old}, []*spec.Route{next})
				target, err := refusal(t, r, anyCall)
				wantOverload(t, err, where+".calls_per_second", 500*time.Millisecond)
				target.Release()
				time.Sleep(500 * time.Millisecond)
				target, err = refusal(t, r, anyCall)
				require.NoError(t, err)
				target.Release()

				faster := doc("calls_per_second: 100, burst: 3")
				r.Update("file", []*spec.Route{next}, []*spec.Route{faster})
				target, err = refusal(t, r, anyCall)
				require.NoError(t, err, "another rate begins with a full bucket")
				target.Release()
				none := doc("pending: 5")
				r.Update("file", []*spec.Route{faster}, []*spec.Route{none})
				for range 10 {
					target, err = refusal(t, r, anyCall)
					require.NoError(t, err)
					target.Release()
				}
			})
		})
	}
}

func TestLimits_EachKeyHasABucket(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for per, req := range map[string]func(i byte) spec.Request{
			"{header: x-user}": func(i byte) spec.Request {
				return spec.Request{Header: spec.Header{"x-user": {string('a' + i)}}}
			},
			"{authority: true}": func(i byte) spec.Request { return spec.Request{Authority: string('a' + i)} },
			"{peer: true}": func(i byte) spec.Request {
				return spec.Request{Peer: &net.TCPAddr{IP: net.IPv4(10, 0, 0, i), Port: int(i)}}
			},
		} {
			r := newRouter()
			old := limited(t, "calls_per_second: 1, burst: 2, per: "+per, "")
			r.Apply("file", []*spec.Route{old})
			allowed := func(req spec.Request) (n int) {
				for range 10 {
					target, err := refusal(t, r, req)
					target.Release()
					if err == nil {
						n++
					}
				}
				return n
			}
			for i := range byte(5) {
				require.Equal(t, 2, allowed(req(i)), per)
			}
			require.Equal(t, 2, allowed(spec.Request{}), "those without a value share one")
			next := limited(t, "calls_per_second: 1, burst: 2, per: "+per, "")
			r.Update("file", []*spec.Route{old}, []*spec.Route{next})
			require.Zero(t, allowed(req(1)), "a put that changes nothing fills no bucket")
			r.Close()
		}
	})
}

func TestLimits_WaitingCallsAreBoundedAndSurviveAPut(t *testing.T) {
	for _, c := range [][2]string{{"pending: 2", ""}, {"", "pending: 2"}, {"pending: 2", "pending: 9"}, {"pending: 9", "pending: 2"}} {
		r := newRouter()
		old := limited(t, c[0], c[1])
		r.Apply("file", []*spec.Route{old})
		one, _ := begin(t, r, anyCall)
		two, _ := begin(t, r, anyCall)
		three, _ := begin(t, r, anyCall)
		require.True(t, one.BoundsWaiting())
		require.True(t, one.Wait())
		require.True(t, two.Wait())
		require.False(t, three.Wait())
		next := limited(t, c[0], c[1])
		r.Update("file", []*spec.Route{old}, []*spec.Route{next})
		four, _ := begin(t, r, anyCall)
		require.False(t, four.Wait())
		one.WaitEnd()
		require.True(t, four.Wait())
		require.False(t, three.Wait(), "one that is refused holds nothing, and takes nothing")
		two.WaitEnd()
		four.WaitEnd()
		require.True(t, three.Wait())
		three.WaitEnd()
		for _, st := range r.limits {
			require.Zero(t, st.route.pending.Active())
			require.Zero(t, st.backends["b"].pending.Active())
		}
		r.Close()
	}
	r := routed(t, `{name: r, match: [{method: "*"}], backends: [{endpoints: [{address: "a:1"}]}]}`)
	free, _ := begin(t, r, anyCall)
	require.False(t, free.BoundsWaiting(), "whoever has no limit is not counted")
}

func TestLimits_BackendIsChargedOncePerCall(t *testing.T) {
	r := routed(t, routetest.Doc("r", "*", routetest.Backend("limits: {concurrent: 1, calls_per_second: 0.001, burst: 2}", "a:1", "a:2")))
	for range 2 {
		target, a := begin(t, r, anyCall)
		for range 5 { // further attempts of the same call
			again, err := target.Pick(time.Now())
			require.NoError(t, err)
			again.Done(Unknown, time.Now())
		}
		a.Done(Unknown, time.Now())
		target.Release()
	}
	for _, st := range r.limits {
		require.Zero(t, st.backends["#0"].concurrent.Active())
	}
}

func TestBudget_BoundsFurtherAttemptsAndSurvivesAPut(t *testing.T) {
	r := newRouter()
	defer r.Close()
	old := limited(t, "", "")
	r.Apply("file", []*spec.Route{old})
	var open []*Target
	for range 4 {
		target, a := begin(t, r, anyCall)
		a.Done(Unknown, time.Now())
		open = append(open, target)
	}
	require.True(t, open[0].MayRetry())
	require.True(t, open[0].MayRetry())
	require.False(t, open[1].MayRetry(), "half of four")
	next := limited(t, "concurrent: 99", "")
	r.Update("file", []*spec.Route{old}, []*spec.Route{next})
	later, _ := begin(t, r, anyCall)
	require.False(t, later.MayRetry(), "half of five, rounded down; two are under way")
	open[0].RetryEnd()
	require.True(t, later.MayRetry())

	other := routetest.MustRoute(t, `{name: r, match: [{method: "*"}], hedge: {delay: 10ms, budget: {min: 1}}, backends: [{endpoints: [{address: "a:1"}]}]}`)
	r.Update("file", []*spec.Route{next}, []*spec.Route{other})
	hedged, _ := begin(t, r, anyCall)
	require.True(t, hedged.MayRetry(), "another budget begins anew")
	require.False(t, hedged.MayRetry())
	later.RetryEnd() // of the budget that it was granted by
	require.False(t, hedged.MayRetry())

	none := routetest.MustRoute(t, `{name: r, match: [{method: "*"}], backends: [{endpoints: [{address: "a:1"}]}]}`)
	r.Update("file", []*spec.Route{other}, []*spec.Route{none})
	plain, _ := begin(t, r, anyCall)
	for range 10 {
		require.True(t, plain.MayRetry(), "without a key of retries there is no budget")
	}
}

// round_robin between backends is exact over each cycle of their weights, as it is within one, also while the document
// changes.
func TestRoundRobin_BetweenBackendsIsExact(t *testing.T) {
	doc := func(more string, weights ...int) *spec.Route {
		var backends []string
		for i, w := range weights {
			backends = append(backends, fmt.Sprintf(`{weight: %d, endpoints: [{address: "%c:1"}, {address: "%c:2"}]}`, w, 'a'+i, 'a'+i))
		}
		return routetest.MustRoute(t, fmt.Sprintf(`{name: r, match: [{method: "*"}], balancer: {policy: round_robin}, backends: [%s]%s}`, strings.Join(backends, ", "), more))
	}
	for _, weights := range [][]int{{90, 10}, {1, 1}, {3, 0, 5, 7}, {1, 999}} {
		total := 0
		for _, w := range weights {
			total += w
		}
		r := newRouter()
		t.Cleanup(r.Close)
		r.Apply("file", []*spec.Route{doc("", weights...)})
		got := map[string]int{}
		for i := range 2 * total {
			if i == total/2 {
				r.Apply("file", []*spec.Route{doc(", timeout: 1m", weights...)})
			}
			got[call(t, r, anyCall, Succeeded)]++
		}
		for i, w := range weights {
			for _, n := range []string{"1", "2"} {
				require.Equal(t, w, got[string(rune('a'+i))+":"+n], "weights %v: %v", weights, got)
			}
		}
	}
	r, uneven := newRouter(), doc("", 2, 1)
	t.Cleanup(r.Close)
	r.Apply("file", []*spec.Route{uneven})
	b := r.backends("file", uneven)
	require.Zero(t, testing.AllocsPerRun(100, func() { b.draw() }))
}
