package test

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"

	"github.com/framegate/framegate/test/race"
	"github.com/framegate/framegate/test/testbed"
)

func TestControl_SeveralFramegatesStayInStep(t *testing.T) {
	etcd := testbed.NewEtcd(t)
	one, two := answering(t, "one"), answering(t, "two")
	var ccs []*grpc.ClientConn
	for range 2 {
		ccs = append(ccs, testbed.DialGRPC(t, testbed.NewProxy(t, "", testbed.EtcdAt(etcd.Endpoint)).Addr))
	}
	routes := etcdRoutes{t, testbed.DialEtcd(t, etcd.Endpoint)}
	for i, backend := range []string{one, two} {
		routes.put("r", routeDocument("r", "/a.B/C", backend))
		for _, cc := range ccs {
			require.LessOrEqual(t, awaitAnswer(t, cc, "/a.B/C", []string{"one", "two"}[i]), liveWithin)
		}
	}
}

// load makes calls of one method at a steady rate, each on its own, until stop is called.
type load struct {
	mu     sync.Mutex // guards made and failed
	made   int
	failed []string

	stopping chan struct{}
	wg       sync.WaitGroup
}

// startLoad calls check for each reply, with what before returned when the call began.
func startLoad[T any](t testing.TB, cc *grpc.ClientConn, method string, perSecond int, before func() T, check func(before T, reply string) error) *load {
	l := &load{stopping: make(chan struct{})}
	l.wg.Go(func() {
		tick := time.NewTicker(time.Second / time.Duration(perSecond))
		defer tick.Stop()
		for {
			select {
			case <-l.stopping:
				return
			case <-tick.C:
				l.wg.Go(func() {
					ctx, cancel := context.WithTimeout(context.Background(), testbed.Patience)
					defer cancel()
					b := before()
					var reply []byte
					err := cc.Invoke(ctx, method, &reply, &reply)
					if err == nil {
						err = check(b, string(reply))
					}
					l.mu.Lock()
					defer l.mu.Unlock()
					l.made++
					if err != nil {
						l.failed = append(l.failed, err.Error())
					}
				})
			}
		}
	})
	t.Cleanup(l.stop)
	return l
}

// stop ends the load and waits for its calls. It is called by the test's goroutine, once or twice.
func (l *load) stop() {
	select {
	case <-l.stopping:
	default:
		close(l.stopping)
	}
	l.wg.Wait()
}

// history is what a route was, revision by revision.
type history struct {
	mu       sync.Mutex // guards versions
	versions []version
}

type version struct {
	backend  string
	revision int64 // 0 while it is being written
}

func (h *history) begin(backend string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.versions = append(h.versions, version{backend: backend})
}

func (h *history) done(revision int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.versions[len(h.versions)-1].revision = revision
}

// since reports whether the route had the backend in a revision from the one that was in force at the given one until
// now.
func (h *history) since(revision int64, backend string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	for i := len(h.versions) - 1; i >= 0; i-- {
		v := h.versions[i]
		if v.backend == backend {
			return true
		}
		if v.revision != 0 && v.revision <= revision {
			return false // older ones were replaced before
		}
	}
	return false
}

// A hundred changes a second must fail no call, and no call may go to a backend that the route did not have between the
// call's start and its end, by the revision that the framegate itself says is in force.
func TestControl_ChangesUnderLoadFailNoCall(t *testing.T) {
	t.Parallel()
	const (
		changes    = 500
		pace       = 10 * time.Millisecond // of the changes; a busy machine makes fewer
		backends   = 8
		method     = "/a.B/C"
		neighbours = 200 // other routes
	)
	perSecond := race.Choose(250, 50) // calls of each framegate
	etcd := testbed.NewEtcd(t)
	addrs := map[string]string{}
	for i := range backends {
		name := fmt.Sprint("b", i)
		addrs[name] = answering(t, name)
	}
	routes := etcdRoutes{t, testbed.DialEtcd(t, etcd.Endpoint)}
	for i := range neighbours {
		name := fmt.Sprintf("n%d", i)
		routes.put(name, routeDocument(name, fmt.Sprintf("/n.S/M%d", i), addrs["b0"]))
	}
	h := &history{}
	change := func(i int) {
		name := fmt.Sprint("b", i%backends)
		h.begin(name)
		resp, err := routes.cli.Put(patient(t), "/framegate/routes/r", routeDocument("r", method, addrs[name]))
		require.NoError(t, err)
		h.done(resp.Header.Revision)
	}
	change(0)
	var loads []*load
	for range 2 {
		proxy := testbed.NewProxy(t, "", testbed.EtcdAt(etcd.Endpoint))
		cc := testbed.DialGRPC(t, proxy.Addr)
		awaitAnswer(t, cc, method, "b0")
		loads = append(loads, startLoad(t, cc, method, perSecond,
			func() int64 { return proxy.Source().Revision },
			func(revision int64, reply string) error {
				if !h.since(revision, reply) {
					return fmt.Errorf("a call that began at revision %d went to %s", revision, reply)
				}
				return nil
			}))
	}
	tick := time.NewTicker(pace)
	defer tick.Stop()
	began := time.Now()
	for i := range changes {
		<-tick.C
		change(i + 1)
	}
	for _, l := range loads {
		l.stop()
		t.Logf("%d calls in %s of %d changes", l.made, time.Since(began), changes)
		require.Empty(t, l.failed)
		require.Greater(t, l.made, changes/10, "calls meanwhile")
	}
}

