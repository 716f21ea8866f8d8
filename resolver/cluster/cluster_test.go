package cluster

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/framegate/framegate/pool/policy"
	"github.com/framegate/framegate/resolver/spec"
	"github.com/framegate/framegate/test/routetest"
	"github.com/framegate/framegate/test/testlog"
)

// three returns a route to a:1, a:2 and a:3 with some more keys, of the route and of the backend.
func three(t testing.TB, keys, backend string) *spec.Route {
	return routetest.MustRoute(t, fmt.Sprintf(`
name: r
match: [{method: "*"}]
%s
backends: [{endpoints: [{address: "a:1"}, {address: "a:2"}, {address: "a:3"}], %s}]`, keys, backend))
}

// fail has so many calls that go to the address fail, one after the other. Those that go elsewhere are good.
func fail(t testing.TB, r *router, address string, n int) {
	t.Helper()
	for tries := 0; n > 0; tries++ {
		require.Less(t, tries, 100_000, "%s gets no calls", address)
		target, a := begin(t, r, anyCall)
		if a.Address == address {
			a.Done(Failed, time.Now())
			n--
		} else {
			a.Done(Succeeded, time.Now())
		}
		target.Release()
	}
}

// endpoint returns what is known of an address that one cluster has.
func endpoint(t testing.TB, r *router, address string) EndpointState {
	t.Helper()
	for _, e := range r.Endpoints() {
		if e.Address == address {
			return e
		}
	}
	require.Fail(t, "no such endpoint", address)
	return EndpointState{}
}

func TestSlowStart_RaisesTheWeightOfANewEndpoint(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter()
		defer r.Close()
		r.Apply("file", []*spec.Route{routetest.MustRoute(t, `{name: r, match: [{method: "*"}], balancer: {policy: round_robin, slow_start: 30s}, backends: [{service: s}]}`)})
		r.SetInstances("s", instances("a:1", "a:2"))
		require.Equal(t, 500, calls(t, r, anyCall, 1000)["a:1"], "those there from the start are not new")
		r.SetInstances("s", instances("a:1", "a:2", "a:3"))
		shareAfter := func(age time.Duration) float64 { // of a:3, of one of the others' calls
			got := calls(t, r, anyCall, 21_000)
			return 2 * float64(got["a:3"]) / float64(got["a:1"]+got["a:2"])
		}
		require.InDelta(t, 0.1, shareAfter(0), 0.02)
		time.Sleep(15 * time.Second)
		require.InDelta(t, 0.55, shareAfter(15*time.Second), 0.06)
		time.Sleep(17 * time.Second)
		require.InDelta(t, 1, shareAfter(32*time.Second), 0.001)
		synctest.Wait()
		for _, c := range r.Set.byKey {
			require.Nil(t, c.ramp, "nothing is left to be done")
		}
	})
}

func TestSlowStart_IsForAnEndpointThatIsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter()
		defer r.Close()
		r.Apply("file", []*spec.Route{three(t, "balancer: {policy: round_robin, slow_start: 30s}", "ejection: {base_time: 10s}")})
		fail(t, r, "a:1", 5)
		time.Sleep(10 * time.Second)
		synctest.Wait()
		for call(t, r, anyCall, Succeeded) != "a:1" { // its trial
		}
		require.InDelta(t, 2100*0.1/2.1, calls(t, r, anyCall, 2100)["a:1"], 30)
		time.Sleep(31 * time.Second)
		require.InDelta(t, 700, calls(t, r, anyCall, 2100)["a:1"], 5)
	})
}

