package hostile

import (
	"fmt"
	"iter"
	"maps"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/framegate/framegate/conf"
	"github.com/framegate/framegate/test/chaos"
	"github.com/framegate/framegate/test/race"
	"github.com/framegate/framegate/test/routetest"
	"github.com/framegate/framegate/test/testbed"
	"github.com/framegate/framegate/test/testlog"
)

// world is a framegate in front of a backend, which is a process of its own, a hole, and further endpoints.
type world struct {
	proxy   *testbed.Proxy
	backend *chaos.Backend // for the honest calls
	hole    *hole          // for calls of attackers; see held
	routes  []route
	log     testlog.Buffer // of framegate
	calm    int64          // resident bytes while nothing was attacked
	marks   []mark
}

// mark says what was done to a world, and when.
type mark struct {
	what     string
	from, to time.Time
	resident int64 // bytes, at the beginning
}

// route sends the calls of one method to one endpoint, which is never ejected.
type route struct {
	method, address string
	close           func() // closes the endpoint, when the attacks are over
	keys            string // of the backend, in YAML's flow style
}

// routeTo returns a route to a raw server.
func routeTo(method string, s *testbed.H2Server, keys ...string) route {
	return route{method: method, address: s.Addr, close: s.Close, keys: strings.Join(keys, ", ")}
}

// A way is how framegate forwards a call: package relay does it alone, or package handler with relay's streams. The method of a
// request names the way.
type way string

const (
	relayed way = "Relayed"
	handled way = "Handled"
)

var ways = []way{relayed, handled}

// of returns the method that goes where method goes, in this way.
func (w way) of(method string) string { return method + string(w) }

// newWorld starts a framegate with the routes, in both ways, besides those to the backend and the hole.
func newWorld(t *testing.T, routes ...route) *world {
	t.Helper()
	w := &world{backend: chaos.NewBackend(t), hole: newHole(t), routes: routes}
	var doc strings.Builder
	doc.WriteString("routes:\n")
	add := func(name, method, keys, address string, more ...string) {
		backend := routetest.Backend(strings.TrimSuffix(routetest.NeverEjected+", "+keys, ", "), address)
		fmt.Fprintf(&doc, "- %s\n", routetest.Doc(name, method, append(more, backend)...))
	}
	for i, r := range append(routes, route{method: heldMethod, address: w.hole.address()}) {
		add(fmt.Sprintf("relayed-%d", i), relayed.of(r.method), r.keys, r.address)
		add(fmt.Sprintf("handled-%d", i), handled.of(r.method), r.keys, r.address, "retry: {attempts: 2}") // which only package handler knows
	}
	add("honest", "*", "", w.backend.Address())
	w.proxy = testbed.NewProxyLogging(t, &w.log, doc.String(), func(c *conf.Config) {
		c.Listeners[0].DataPlane = conf.DataPlaneRelay
		// Each shard has one connection to an endpoint, however many calls there are at a time.
		c.Upstream.Connections.Max, c.Upstream.StreamsPerConnection = shards, 1<<16
	})
	return w
}

// shards is how many there are: one for each processor. They take connections of clients in turn.
var shards = runtime.GOMAXPROCS(0)

// The honest load. The race detector makes a call take several times as long.
var (
	honestLoad = chaos.LoadConfig{Rate: race.Choose(500, 100), Streams: race.Choose(50, 20), Delay: time.Nanosecond, Deadline: testbed.Patience}
	directLoad = chaos.LoadConfig{Rate: race.Choose(250, 50), Streams: -1, Connections: 1, Delay: time.Nanosecond, Deadline: testbed.Patience}
)

const (
	warmUp = 300 * time.Millisecond
	quiet  = time.Second
)

