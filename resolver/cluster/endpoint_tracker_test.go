package cluster

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/framegate/framegate/resolver/spec"
	"github.com/framegate/framegate/test/routetest"
)

const grace = 10 * time.Second

// departuresOf collects what a Resolver's EndpointHooks hear, in a synctest bubble. The function returned waits until nothing
// more happens at this moment, and returns what was heard since its last call, as "left a:1" and "over a:1".
func departuresOf(r *router) (heard func() []string) {
	events := make(chan string, 100)
	r.SetEndpointHooks(EndpointHooks{
		Left:  func(address string) { events <- "left " + address },
		Grace: grace,
		Over:  func(address string) { events <- "over " + address },
	})
	return func() (all []string) {
		synctest.Wait()
		for len(events) > 0 {
			all = append(all, <-events)
		}
		return all
	}
}

// to returns a route to the endpoints.
func to(t *testing.T, name string, addresses ...string) *spec.Route {
	var list []string
	for _, a := range addresses {
		list = append(list, fmt.Sprintf("{address: %q}", a))
	}
	return routetest.MustRoute(t, fmt.Sprintf(`{name: %s, match: [{method: "/%s.S/*"}], backends: [{endpoints: [%s]}]}`, name, name, strings.Join(list, ", ")))
}

func instances(addresses ...string) (all []spec.Instance) {
	for _, a := range addresses {
		all = append(all, spec.Instance{Address: a, Weight: 10})
	}
	return all
}

func TestDepartures_LeftAtOnceAndOverAfterTheGrace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter()
		defer r.Close()
		heard := departuresOf(r)
		r.Apply("file", []*spec.Route{to(t, "a", "a:1", "a:2")})
		require.Empty(t, heard())
		r.Apply("file", []*spec.Route{to(t, "a", "a:2")})
		require.Equal(t, []string{"left a:1"}, heard())
		time.Sleep(grace - time.Nanosecond)
		require.Empty(t, heard())
		time.Sleep(time.Nanosecond)
		require.Equal(t, []string{"over a:1"}, heard())
		r.Apply("file", nil)
		require.Equal(t, []string{"left a:2"}, heard(), "a route that goes takes its endpoints along")
		time.Sleep(2 * grace)
		require.Equal(t, []string{"over a:2"}, heard())
		require.Empty(t, r.Set.tracker.clusters)
		require.Empty(t, r.Set.tracker.leaving)
	})
}

func TestDepartures_NotOverIfItCameBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter()
		defer r.Close()
		heard := departuresOf(r)
		r.Apply("file", []*spec.Route{routetest.MustRoute(t, `{name: a, match: [{method: "*"}], backends: [{service: s}]}`)})
		r.SetInstances("s", instances("a:1", "a:2"))
		r.SetInstances("s", instances("a:2"))
		require.Equal(t, []string{"left a:1"}, heard())
		time.Sleep(grace / 2)
		r.SetInstances("s", instances("a:1", "a:2"))
		time.Sleep(2 * grace)
		require.Empty(t, heard())

		r.SetInstances("s", instances("a:2")) // the time of before does not count
		require.Equal(t, []string{"left a:1"}, heard())
		time.Sleep(grace - time.Nanosecond)
		require.Empty(t, heard())
		time.Sleep(time.Nanosecond)
		require.Equal(t, []string{"over a:1"}, heard())
	})
}

func TestDepartures_NotWhileAnotherGroupHasIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter()
		defer r.Close()
		heard := departuresOf(r)
		a, b := to(t, "a", "a:1"), to(t, "b", "a:1")
		r.Apply("file", []*spec.Route{a, b})
		r.Apply("etcd", []*spec.Route{routetest.MustRoute(t, `{name: c, match: [{method: "*"}], backends: [{service: s}]}`)})
		r.SetInstances("s", instances("a:1"))
		r.Update("file", []*spec.Route{a}, nil)
		r.SetInstances("s", nil)
		require.Empty(t, heard())
		r.Update("file", []*spec.Route{b}, nil)
		require.Equal(t, []string{"left a:1"}, heard())
	})
}