func TestSlowStart_IsNotForTheFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter()
		defer r.Close()
		const doc = `{name: r, match: [{method: "*"}], balancer: {slow_start: 30s}, backends: [{endpoints: [%s]}]}`
		r.Apply("file", []*spec.Route{routetest.MustRoute(t, fmt.Sprintf(doc, `{address: "a:1"}, {address: "a:2", weight: 0}`))})
		r.Apply("etcd", []*spec.Route{routetest.MustRoute(t, `{name: found, match: [{method: "/f.S/*"}], balancer: {slow_start: 30s}, backends: [{service: s}]}`)})
		r.SetInstances("s", nil)
		r.SetInstances("s", instances("f:1")) // may come long after the route
		for _, c := range r.Set.byKey {
			require.Nil(t, c.ramp, c.key)
		}
		r.Apply("file", []*spec.Route{routetest.MustRoute(t, fmt.Sprintf(doc, `{address: "a:1"}, {address: "a:2"}`))})
		got := calls(t, r, anyCall, 1000)
		require.InDelta(t, 1000*0.1/1.1, got["a:2"], 60, "an endpoint that had no weight is new")
	})
}

func TestSlowStart_EndsWithTheRoute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter()
		defer r.Close()
		r.Apply("file", []*spec.Route{routetest.MustRoute(t, `{name: r, match: [{method: "*"}], balancer: {slow_start: 30s}, backends: [{service: s}]}`)})
		r.SetInstances("s", instances("a:1"))
		r.SetInstances("s", instances("a:1", "a:2"))
		var c *Cluster
		for _, c = range r.Set.byKey {
			require.NotNil(t, c.ramp)
		}
		r.Apply("file", nil)
		require.False(t, c.ramp.Stop(), "the timer runs on")
	})
}

func TestEjection_FiveFailuresInARowTakeAnEndpointOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter()
		defer r.Close()
		r.Apply("file", []*spec.Route{three(t, "", "ejection: {base_time: 10s}")})
		fail(t, r, "a:1", 4)
		require.NotEmpty(t, calls(t, r, anyCall, 100)["a:1"], "four are no reason, and one that is good forgives them")
		fail(t, r, "a:1", 5)
		require.Zero(t, calls(t, r, anyCall, 1000)["a:1"])
		e := endpoint(t, r, "a:1")
		require.False(t, e.Usable)
		require.Equal(t, time.Now().Add(10*time.Second), e.EjectedUntil)
		require.Equal(t, uint64(1), r.Clusters()[0].Ejections)

		time.Sleep(10*time.Second - time.Nanosecond)
		synctest.Wait()
		require.Zero(t, calls(t, r, anyCall, 1000)["a:1"])
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		require.True(t, endpoint(t, r, "a:1").Usable)
	})
}

func TestEjection_AnAnswerNeverCountsWhateverItSays(t *testing.T) {
	r := routed(t, `{name: r, match: [{method: "*"}], backends: [{endpoints: [{address: "a:1"}, {address: "a:2"}]}]}`)
	for range 1000 {
		call(t, r, anyCall, Succeeded) // NOT_FOUND is one of these
		call(t, r, anyCall, Unknown)
	}
	require.Zero(t, r.Clusters()[0].Ejections)
}

func TestEjection_AReturningEndpointGetsFewCallsUntilItAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter()
		defer r.Close()
		r.Apply("file", []*spec.Route{three(t, "", "ejection: {base_time: 10s}")})
		fail(t, r, "a:1", 5)
		time.Sleep(10 * time.Second)
		synctest.Wait()
		require.True(t, endpoint(t, r, "a:1").Trial)
		got := 0
		const n = 10_000
		for range n {
			target, a := begin(t, r, anyCall)
			if a.Address == "a:1" {
				got++
				a.Done(Unknown, time.Now()) // says nothing either way
			} else {
				a.Done(Succeeded, time.Now())
			}
			target.Release()
		}
		require.InDelta(t, n*trialShare/(2+trialShare), got, 80)
		for call(t, r, anyCall, Succeeded) != "a:1" {
		}
		require.False(t, endpoint(t, r, "a:1").Trial)
		require.InDelta(t, 1000, calls(t, r, anyCall, 3000)["a:1"], 200)
	})
}

