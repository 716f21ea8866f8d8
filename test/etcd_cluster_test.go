package test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/framegate/framegate/conf"
	"github.com/framegate/framegate/resolver/etcdclient"
	"github.com/framegate/framegate/resolver/etcdstore"
	"github.com/framegate/framegate/resolver/spec"
	"github.com/framegate/framegate/test/testbed"
)

// registerAt keeps an instance of the service echo registered, as "framegate service register" does, until the test ends.
func registerAt(t *testing.T, endpoints []string, address string, ttl time.Duration) {
	t.Helper()
	cli, err := etcdclient.New(etcdclient.Config{Endpoints: endpoints})
	require.NoError(t, err)
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	r := etcdstore.NewRegistration(etcdstore.NewServices(cli, etcdstore.DefaultServicePrefix), "echo", spec.Instance{Address: address, Weight: 10}, ttl, log)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { r.Run(ctx) })
	t.Cleanup(func() { cancel(); wg.Wait(); _ = cli.Close() })
	testbed.Await(t, r.Registered(), "a registration")
}

// calls are made in a steady stream until the test ends.
type calls struct {
	made, lost atomic.Int64
	last       atomic.Pointer[string] // error
}

func steadyCalls(t *testing.T, addr, method string) *calls {
	t.Helper()
	c := &calls{}
	cc := testbed.DialGRPC(t, addr)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for ctx.Err() == nil {
				var reply []byte
				err := cc.Invoke(ctx, method, &reply, &reply)
				if ctx.Err() != nil {
					return
				}
				c.made.Add(1)
				if err != nil {
					text := err.Error()
					c.last.Store(&text)
					c.lost.Add(1)
				}
				time.Sleep(10 * time.Millisecond) // a pace
			}
		})
	}
	t.Cleanup(func() { cancel(); wg.Wait() })
	return c
}

func (c *calls) requireNoneLost(t *testing.T, when string) {
	t.Helper()
	if lost := c.lost.Load(); lost > 0 {
		t.Fatalf("%s: %d of %d calls were lost, the last with %s", when, lost, c.made.Load(), *c.last.Load())
	}
}

// One of three members stops, as a machine that hangs does: its connections stay open and say nothing. Neither instances
// nor changes may depend on it.
func TestEtcdCluster_OneMemberThatHangsCostsNothing(t *testing.T) {
	t.Parallel()
	const ttl = 5 * time.Second
	cluster := testbed.NewEtcdCluster(t, 3)
	endpoints := cluster.Endpoints()
	for i := range 4 {
		registerAt(t, endpoints, answering(t, fmt.Sprint(i)), ttl)
	}
	proxy := testbed.NewProxy(t, "", func(c *conf.Config) { c.Etcd.Endpoints = endpoints }, testbed.Admin())
	routes := etcdRoutes{t, testbed.DialEtcd(t, endpoints[0])}
	routes.put("echo", `{name: echo, match: [{method: /a.B/C}], backends: [{service: echo}]}`)
	cc := testbed.DialGRPC(t, proxy.Addr)
	testbed.Poll(t, func() error {
		if got := answerOf(t, cc, "/a.B/C"); len(got) != 1 {
			return fmt.Errorf("got %q", got)
		}
		return nil
	})
	steady := steadyCalls(t, proxy.Addr, "/a.B/C")
	one := answering(t, "one")
	for i, member := range cluster.Members { // the leader is among them, and the one that has the watch
		living := etcdRoutes{t, testbed.DialEtcd(t, endpoints[(i+1)%3])}
		living.put("before", routeDocument("before", fmt.Sprintf("/a.B/Before%d", i), one))
		awaitAnswer(t, cc, fmt.Sprintf("/a.B/Before%d", i), "one")
		member.Stop()
		began := time.Now()
		for n := 0; time.Since(began) < ttl+2*time.Second; n++ {
			method := fmt.Sprintf("/a.B/Stopped%d-%d", i, n)
			testbed.Poll(t, func() error { // with the leader stopped, until there is another
				_, err := living.cli.Put(patient(t), "/framegate/routes/stopped", routeDocument("stopped", method, one))
				return err
			})
			took := awaitAnswer(t, cc, method, "one")
			require.Less(t, took, testbed.Patience/2, "a change %s after member %d stopped: 2s, and what a busy machine takes", time.Since(began), i)
			services, _, err := etcdstore.NewServices(living.cli, etcdstore.DefaultServicePrefix).List(patient(t))
			require.NoError(t, err)
			require.Len(t, services[0].Instances, 4, "%s after a member stopped", time.Since(began))
			steady.requireNoneLost(t, fmt.Sprintf("member %d stopped", i))
			time.Sleep(200 * time.Millisecond) // a pace
		}
		member.Continue()
		testbed.Poll(t, func() error { // before the next one stops
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			_, err := testbed.DialEtcd(t, member.Endpoint).Get(ctx, "k")
			return err
		})
	}
	steady.requireNoneLost(t, "at the end")
}

// A gateway is told of the cluster by one address, and starts again with another one while nobody answers: the members
// themselves have said where they are.
func TestEtcdCluster_SnapshotOfAnotherMembersAddressStandsIn(t *testing.T) {
	t.Parallel()
	cluster := testbed.NewEtcdCluster(t, 2)
	endpoints := cluster.Endpoints()
	etcdRoutes{t, testbed.DialEtcd(t, endpoints[0])}.put("one", routeDocument("one", "/a.B/C", answering(t, "one")))
	path := filepath.Join(t.TempDir(), "s.json")
	snapshot := testbed.Snapshot(path)
	proxy := testbed.NewProxy(t, "", testbed.EtcdAt(endpoints[0]), snapshot)
	testbed.Poll(t, func() error {
		doc, err := os.ReadFile(path)
		if err == nil && !bytes.Contains(doc, []byte(endpoints[1])) {
			return fmt.Errorf("the snapshot does not name %s", endpoints[1])
		}
		return err
	})
	proxy.Stop()
	for _, m := range cluster.Members {
		m.Stop()
	}
	proxy = testbed.NewProxy(t, "", testbed.EtcdAt(endpoints[1]), snapshot)
	awaitAnswer(t, testbed.DialGRPC(t, proxy.Addr), "/a.B/C", "one")
}

// A member without a leader gives nothing of what it has, but says which cluster it is of.
func TestEtcdCluster_MemberAloneTellsWhoseSnapshotItIs(t *testing.T) {
	t.Parallel()
	cluster := testbed.NewEtcdCluster(t, 3)
	endpoints := cluster.Endpoints()
	etcdRoutes{t, testbed.DialEtcd(t, endpoints[0])}.put("one", routeDocument("one", "/a.B/C", answering(t, "one")))
	path := filepath.Join(t.TempDir(), "s.json")
	proxy := testbed.NewProxy(t, "", testbed.EtcdAt(endpoints[0]), testbed.Snapshot(path))
	awaitAnswer(t, testbed.DialGRPC(t, proxy.Addr), "/a.B/C", "one")
	proxy.Stop()
	doc, err := os.ReadFile(path)
	require.NoError(t, err)
	for _, e := range endpoints { // as if it had been made under names of the members
		doc = bytes.ReplaceAll(doc, []byte(e), []byte("etcd-name:2379"))
	}
	require.NoError(t, os.WriteFile(path, doc, 0o600))
	cluster.Members[0].Stop()
	cluster.Members[1].Stop()
	proxy = testbed.NewProxy(t, "", testbed.EtcdAt(endpoints[2]), testbed.Snapshot(path))
	awaitAnswer(t, testbed.DialGRPC(t, proxy.Addr), "/a.B/C", "one")
}
