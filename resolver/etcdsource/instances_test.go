package etcdsource

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/framegate/framegate/resolver/etcdstore"
	"github.com/framegate/framegate/resolver/spec"
	"github.com/framegate/framegate/test/etcdtest"
	"github.com/framegate/framegate/test/race"
	"github.com/framegate/framegate/test/resolvertest"
	"github.com/framegate/framegate/test/routetest"
)

func TestEtcd_InstancesComeAndGoWithinASecond(t *testing.T) {
	t.Parallel()
	at := etcdtest.Shared(t)
	cli := resolvertest.EtcdClient(t, at.Endpoint)
	_, err := etcdstore.NewRoutes(cli, at.Prefix, nil).Put(t.Context(), routetest.MustRoute(t, serviceRoute))
	require.NoError(t, err)
	putInstance(t, cli, at.ServicePrefix, "echo", "e:1")
	r, log := runSource(t, configOf(at))
	require.True(t, resolvertest.AddressOf(r, "/found.S/M", "e:1")(), "what was there takes calls when the source is ready")

	lease, err := cli.Grant(t.Context(), 1)
	require.NoError(t, err)
	_, err = cli.Put(t.Context(), at.ServicePrefix+"/echo/e:2", `{"network":"tcp","address":"e:2","weight":10}`, clientv3.WithLease(lease.ID))
	require.NoError(t, err)
	t.Logf("new instance takes calls after %s", etcdtest.Eventually(t, etcdtest.Soon, "a new instance takes calls", resolvertest.AddressOf(r, "/found.S/M", "e:2")))
	_, err = cli.Delete(t.Context(), at.ServicePrefix+"/echo/e:1")
	require.NoError(t, err)
	never := func(address string) func() bool {
		return func() bool {
			for range 50 {
				if resolvertest.AddressOf(r, "/found.S/M", address)() {
					return false
				}
			}
			return true
		}
	}
	t.Logf("deregistered instance gets no calls after %s", etcdtest.Eventually(t, etcdtest.Soon, "a deregistered instance gets no calls", never("e:1")))
	// etcd ends a lease within some seconds after its time; the key's removal is what the second counts from.
	etcdtest.Eventually(t, etcdtest.Soon, "etcd ends the lease", func() bool {
		resp, err := cli.Get(t.Context(), at.ServicePrefix+"/echo/e:2")
		return err == nil && len(resp.Kvs) == 0
	})
	t.Logf("expired instance gets no calls after %s", etcdtest.Eventually(t, etcdtest.Soon, "an expired instance gets no calls", resolvertest.AddressOf(r, "/found.S/M", "")))

	// A value that is none never replaces a good one, and does not stop others.
	putInstance(t, cli, at.ServicePrefix, "echo", "e:3")
	etcdtest.Eventually(t, etcdtest.Soon, "it takes calls", resolvertest.AddressOf(r, "/found.S/M", "e:3"))
	for key, value := range map[string]string{"echo/e:3": "{", "echo/e:4": `{"address":"nowhere"}`, "odd": `{"network":"tcp","address":"e:5","weight":10}`} {
		_, err = cli.Put(t.Context(), at.ServicePrefix+"/"+key, value)
		require.NoError(t, err)
	}
	etcdtest.Eventually(t, etcdtest.Soon, "all three are refused", func() bool { return log.Count("bad document among instances") == 3 })
	require.True(t, resolvertest.AddressOf(r, "/found.S/M", "e:3")())
	require.Len(t, r.Instances(), 1)
}

// The figures that are promised: 10,000 routes change within 100 ms, 10,000 instances in 100 services within 50 ms, and
// whoever asks meanwhile waits for nothing.
func TestEtcd_TenThousandRoutesAndInstances(t *testing.T) {
	e := etcdtest.StartEtcd(t)
	cli := resolvertest.EtcdClient(t, e.Endpoint())
	store := etcdstore.NewRoutes(cli, etcdstore.DefaultPrefix, nil)
	n := race.Choose(10_000, 2_000)
	var batch []*spec.Route
	for i := range n {
		batch = append(batch, routetest.MustRoute(t, fmt.Sprintf(`{name: r%d, match: [{method: /s%d.S/M%d}], backends: [{service: s%d}]}`, i, i%100, i, i%100)))
		if len(batch) == etcdstore.MaxPutRoutes || i == n-1 {
			_, err := store.PutAll(t.Context(), batch)
			require.NoError(t, err)
			batch = nil
		}
	}
	for i := 0; i < n; i += 100 {
		var ops []clientv3.Op
		for j := range 100 {
			address := fmt.Sprintf("10.0.%d.%d:80", i/100, j)
			ops = append(ops, clientv3.OpPut(fmt.Sprintf("%s/s%d/%s", etcdstore.DefaultServicePrefix, i/100, address), fmt.Sprintf(`{"network":"tcp","address":%q,"weight":10}`, address)))
		}
		_, err := cli.Txn(t.Context()).Then(ops...).Commit()
		require.NoError(t, err)
	}
	began := time.Now()
	r, _ := runSource(t, etcdConfig(e.Endpoint()))
	t.Logf("ready after %s", time.Since(began))
	require.Len(t, r.Routes(), n)
	require.Len(t, r.Instances(), n/100)

	done, worst := make(chan struct{}), make(chan time.Duration, 1)
	go func() {
		var longest time.Duration
		for {
			select {
			case <-done:
				worst <- longest
				return
			default:
			}
			began := time.Now()
			resolvertest.Resolve(r, spec.Request{Method: "/s5.S/M5"})
			longest = max(longest, time.Since(began))
		}
	}()
	var route, instance time.Duration
	for i := range 5 {
		_, err := store.Put(t.Context(), routetest.MustRoute(t, fmt.Sprintf(`{name: r7, match: [{method: /new.S/M%d}], backends: [{service: s7}]}`, i)))
		require.NoError(t, err)
		route = max(route, etcdtest.Eventually(t, etcdtest.Soon, "the change is live", resolvertest.Resolves(r, fmt.Sprintf("/new.S/M%d", i), "r7")))
		putInstance(t, cli, etcdstore.DefaultServicePrefix, fmt.Sprintf("late%d", i), "l:1")
		instance = max(instance, etcdtest.Eventually(t, etcdtest.Soon, "the instance is known", func() bool { return len(r.Instances()[fmt.Sprintf("late%d", i)]) == 1 }))
	}
	close(done)
	t.Logf("route live after %s at most, instance after %s; longest Resolve %s", route, instance, <-worst)
}