func TestEjection_AtMostItsShareIsOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter()
		defer r.Close()
		r.Apply("file", []*spec.Route{three(t, "", "panic_percent: 0, ejection: {max_percent: 67}")})
		for _, address := range []string{"a:1", "a:2", "a:3"} {
			fail(t, r, address, 5)
		}
		require.Equal(t, map[string]int{"a:3": 100}, calls(t, r, anyCall, 100))
		c := r.Clusters()[0]
		require.Equal(t, []uint64{2, 1}, []uint64{c.Ejections, c.EjectionsPrevented})
		require.Equal(t, []int{3, 1}, []int{c.Endpoints, c.Usable})
	})
}

func TestEjection_SurvivesChangesOfSomethingElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter()
		defer r.Close()
		old := three(t, "", "ejection: {base_time: 10s}")
		r.Apply("file", []*spec.Route{old})
		_, open := begin(t, r, anyCall)
		fail(t, r, "a:1", 5)
		for i, next := range []*spec.Route{
			three(t, "", "ejection: {base_time: 10s}"),
			three(t, "timeout: 3s", "ejection: {base_time: 10s}"),
			three(t, "balancer: {policy: peak_ewma}", "ejection: {base_time: 10s}, limits: {concurrent: 100}, pool: {connections: {max: 2}}"),
			three(t, "", `ejection: {base_time: 10s}, health: {type: tcp, interval: 1h}, panic_percent: 10`),
			routetest.MustRoute(t, routetest.Doc("r", "*", routetest.Backend("ejection: {base_time: 10s}", "a:1 7", "a:4", "a:3", "a:2 2"))),
		} {
			r.Update("file", []*spec.Route{old}, []*spec.Route{next})
			old = next
			require.Zero(t, calls(t, r, anyCall, 100)["a:1"], "version %d", i)
			require.Equal(t, uint64(1), r.Clusters()[0].Ejections)
			require.Equal(t, 1, endpoint(t, r, open.Address).Active, "the load of calls under way is known")
		}
		next := three(t, "", "ejection: {base_time: 20s}")
		r.Update("file", []*spec.Route{old}, []*spec.Route{next})
		require.NotZero(t, calls(t, r, anyCall, 1000)["a:1"], "other settings begin anew")
		require.Equal(t, uint64(1), r.Clusters()[0].Ejections, "but counters do not")
		open.Done(Unknown, time.Now())
	})
}

func TestEjection_EndsWithTheRoute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter()
		defer r.Close()
		r.Apply("file", []*spec.Route{three(t, "", "ejection: {base_time: 10s}")})
		_, open := begin(t, r, anyCall)
		fail(t, r, open.Address, 5)
		r.Apply("file", nil)
		time.Sleep(time.Minute)
		synctest.Wait()
		require.True(t, open.member.ejected(), "no timer has brought it back")
		open.Done(Succeeded, time.Now())
	})
}

// What takes no calls makes no share of those that may be ejected, nor of those that are usable.
func TestEjection_EndpointsWithoutAWeightDoNotCount(t *testing.T) {
	doc := routetest.Doc("r", "*", routetest.Backend("panic_percent: %d", "a:1", "a:2", "z:1 0", "z:2 0", "z:3 0"))
	r := routed(t, fmt.Sprintf(doc, 0))
	fail(t, r, "a:1", 5)
	fail(t, r, "a:2", 5)
	require.Equal(t, map[string]int{"a:2": 100}, calls(t, r, anyCall, 100))
	require.Equal(t, uint64(1), r.Clusters()[0].EjectionsPrevented)
	r.Apply("file", []*spec.Route{routetest.MustRoute(t, fmt.Sprintf(doc, 51))})
	require.Len(t, calls(t, r, anyCall, 100), 2, "one of two is less than 51 %")
}