func TestControl_KilledEtcdCostsNoCall(t *testing.T) {
	t.Parallel()
	etcd := testbed.NewEtcdProcess(t)
	one, two := answering(t, "one"), answering(t, "two")
	snapshot := t.TempDir() + "/last-good.json"
	proxy := testbed.NewProxy(t, "", testbed.EtcdAt(etcd.Endpoint), testbed.Snapshot(snapshot))
	cc := testbed.DialGRPC(t, proxy.Addr)
	routes := etcdRoutes{t, testbed.DialEtcd(t, etcd.Endpoint)}
	routes.put("kept", `{name: kept, match: [{method: /a.B/Kept}], backends: [{service: one}]}`)
	_, err := routes.cli.Put(patient(t), "kitex/registry-etcd/one/"+one, fmt.Sprintf(`{"network":"tcp","address":%q,"weight":10,"tags":null}`, one))
	require.NoError(t, err)
	awaitAnswer(t, cc, "/a.B/Kept", "one")
	l := startLoad(t, cc, "/a.B/Kept", 200, func() int { return 0 }, func(_ int, reply string) error {
		if reply != "one" {
			return fmt.Errorf("answered by %q", reply)
		}
		return nil
	})

	testbed.Poll(t, func() error { // it is written a second after a change
		kept, err := os.ReadFile(snapshot)
		if err == nil && !strings.Contains(string(kept), one) {
			err = fmt.Errorf("the snapshot has no instance %s", one)
		}
		return err
	})
	etcd.Kill()
	testbed.Poll(t, func() error { // its watch is dead by now; the proxy finds out by asking
		if !proxy.Source().Stale {
			return fmt.Errorf("not marked stale")
		}
		return nil
	})
	// A framegate that starts now has nothing but what the first one kept.
	late := testbed.NewProxy(t, "", testbed.EtcdAt(etcd.Endpoint), testbed.Snapshot(snapshot), testbed.Admin())
	lateCC := testbed.DialGRPC(t, late.Addr)
	awaitAnswer(t, lateCC, "/a.B/Kept", "one")
	require.True(t, late.Source().Stale)
	require.Contains(t, answerOfAdmin(t, http.MethodGet, late.Admin()+"/metrics", "", http.StatusOK), "\nframegate_config_stale 1\n")
	answerOfAdmin(t, http.MethodGet, late.Admin()+"/readyz", "", http.StatusOK)

	etcd.Start()
	routes.put("new", routeDocument("new", "/a.B/New", two))
	for _, c := range []*grpc.ClientConn{cc, lateCC} {
		awaitAnswer(t, c, "/a.B/New", "two")
		require.Equal(t, "one", answerOf(t, c, "/a.B/Kept"))
	}
	for _, p := range []*testbed.Proxy{proxy, late} {
		testbed.Poll(t, func() error {
			if p.Source().Stale {
				return fmt.Errorf("still marked stale")
			}
			return nil
		})
	}
	l.stop()
	require.Empty(t, l.failed)
	require.NotZero(t, l.made)
	require.Contains(t, answerOfAdmin(t, http.MethodGet, late.Admin()+"/metrics", "", http.StatusOK), "\nframegate_config_stale 0\n")
}