// In one change an address may go from one cluster to another, in any order.
func TestDepartures_NotWhenItChangesGroups(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter()
		defer r.Close()
		heard := departuresOf(r)
		const tagged = `{name: %[1]s, match: [{method: "/%[1]s.S/*"}], backends: [{service: s, tags: {zone: %[1]s}}]}`
		r.Apply("file", []*spec.Route{routetest.MustRoute(t, fmt.Sprintf(tagged, "a")), routetest.MustRoute(t, fmt.Sprintf(tagged, "b"))})
		for i := range 20 { // the clusters are visited in any order
			r.SetInstances("s", []spec.Instance{{Address: "a:1", Weight: 1, Tags: map[string]string{"zone": []string{"a", "b"}[i%2]}}})
		}
		require.Empty(t, heard())

		old := routetest.MustRoute(t, `{name: two, match: [{method: "/t.S/*"}], backends: [{endpoints: [{address: "b:1"}]}, {endpoints: [{address: "b:2"}]}]}`)
		r.Apply("etcd", []*spec.Route{old})
		r.Update("etcd", []*spec.Route{old}, []*spec.Route{routetest.MustRoute(t, `{name: two, match: [{method: "/t.S/*"}], backends: [{endpoints: [{address: "b:2"}]}, {endpoints: [{address: "b:1"}]}]}`)})
		time.Sleep(2 * grace)
		require.Empty(t, heard())
	})
}

// An endpoint without a weight gets no calls, but those that it has go on.
func TestDepartures_NotForAWeightOfZero(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter()
		defer r.Close()
		heard := departuresOf(r)
		r.Apply("file", []*spec.Route{to(t, "s", "a:1", "a:2")})
		r.Apply("file", []*spec.Route{routetest.MustRoute(t, `{name: s, match: [{method: "*"}], backends: [{endpoints: [{address: "a:1", weight: 0}, {address: "a:2"}]}]}`)})
		require.Equal(t, map[string]int{"a:2": 100}, calls(t, r, anyCall, 100))
		time.Sleep(2 * grace)
		require.Empty(t, heard())
		r.Apply("file", []*spec.Route{to(t, "s", "a:2")})
		require.Equal(t, []string{"left a:1"}, heard())
	})
}

func TestDepartures_NothingAfterClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter()
		heard := departuresOf(r)
		r.Apply("file", []*spec.Route{to(t, "s", "a:1", "a:2")})
		r.Apply("file", []*spec.Route{to(t, "s", "a:2")})
		require.Equal(t, []string{"left a:1"}, heard())
		r.Close()
		r.Close()
		r.Apply("file", nil)
		r.Update("etcd", nil, []*spec.Route{to(t, "x", "x:1")})
		r.SetInstances("s", instances("x:2"))
		time.Sleep(2 * grace)
		require.Empty(t, heard())
		require.Equal(t, "a:2", call(t, r, anyCall, Succeeded), "calls under way find what was there")
	})
}

// A timer may run out while its departure ends for another reason.
func TestDepartures_ATimerThatIsTooLateSaysNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter()
		heard := departuresOf(r)
		r.Apply("file", []*spec.Route{routetest.MustRoute(t, `{name: a, match: [{method: "*"}], backends: [{service: s}]}`)})
		r.SetInstances("s", instances("a:1"))
		r.SetInstances("s", nil)
		first := r.Set.tracker.leaving["a:1"]
		r.SetInstances("s", instances("a:1"))
		r.SetInstances("s", nil)
		second := r.Set.tracker.leaving["a:1"]
		require.Equal(t, []string{"left a:1", "left a:1"}, heard())
		r.Set.tracker.over("a:1", first)
		require.Empty(t, heard(), "the address came back")
		r.Close()
		r.Set.tracker.over("a:1", second)
		require.Empty(t, heard(), "nobody listens")
	})
}

// Close waits for what has begun: whoever hears may be gone after it.
func TestDepartures_CloseWaitsForThem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter()
		leave, left := make(chan struct{}), false
		r.SetEndpointHooks(EndpointHooks{Grace: grace, Over: func(string) {
			<-leave
			left = true
		}})
		r.Apply("file", []*spec.Route{to(t, "s", "a:1")})
		r.Apply("file", nil)
		time.Sleep(grace)
		synctest.Wait()
		closed := make(chan struct{})
		go func() {
			r.Close()
			close(closed)
		}()
		synctest.Wait()
		select {
		case <-closed:
			t.Fatal("closed while Over goes on")
		default:
		}
		close(leave)
		<-closed
		require.True(t, left)
	})
}