func TestEjection_SurvivesChangesOfInstances(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter()
		defer r.Close()
		r.Apply("file", []*spec.Route{routetest.MustRoute(t, `{name: r, match: [{method: "*"}], backends: [{service: s}]}`)})
		r.SetInstances("s", instances("a:1", "a:2", "a:3"))
		fail(t, r, "a:1", 5)
		r.SetInstances("s", instances("a:1", "a:2", "a:3", "a:4"))
		require.Zero(t, calls(t, r, anyCall, 100)["a:1"])
		r.SetInstances("s", append(instances("a:2", "a:3"), spec.Instance{Address: "a:1", Weight: 99}))
		require.Zero(t, calls(t, r, anyCall, 100)["a:1"])
		r.SetInstances("s", instances("a:2", "a:3"))
		r.SetInstances("s", instances("a:1", "a:2", "a:3"))
		require.NotZero(t, calls(t, r, anyCall, 100)["a:1"], "one that registers again is another")
	})
}

func TestPanic_TooFewUsableMeansAllAreUsedAndCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter()
		defer r.Close()
		r.Apply("file", []*spec.Route{three(t, "", "panic_percent: 60, ejection: {max_percent: 100, base_time: 10s}")})
		fail(t, r, "a:1", 5)
		require.Len(t, calls(t, r, anyCall, 300), 2, "two of three are enough")
		require.False(t, r.Clusters()[0].Panic)
		require.Zero(t, r.Clusters()[0].PanicCalls)

		fail(t, r, "a:2", 5)
		for address, n := range calls(t, r, anyCall, 300) {
			require.InDelta(t, 100, n, 50, "the share of %s: those that are ejected have theirs", address)
		}
		c := r.Clusters()[0]
		require.True(t, c.Panic)
		require.Equal(t, 1, c.Usable)
		require.Equal(t, uint64(300), c.PanicCalls)
		require.False(t, endpoint(t, r, "a:2").Usable)

		time.Sleep(10 * time.Second)
		synctest.Wait()
		require.False(t, r.Clusters()[0].Panic)
		call(t, r, anyCall, Succeeded)
		require.Equal(t, uint64(300), r.Clusters()[0].PanicCalls)
	})
}

func TestPanic_NeverWithZeroPercent(t *testing.T) {
	r := routed(t, `{name: r, match: [{method: "*"}], backends: [{panic_percent: 0, ejection: {max_percent: 100}, endpoints: [{address: "a:1"}]}]}`)
	fail(t, r, "a:1", 5)
	target, _ := r.Resolve(anyCall)
	_, err := target.Pick(time.Now())
	require.ErrorIs(t, err, ErrNoEndpoint)
}

func TestGroups_OfAServiceAreSharedByThoseThatSayTheSame(t *testing.T) {
	r := routed(t,
		`{name: a, match: [{method: "/a.S/*"}], timeout: 1s, backends: [{name: x, weight: 3, service: s, tags: {b: "1", a: ""}}]}`,
		`{name: b, match: [{method: "/b.S/*"}], balancer: {policy: peak_ewma}, backends: [{service: s, tags: {a: "", b: "1"}}]}`,
		`{name: c, match: [{method: "/c.S/*"}], backends: [{service: s, tags: {a: "", b: "1"}, panic_percent: 10}]}`,
		`{name: d, match: [{method: "/d.S/*"}], backends: [{service: s}, {endpoints: [{address: "a:1"}]}, {name: n, endpoints: [{address: "a:1"}]}]}`,
	)
	tags := map[string]string{"a": "", "b": "1"}
	r.SetInstances("s", []spec.Instance{{Address: "i:1", Weight: 5, Tags: tags}, {Address: "i:2", Weight: 6}})
	var got []string
	for _, g := range r.Clusters() {
		got = append(got, fmt.Sprintf("%s[%s] %s/%s/%s %v %d", g.Service, g.Tags, g.Source, g.Route, g.Backend, g.Routes, g.Endpoints))
	}
	require.Equal(t, []string{
		"[] file/d/#1 [d] 1",
		"[] file/d/n [d] 1",
		"s[] // [d] 2",
		"s[a=,b=1] // [a b] 1",
		"s[a=,b=1] // [c] 1",
	}, got)
	require.Len(t, r.Endpoints(), 6)
	r.Apply("file", nil)
	require.Empty(t, r.Clusters())
	require.Empty(t, r.Endpoints())
	require.Empty(t, r.Set.byKey)
}

