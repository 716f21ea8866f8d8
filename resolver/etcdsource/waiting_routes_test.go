package etcdsource

import (
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/framegate/framegate/resolver"
	"github.com/framegate/framegate/resolver/cluster"
	"github.com/framegate/framegate/resolver/dns"
	"github.com/framegate/framegate/resolver/etcdstore"
	"github.com/framegate/framegate/resolver/spec"
	"github.com/framegate/framegate/test/dnsserver"
	"github.com/framegate/framegate/test/etcdtest"
	"github.com/framegate/framegate/test/resolvertest"
	"github.com/framegate/framegate/test/routetest"
)

// at returns a route to an address.
func at(name, address string) *spec.Route {
	r := routetest.Route(name, "/a.S/"+name, 0)
	r.Backends[0].Endpoints[0].Address = address
	return r
}

// firstCall waits until a route takes calls, and returns where the first goes.
func firstCall(t *testing.T, r *resolver.Resolver, name string) (string, error) {
	t.Helper()
	var target cluster.Target
	etcdtest.Eventually(t, etcdtest.Soon, name, func() (ok bool) {
		target, ok = resolvertest.Resolve(r, spec.Request{Method: "/a.S/" + name})
		return ok
	})
	defer target.Release()
	a, err := target.Pick(time.Now())
	if err == nil {
		a.Done(cluster.Unknown, time.Now())
	}
	return a.Address, err
}

// withNames returns a Resolver whose names a server of its own knows.
func withNames(t *testing.T) (*resolver.Resolver, *dnsserver.Server) {
	t.Helper()
	d, r := dnsserver.New(t), resolver.New()
	t.Cleanup(r.Close)
	r.SetNames(dns.New(d.Resolver(), slog.New(slog.DiscardHandler)))
	return r, d
}

// A route waits for its names, since its first calls are to find endpoints. The others do not wait for them.
func TestWaitingRoutes_HoldUpNoOther(t *testing.T) {
	t.Parallel()
	r, d := withNames(t)
	place := etcdtest.Shared(t)
	s := New(configOf(place), r, slog.New(slog.DiscardHandler))
	s.waiting.maxWait = time.Hour
	runInTest(t, s)
	<-s.Ready()
	store := etcdstore.NewRoutes(resolvertest.EtcdClient(t, place.Endpoint), place.Prefix, nil)
	takes := func(name string) bool {
		_, ok := resolvertest.Resolve(r, spec.Request{Method: "/a.S/" + name})
		return ok
	}

	d.Set("good.svc.", "127.0.0.2")
	d.Break("slow.svc.", dnsserver.Silence)
	_, err := store.PutAll(t.Context(), []*spec.Route{at("slow", "slow.svc.:1"), at("good", "good.svc.:1"), at("plain", "127.0.0.1:1")})
	require.NoError(t, err)
	var before, later bool
	etcdtest.Eventually(t, etcdtest.Soon, "the others", func() bool {
		before, later = takes("slow"), takes("good") && takes("plain")
		return later
	})
	require.False(t, before, "in force before a word about its name")
	got, err := firstCall(t, r, "good")
	require.NoError(t, err)
	require.Equal(t, "127.0.0.2:1", got)

	_, err = firstCall(t, r, "slow") // in force when it is known that nobody answers
	require.ErrorIs(t, err, cluster.ErrNoEndpoint)
	d.Set("slow.svc.", "127.0.0.3")
	etcdtest.Eventually(t, etcdtest.Soon, "the name that answers now", func() bool {
		got, err := firstCall(t, r, "slow")
		return err == nil && got == "127.0.0.3:1"
	})

	// The version in force stays meanwhile.
	d.Break("new.svc.", dnsserver.Silence)
	_, err = store.Put(t.Context(), at("good", "new.svc.:1"))
	require.NoError(t, err)
	_, err = store.Put(t.Context(), at("after", "127.0.0.4:1"))
	require.NoError(t, err)
	got, err = firstCall(t, r, "after")
	require.NoError(t, err)
	require.Equal(t, "127.0.0.4:1", got)
	d.Set("new.svc.", "127.0.0.5")
	etcdtest.Eventually(t, etcdtest.Soon, "the new version", func() bool {
		got, err := firstCall(t, r, "good")
		return err == nil && got == "127.0.0.5:1"
	})
}

func TestWaitingRoutes_ANewerVersionCounts(t *testing.T) {
	t.Parallel()
	r, d := withNames(t)
	inForce := map[string]string{}
	w := newWaitingRoutes(r, func(docs map[string]version[spec.Route]) {
		for name, doc := range docs {
			delete(inForce, name)
			if doc.value != nil {
				inForce[name] = doc.value.Backends[0].Endpoints[0].Address
			}
		}
	})
	w.maxWait = time.Hour
	d.Break("slow.svc.", dnsserver.Silence)
	put := func(revision int64, r *spec.Route) {
		w.put(map[string]version[spec.Route]{r.Name: {r, revision}})
	}
	put(1, at("a", "slow.svc.:1"))
	put(2, at("b", "slow.svc.:1"))
	put(3, at("c", "slow.svc.:2"))
	put(4, at("d", "slow.svc.:2"))
	require.Empty(t, inForce)
	require.Equal(t, int64(0), w.before(9))
	put(5, at("a", "127.0.0.1:1"))
	put(6, at("b", "slow.svc.:3"))
	w.put(map[string]version[spec.Route]{"c": {}})
	require.Equal(t, map[string]string{"a": "127.0.0.1:1"}, inForce)
	require.Equal(t, int64(3), w.before(9))

	next := w.putReady(time.Now())
	require.WithinDuration(t, time.Now().Add(w.maxWait), next, time.Minute)
	require.Len(t, inForce, 1)
	require.Zero(t, w.putReady(time.Now().Add(2*time.Hour)), "none waits for ever")
	require.Equal(t, map[string]string{"a": "127.0.0.1:1", "b": "slow.svc.:3", "d": "slow.svc.:2"}, inForce)
	require.Equal(t, int64(9), w.before(9))
	names, _ := r.Names(nil)
	require.Empty(t, names.Known("slow.svc."), "nobody watches it")

	d.Break("last.svc.", dnsserver.Silence)
	put(7, at("e", "last.svc.:1"))
	ended := make(chan struct{})
	close(ended)
	w.run(ended)
	require.Contains(t, inForce, "e")
}