// under runs body while honest clients make calls, and checks that they do not notice and that nothing is left behind. body makes
// its attacks in subtests, with attack.
func (w *world) under(t *testing.T, body func(t *testing.T)) {
	t.Helper()
	w.warm(t)
	before := takeUsage(t)
	during := newPart(t)
	b := bar{load: chaos.StartLoad(during, w.proxy.Addr, honestLoad), direct: chaos.StartLoad(during, w.backend.Address(), directLoad)}
	b.load.Run(warmUp) // connections are made
	b.quiet.from = time.Now()
	memory := watchMemory(t)
	b.load.Run(quiet)
	b.quiet.to = time.Now()
	w.calm = memory.peak(b.quiet)
	b.othersBefore = othersNow(t)
	body(t)
	b.othersAfter = othersNow(t)
	b.attacked = mark{"attacked", b.quiet.to, time.Now(), w.calm}
	memory.check(t, w.calm, w.marks)
	b.check(t, w.marks)
	during.end()
	for _, r := range w.routes {
		r.close()
	}
	w.awaitCalls(t, 0)
	before.awaitBack(t)
	w.wantNoPanic(t)
}

// part is a part of a test: what is made for it is cleaned up when it ends.
type part struct {
	testing.TB
	cleanups []func()
}

func newPart(t *testing.T) *part {
	s := &part{TB: t}
	t.Cleanup(s.end)
	return s
}

// Cleanup implements testing.TB.
func (s *part) Cleanup(f func()) { s.cleanups = append(s.cleanups, f) }

// end cleans up. It may be called more than once.
func (s *part) end() {
	for len(s.cleanups) > 0 {
		last := len(s.cleanups) - 1
		f := s.cleanups[last]
		s.cleanups = s.cleanups[:last]
		f()
	}
}

// attack runs one attack as a subtest.
func (w *world) attack(t *testing.T, what string, f func(t *testing.T)) {
	t.Helper()
	w.watched(t, what, func() { t.Run(what, f) })
}

// watched runs f, and counts what it costs as that of an attack.
func (w *world) watched(t *testing.T, what string, f func()) {
	t.Helper()
	const left = 16 << 20 // of earlier attacks
	if residentBytes(t) > w.calm+left {
		debug.FreeOSMemory()
	}
	m := mark{what: what, from: time.Now(), resident: residentBytes(t)}
	f()
	m.to = time.Now()
	w.marks = append(w.marks, m)
}

// warm makes framegate connect to the backend, to the hole and to its own health service from all of its shards.
func (w *world) warm(t *testing.T) {
	t.Helper()
	during := newPart(t)
	l := chaos.StartLoad(during, w.proxy.Addr, honestLoad)
	l.Run(warmUp)
	l.Stop()
	conns := 2 * shards
	for range conns {
		c := testbed.DialH2(during, w.proxy.Addr)
		wantHealthy(t, c)
		c.Open(t, held(relayed))
	}
	w.awaitCalls(t, conns)
	during.end()
	w.awaitCalls(t, 0)
}

// awaitCalls waits until there are so many calls at endpoints.
func (w *world) awaitCalls(t *testing.T, want int) {
	t.Helper()
	testbed.Poll(t, func() error {
		if n := w.proxy.UpstreamStreams(); n != want {
			return fmt.Errorf("%d calls at endpoints, want %d", n, want)
		}
		return nil
	})
}

// wantNoPanic wants that framegate lives and has logged no panic.
func (w *world) wantNoPanic(t *testing.T) {
	t.Helper()
	require.NotContains(t, strings.ToLower(w.log.String()), "panic")
	require.NotContains(t, w.log.String(), "level=ERROR")
	require.NotContains(t, strings.ToLower(libraries.String()), "panic")
	wantGood(t, testbed.DialH2(t, w.proxy.Addr))
}

// inOrder is a range over a map in the order of its keys, so that every run makes the same attacks one after the other.
func inOrder[V any](m map[string]V) iter.Seq2[string, V] {
	return func(yield func(string, V) bool) {
		for _, k := range slices.Sorted(maps.Keys(m)) {
			if !yield(k, m[k]) {
				return
			}
		}
	}
}