// Calls, reports, changes of instances and puts at once: what is counted adds up to nothing in the end.
func TestGroup_CountsAddUpWhateverChangesMeanwhile(t *testing.T) {
	r := newRouter()
	defer r.Close()
	doc := func(i int) *spec.Route {
		return routetest.MustRoute(t, fmt.Sprintf(`
name: r
match: [{method: "*"}]
balancer: {policy: %s, slow_start: %ds}
limits: {concurrent: 1000, calls_per_second: 1000000}
retry: {attempts: 3}
backends:
- {service: s, limits: {concurrent: 1000}, ejection: {base_time: 10ms, max_time: %dms}, panic_percent: %d}
- {endpoints: [{address: "f:1"}, {address: "f:2", weight: %d}], ejection: {base_time: 10ms}}`,
			[]string{"round_robin", "weighted_random", "least_request", "peak_ewma"}[i%4], i%2, 10+i%3, i%2*50, i%3))
	}
	old := doc(0)
	r.Apply("file", []*spec.Route{old})
	r.SetInstances("s", instances("a:1", "a:2"))
	stop := make(chan struct{})
	var callers sync.WaitGroup
	for w := range 3 {
		callers.Go(func() {
			for i := w; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				target, _ := r.Resolve(anyCall)
				if target.Admit(&anyCall, time.Now()) == nil {
					for range 2 {
						if a, err := target.Pick(time.Now()); err == nil {
							a.Answered()
							a.Done(Result(i%3), time.Now())
						}
						if target.MayRetry() {
							target.RetryEnd()
						}
					}
				}
				target.Release()
			}
		})
	}
	for i := range 300 {
		next := doc(i)
		r.Update("file", []*spec.Route{old}, []*spec.Route{next})
		old = next
		r.SetInstances("s", instances([]string{"a:1", "a:2", "a:3", "a:4"}[i%3:]...))
		r.Endpoints()
		r.Clusters()
	}
	close(stop)
	callers.Wait()
	for _, e := range r.Endpoints() {
		require.Zero(t, e.Active, e.Address)
	}
	for _, st := range r.limits {
		require.Equal(t, 1, st.refs)
		require.Zero(t, st.route.concurrent.Active())
		require.Len(t, st.backends, 2)
		for _, l := range st.backends {
			require.Zero(t, l.concurrent.Active())
		}
		calls, retries := st.budget.Load().Active()
		require.Zero(t, calls)
		require.Zero(t, retries)
	}
	require.Len(t, r.Set.byKey, 2)
	for _, c := range r.Set.byKey {
		require.Equal(t, 1, len(c.users))
		require.Len(t, c.pickers, 1)
	}
	require.Len(t, r.Set.services, 1)
	r.Apply("file", nil)
	r.Apply("etcd", nil)
	for name := range r.Instances() {
		r.SetInstances(name, nil)
	}
	require.Empty(t, r.Set.services, "what no route uses is forgotten")
}

// Turns go on where they were when the members change, or else the first would get a call more with each change.
func TestGroup_TurnsGoOnThroughChanges(t *testing.T) {
	r := newRouter()
	defer r.Close()
	r.Apply("file", []*spec.Route{routetest.MustRoute(t, `{name: r, match: [{method: "*"}], balancer: {policy: round_robin}, backends: [{service: s}]}`)})
	got := map[string]int{}
	for i := range 300 {
		r.SetInstances("s", []spec.Instance{{Address: "a:1", Weight: 10 + i%2}, {Address: "a:2", Weight: 10 + i%2}, {Address: "a:3", Weight: 10 + i%2}})
		got[call(t, r, anyCall, Succeeded)]++
	}
	require.Equal(t, map[string]int{"a:1": 100, "a:2": 100, "a:3": 100}, got)
}

