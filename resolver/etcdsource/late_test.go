package etcdsource

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/framegate/framegate/resolver"
	"github.com/framegate/framegate/resolver/etcdclient"
	"github.com/framegate/framegate/resolver/etcdstore"
	"github.com/framegate/framegate/resolver/spec"
	"github.com/framegate/framegate/test/etcdtest"
	"github.com/framegate/framegate/test/resolvertest"
	"github.com/framegate/framegate/test/routetest"
	"github.com/framegate/framegate/test/testlog"
)

// runFollower runs one follower of routes with a client of these members, until the test ends.
func runFollower(t *testing.T, prefix string, log *slog.Logger, seen chan<- string, endpoints ...string) *follower[*spec.Route] {
	t.Helper()
	cli, err := etcdclient.New(etcdclient.Config{Endpoints: endpoints})
	require.NoError(t, err)
	f := newFollower[*spec.Route]("routes", etcdstore.RouteKeys(prefix), newReachability(log, "etcd"), log)
	f.parse = etcdstore.ParseRoute
	f.standIn = newStandIn(Config{}, f.log)
	f.apply = func(changed map[string]bool) {
		for name := range changed {
			seen <- name
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { f.run(ctx, cli) })
	t.Cleanup(func() { cancel(); wg.Wait(); _ = cli.Close() })
	<-f.synced
	return f
}

// putter puts routes into etcd, and returns how long it takes until seen has each.
func putter(t *testing.T, place etcdtest.Place, seen <-chan string) func(name string) time.Duration {
	t.Helper()
	store := etcdstore.NewRoutes(resolvertest.EtcdClient(t, place.Endpoint), place.Prefix, nil)
	return func(name string) time.Duration {
		t.Helper()
		began := time.Now()
		_, err := store.Put(t.Context(), routetest.Route(name, "/a.S/"+name, 0))
		require.NoError(t, err)
		select {
		case got := <-seen:
			require.Equal(t, name, got)
		case <-time.After(etcdtest.Soon):
			t.Fatalf("%s is not in force within %s", name, etcdtest.Soon)
		}
		return time.Since(began)
	}
}

// watchedAt returns the member at which the only watch is.
func watchedAt(t *testing.T, members []*etcdtest.LateMember) (at *etcdtest.LateMember) {
	t.Helper()
	etcdtest.Eventually(t, etcdtest.Soon, "the watch is at one of them", func() bool {
		for _, m := range members {
			if m.Open() == 1 {
				at = m
			}
		}
		return at != nil
	})
	return at
}

// movesIn is what a watch takes to move, which is 2s, and what a busy machine takes: gRPC's keepalive would take 15s.
const movesIn = 8 * time.Second

// A member may be alive and behind: its disk is slow, or it does not hear of the others. Others are not.
func TestFollower_AWatchThatIsLateMovesToAnotherMember(t *testing.T) {
	t.Parallel()
	place := etcdtest.Shared(t)
	members := []*etcdtest.LateMember{etcdtest.NewLateMember(t, place.Endpoint), etcdtest.NewLateMember(t, place.Endpoint)}
	log, seen := &testlog.Buffer{}, make(chan string, 10)
	f := runFollower(t, place.Prefix, log.Logger(), seen, members[0].Address(), members[1].Address())
	put := putter(t, place, seen)
	put("first")
	at := watchedAt(t, members)
	at.Hold(true)
	require.Less(t, put("second"), movesIn)
	etcdtest.Eventually(t, etcdtest.Soon, "it is told why", func() bool { return log.Count(errLate.Error()) == 1 }) // once all is in force
	require.True(t, f.reach.inTrouble())
	for i := range 3 {
		put(fmt.Sprintf("after%d", i))
	}
	require.Equal(t, 1, log.Count(errLate.Error()), "no other is late")
	etcdtest.Eventually(t, etcdtest.Soon, "it watches at the other one", func() bool { return at.Open() == 0 })
}

// A member whose disk or raft is stuck takes requests and answers none. What others answer counts against it.
func TestFollower_AWatchAtAMemberThatHangsMovesToAnother(t *testing.T) {
	t.Parallel()
	for _, when := range []time.Duration{0, etcdProbeInterval / 2} { // since the last probe, more or less
		t.Run(when.String(), func(t *testing.T) {
			t.Parallel()
			place := etcdtest.Shared(t)
			members := []*etcdtest.LateMember{etcdtest.NewLateMember(t, place.Endpoint), etcdtest.NewLateMember(t, place.Endpoint), etcdtest.NewLateMember(t, place.Endpoint)}
			log, seen := &testlog.Buffer{}, make(chan string, 10)
			f := runFollower(t, place.Prefix, log.Logger(), seen, members[0].Address(), members[1].Address(), members[2].Address())
			put := putter(t, place, seen)
			put("first")
			at := watchedAt(t, members)
			time.Sleep(when)
			at.Hang("/Watch", "Health/Check")
			at.Hold(true)
			require.Less(t, put("second"), movesIn)
			etcdtest.Eventually(t, etcdtest.Soon, "it is told why", func() bool { return log.Count(errLate.Error()) == 1 }) // once all is in force
			for i := range 6 {                                                                                              // over more than one round of probes
				put(fmt.Sprintf("after%d", i))
				time.Sleep(etcdProbeInterval)
			}
			require.Equal(t, 1, log.Count(errLate.Error()), log.String())
			require.Zero(t, log.Count("etcd cannot be used"), log.String())
			require.Empty(t, f.reach.reason())
		})
	}
}

// While nobody answers it is an outage, and what a watch tells is in force all the same.
func TestFollower_ChangesDoNotWaitForProbes(t *testing.T) {
	t.Parallel()
	place := etcdtest.Shared(t)
	member := etcdtest.NewLateMember(t, place.Endpoint)
	log, seen := &testlog.Buffer{}, make(chan string, 10)
	f := runFollower(t, place.Prefix, log.Logger(), seen, member.Address())
	put := putter(t, place, seen)
	put("first")
	member.Hang("/Watch")
	etcdtest.Eventually(t, etcdtest.Soon, "it is an outage", func() bool { return f.reach.reason() != "" })
	ahead := 0 // changes that were in force before a probe had ended that was under way when they were made
	for i := range 5 {
		last, _ := member.Unanswered()
		etcdtest.Eventually(t, etcdtest.Soon, "a probe begins", func() bool { asked, _ := member.Unanswered(); return asked > last })
		_, gaveUp := member.Unanswered()
		put(fmt.Sprintf("after%d", i))
		if _, now := member.Unanswered(); now == gaveUp {
			ahead++
		}
	}
	require.GreaterOrEqual(t, ahead, 3)
}

// Nothing happens in an idle cluster, and in one where others write: neither is a sign of anything.
func TestFollower_AWatchThatHasNothingToTellStays(t *testing.T) {
	t.Parallel()
	e := etcdtest.StartEtcd(t)
	log, seen := &testlog.Buffer{}, make(chan string, 10)
	f := runFollower(t, etcdstore.DefaultPrefix, log.Logger(), seen, e.Endpoint())
	cli := resolvertest.EtcdClient(t, e.Endpoint())
	for _, writes := range []bool{false, true} {
		for until := time.Now().Add(3 * lateAfter); time.Now().Before(until); time.Sleep(5 * time.Millisecond) {
			if writes {
				_, err := cli.Put(t.Context(), "/elsewhere", "v")
				require.NoError(t, err)
			}
		}
	}
	require.Zero(t, log.Count("again"))
	require.False(t, f.reach.inTrouble())
}

// An answer of etcd and what a watch tells come in any order: neither is older for that.
func TestFollower_ManyChangesAreNoSignOfAnotherStore(t *testing.T) {
	place := etcdtest.Shared(t)
	log := &testlog.Buffer{}
	cli := resolvertest.EtcdClient(t, place.Endpoint)
	r := resolver.New()
	s := New(configOf(place), r, log.Logger())
	s.instances.probeEvery = time.Millisecond
	runInTest(t, s)
	<-s.Ready()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	var writers sync.WaitGroup
	for w := range 16 {
		writers.Go(func() {
			for i := 0; ctx.Err() == nil; i++ { // keys come and go
				key := etcdstore.ServiceKey(place.ServicePrefix, "echo", instanceAddress(w, i%20))
				_, _ = cli.Put(ctx, key, `{"network":"tcp","address":"`+instanceAddress(w, i%20)+`"}`)
				if i%3 == 0 {
					_, _ = cli.Delete(ctx, key)
				}
			}
		})
	}
	writers.Wait()
	for _, sign := range []error{errReplaced, errOutOfStep} { // not errSilent: 20 probes take no longer than a busy etcd may
		require.Zero(t, log.Count(sign.Error()), "%s", log.String())
	}
	etcdtest.Eventually(t, etcdtest.Soon, "all are in force", func() bool {
		want, err := cli.Get(t.Context(), place.ServicePrefix+"/", clientv3.WithPrefix(), clientv3.WithCountOnly())
		return err == nil && int64(len(r.Instances()["echo"])) == want.Count
	})
}

func instanceAddress(host, port int) string {
	return (&net.TCPAddr{IP: net.IPv4(10, 0, 0, byte(host)), Port: 1000 + port}).String()
}