func TestEjection_IsLoggedWithItsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var logged testlog.Buffer
		r := newRouter()
		defer r.Close()
		r.SetLog(logged.Logger())
		r.Apply("file", []*spec.Route{three(t, "", "panic_percent: 100")})
		fail(t, r, "a:1", 5)
		require.Contains(t, logged.String(), `level=WARN msg="endpoint ejected: it failed too many calls" endpoint=a:1 route=r backend=#0`)
		require.Contains(t, logged.String(), `level=WARN msg="too few endpoints are usable: calls go to all" usable=2 of=3 route=r backend=#0`)
		time.Sleep(11 * time.Second)
		synctest.Wait()
		require.Contains(t, logged.String(), `level=INFO msg="endpoint is back from its ejection" endpoint=a:1 route=r`)
		require.Contains(t, logged.String(), `level=INFO msg="enough endpoints are usable again" usable=3 of=3 route=r`)
		require.Equal(t, 4, logged.Count("msg="), "each once: %s", logged.String())
	})
}

// A route that says something else of a service's endpoints keeps what is known of them, if no other route uses them so.
func TestEjection_SurvivesAPutThatChangesWhatIsSaidOfAService(t *testing.T) {
	doc := func(name string, percent int) *spec.Route {
		return routetest.MustRoute(t, fmt.Sprintf(`{name: %s, match: [{method: "*"}], backends: [{service: s, panic_percent: %d}]}`, name, percent))
	}
	r := newRouter()
	defer r.Close()
	r.SetInstances("s", instances("a:1", "a:2", "a:3"))
	r.Apply("file", []*spec.Route{doc("r", 50)})
	fail(t, r, "a:1", 5)
	target, a := begin(t, r, anyCall)
	r.Apply("file", []*spec.Route{doc("r", 40)})
	require.False(t, endpoint(t, r, "a:1").Usable)
	require.Equal(t, 1, endpoint(t, r, a.Address).Active)
	require.Len(t, r.Set.byKey, 1)
	a.Done(Succeeded, time.Now())
	target.Release()
	require.Zero(t, endpoint(t, r, a.Address).Active)

	r.Apply("file", []*spec.Route{doc("r", 40), doc("other", 40)})
	require.Len(t, r.Set.byKey, 1)
	r.Apply("file", []*spec.Route{doc("r", 40), doc("other", 30)})
	require.Len(t, r.Set.byKey, 2, "each has what it says")
	r.Apply("file", nil)
	require.Empty(t, r.Set.byKey)
}

// Backends of one route that say different things of one service have what each says, also after a put that changes one.
func TestEjection_BackendsOfOneServiceInOneRouteHaveWhatEachSays(t *testing.T) {
	put := func(r *router, one, two, three int) {
		doc := `{name: r, match: [{method: "*"}], backends: [`
		for i, failures := range []int{one, two, three} {
			doc += fmt.Sprintf(`{name: b%d, service: s, ejection: {consecutive_failures: %d}}, `, i, failures)
		}
		r.Apply("file", []*spec.Route{routetest.MustRoute(t, doc+"]}")})
	}
	r := newRouter()
	defer r.Close()
	r.SetInstances("s", instances("a:1", "a:2", "a:3"))
	specs := func() (all []int) {
		for key, c := range r.Set.byKey {
			require.Equal(t, key, c.key(c.settings))
			all = append(all, c.settings.eject.ConsecutiveFailures)
		}
		slices.Sort(all)
		return all
	}
	ejections := func() (n uint64) {
		for _, c := range r.Clusters() {
			n += c.Ejections
		}
		return n
	}
	put(r, 2, -1, 2)
	require.Equal(t, []int{-1, 2}, specs())
	fail(t, r, "a:1", 200) // of which those that came by the first or the third eject it there
	require.Equal(t, uint64(1), ejections())
	for range 20 { // maps have no order
		put(r, 2, -1, 2)
		put(r, 2, 7, 2)
		require.Equal(t, []int{2, 7}, specs())
		require.Equal(t, uint64(1), ejections(), "and what is known stays")
	}
	put(r, 3, 4, 5)
	require.Equal(t, []int{3, 4, 5}, specs())
	r.Apply("file", nil)
	require.Empty(t, r.Set.byKey)
}

// An endpoint back from an ejection that answers a stream works, however long the stream lasts and whoever ends it.
func TestEjection_TrialEndsWithTheBeginningOfAnAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter()
		defer r.Close()
		r.Apply("file", []*spec.Route{three(t, "balancer: {policy: round_robin}", "")})
		fail(t, r, "a:1", 5)
		time.Sleep(11 * time.Second)
		synctest.Wait()
		require.True(t, endpoint(t, r, "a:1").Trial)
		for range 200 {
			target, a := begin(t, r, anyCall)
			a.Works()
			a.Done(Unknown, time.Now())
			target.Release()
		}
		require.False(t, endpoint(t, r, "a:1").Trial)
	})
}

// Panic is for when there is nothing better, in another backend neither.
func TestPanic_ABackendThatIsWellTakesTheCallsOfOneThatIsNot(t *testing.T) {
	r := newRouter()
	defer r.Close()
	r.Apply("file", []*spec.Route{routetest.MustRoute(t, `{name: r, match: [{method: "*"}], backends: [
		{name: stable, weight: 90, endpoints: [{address: "a:1"}, {address: "a:2"}], ejection: {max_percent: 100}, panic_percent: 80},
		{name: canary, weight: 10, endpoints: [{address: "b:1"}]}]}`)})
	fail(t, r, "a:1", 5)
	require.Equal(t, map[string]int{"b:1": 1000}, calls(t, r, anyCall, 1000))
}

// The health of a service is asked for without the set's lock.
func TestState_IsReadWhileSettingsChange(t *testing.T) {
	r := newRouter()
	defer r.Close()
	document := func(failures int) *spec.Route {
		return routetest.MustRoute(t, fmt.Sprintf("{name: a, match: [{method: '*'}], backends: [{endpoints: [{address: 'a:1'}], ejection: {consecutive_failures: %d}}]}", failures))
	}
	old := document(1)
	r.Apply("file", []*spec.Route{old})
	c := r.backends("file", old).Clusters()[0]
	over := make(chan struct{})
	var reading sync.WaitGroup
	reading.Go(func() {
		for {
			select {
			case <-over:
				return
			default:
				c.State()
			}
		}
	})
	for i := range 100 {
		next := document(i%5 + 2)
		r.Update("file", []*spec.Route{old}, []*spec.Route{next})
		old = next
	}
	close(over)
	reading.Wait()
	require.Same(t, c, r.backends("file", old).Clusters()[0], "the settings of one cluster have changed")
}

func TestGroups_SayWhenNoRouteHasAPolicyOfConnectionsAnyMore(t *testing.T) {
	doc := func(name string, least int) *spec.Route {
		return routetest.MustRoute(t, routetest.Doc(name, "*", routetest.Backend(fmt.Sprintf("pool: {connections: {min: %d}}", least), "a:1")))
	}
	r := newRouter()
	defer r.Close()
	var unused []int
	r.SetEndpointHooks(EndpointHooks{Unused: func(p *policy.Policy) { unused = append(unused, p.Connections.Min) }})
	r.Apply("file", []*spec.Route{doc("r", 1), doc("other", 1)})
	r.Apply("file", []*spec.Route{doc("r", 2), doc("other", 1)})
	require.Empty(t, unused)
	r.Apply("file", []*spec.Route{doc("r", 2), doc("other", 2)})
	require.Equal(t, []int{1}, unused)
	r.Apply("file", nil)
	require.Equal(t, []int{1, 2}, unused)
	require.Empty(t, r.Set.policies)
}
