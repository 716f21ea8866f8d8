package etcdstore

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/cloudwego/kitex/pkg/registry"
	"github.com/cloudwego/kitex/pkg/utils"
	etcdregistry "github.com/kitex-contrib/registry-etcd"
	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/framegate/framegate/resolver/etcdclient"
	"github.com/framegate/framegate/resolver/match"
	"github.com/framegate/framegate/resolver/spec"
	"github.com/framegate/framegate/test/etcdtest"
	"github.com/framegate/framegate/test/resolvertest"
)

func newServiceStore(t *testing.T) *Services {
	t.Helper()
	return NewServices(resolvertest.EtcdClient(t, etcdtest.StartEtcd(t).Endpoint()), DefaultServicePrefix)
}

// etcdRevision is that of the whole store: any write raises it.
func etcdRevision(t *testing.T, cli *clientv3.Client) int64 {
	t.Helper()
	resp, err := cli.Get(t.Context(), "any")
	require.NoError(t, err)
	return resp.Header.Revision
}

var echoInstance = spec.Instance{Address: "127.0.0.1:9001", Weight: 20, Tags: map[string]string{"cluster": "a"}}

func TestServiceStore_RegisteringTwiceChangesNothing(t *testing.T) {
	t.Parallel()
	s := newServiceStore(t)
	other := NewServices(s.cli, DefaultServicePrefix) // as on another framegate
	for _, ttl := range []time.Duration{10 * time.Second, time.Second} {
		t.Run(ttl.String(), func(t *testing.T) { // etcd makes 2s of 1s
			for {
				began := time.Now()
				created, err := s.Heartbeat(t.Context(), ttl.String(), echoInstance, ttl)
				require.NoError(t, err)
				before, held := etcdRevision(t, s.cli), etcdtest.Leases(t, s.cli)
				var again []Heartbeat
				for _, store := range []*Services{s, other, s, other} {
					hb, err := store.Heartbeat(t.Context(), ttl.String(), echoInstance, ttl)
					require.NoError(t, err)
					again = append(again, hb)
				}
				after, heldAfter := etcdRevision(t, s.cli), etcdtest.Leases(t, s.cli)
				if time.Since(began) > ttl { // on a machine this busy the lease may have ended
					_, err := s.cli.Revoke(t.Context(), again[3].Lease)
					t.Log("again: ", err)
					continue
				}
				require.Equal(t, match.Created, created.Outcome)
				require.Equal(t, before, created.Revision)
				for _, hb := range again {
					require.Equal(t, Heartbeat{Outcome: match.Unchanged, Revision: created.Revision, Lease: created.Lease}, hb)
				}
				require.Equal(t, before, after)
				require.Equal(t, held, heldAfter, "no lease is left over")
				return
			}
		})
	}
}

func TestServiceStore_HeartbeatRenewsTheLease(t *testing.T) {
	t.Parallel()
	s := newServiceStore(t)
	hb, err := s.Heartbeat(t.Context(), "echo", echoInstance, 5*time.Second)
	require.NoError(t, err)
	left := func() int64 {
		resp, err := s.cli.TimeToLive(t.Context(), hb.Lease)
		require.NoError(t, err)
		require.EqualValues(t, 5, resp.GrantedTTL)
		return resp.TTL
	}
	etcdtest.Eventually(t, etcdtest.Soon, "the lease runs", func() bool { return left() <= 2 })
	_, err = s.Heartbeat(t.Context(), "echo", echoInstance, 5*time.Second)
	require.NoError(t, err)
	require.GreaterOrEqual(t, left(), int64(4))
}

func TestServiceStore_HeartbeatWritesWhatDiffers(t *testing.T) {
	t.Parallel()
	s := newServiceStore(t)
	key := ServiceKey(DefaultServicePrefix, "echo", echoInstance.Address)
	last, err := s.Heartbeat(t.Context(), "echo", echoInstance, 10*time.Second)
	require.NoError(t, err)
	heavier, untagged := echoInstance, echoInstance
	heavier.Weight = 30
	untagged.Tags = nil
	write := func(value string, opts ...clientv3.OpOption) func() {
		return func() {
			_, err := s.cli.Put(t.Context(), key, value, opts...)
			require.NoError(t, err)
		}
	}
	doc, err := noted{echoInstance, Notes{Heartbeat: true}}.encode()
	require.NoError(t, err)
	for _, c := range []struct {
		what   string
		before func()
		in     spec.Instance
		ttl    time.Duration
		want   match.Outcome
	}{
		{"a weight", nil, heavier, 10 * time.Second, match.Updated},
		{"tags", nil, untagged, 10 * time.Second, match.Updated},
		{"a longer ttl", nil, untagged, 20 * time.Second, match.Updated},
		{"a shorter ttl", nil, untagged, 5 * time.Second, match.Updated},
		{"the same document without a lease", write(string(doc)), echoInstance, 10 * time.Second, match.Updated},
		{"no instance", write("colour: red"), echoInstance, 10 * time.Second, match.Updated},
		{"a deleted key", func() { _, _ = s.cli.Delete(t.Context(), key) }, echoInstance, 10 * time.Second, match.Created},
		{"a lost lease", func() { _, _ = s.cli.Revoke(t.Context(), last.Lease) }, echoInstance, 10 * time.Second, match.Created},
	} {
		if c.before != nil {
			c.before()
		}
		last, err = s.Heartbeat(t.Context(), "echo", c.in, c.ttl)
		require.NoError(t, err)
		require.Equal(t, c.want, last.Outcome, c.what)
		require.Equal(t, etcdRevision(t, s.cli), last.Revision, c.what)
		services, bad, err := s.List(t.Context())
		require.NoError(t, err)
		require.Empty(t, bad)
		require.Equal(t, []ServiceInstances{{Service: "echo", Instances: []RegisteredInstance{
			{Instance: c.in, Key: key, Revision: last.Revision, Lease: last.Lease},
		}}}, services, c.what)
		require.NoError(t, s.FillTTL(t.Context(), services))
		left := services[0].Instances[0].TTL
		require.True(t, left > c.ttl-3*time.Second && left <= c.ttl, "%s: %s of %s left", c.what, left, c.ttl)
	}
}

func TestServiceStore_HeartbeatNamesEachMistake(t *testing.T) {
	t.Parallel()
	s := newServiceStore(t)
	_, err := s.Heartbeat(t.Context(), "a/b", spec.Instance{Address: "nowhere"}, 1500*time.Millisecond)
	for _, want := range []string{
		`service: "a/b", want 1 to 255`, `address: "nowhere", want host:port`, "weight: 0, want 1 to 1000000",
		"ttl: 1.5s, want whole seconds from 1s to 24h0m0s",
	} {
		require.ErrorContains(t, err, want)
	}
	for _, ttl := range []time.Duration{0, -time.Second, 25 * time.Hour} {
		_, err := s.Heartbeat(t.Context(), "echo", echoInstance, ttl)
		require.ErrorContains(t, err, "ttl: "+ttl.String())
	}
	require.EqualValues(t, 1, etcdRevision(t, s.cli), "nothing is stored")
}

func TestServiceStore_SeveralHeartbeatsAtOnceAgree(t *testing.T) {
	t.Parallel()
	s := newServiceStore(t)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 5 {
				_, err := NewServices(s.cli, DefaultServicePrefix).Heartbeat(t.Context(), "echo", echoInstance, 10*time.Second)
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	require.EqualValues(t, 2, etcdRevision(t, s.cli), "written once")
	require.Equal(t, 1, etcdtest.Leases(t, s.cli), "the losers gave their leases back")
}

func TestServiceStore_ListTellsBadDocumentsApart(t *testing.T) {
	t.Parallel()
	s := newServiceStore(t)
	for _, service := range []string{"echo.v2", "echo", "echo-x"} {
		for _, port := range []int{2, 1} {
			_, err := s.Heartbeat(t.Context(), service, spec.Instance{Address: fmt.Sprintf("h:%d", port), Weight: 1}, 10*time.Second)
			require.NoError(t, err)
		}
	}
	_, err := s.Heartbeat(t.Context(), "echo", spec.Instance{Address: "unix:/run/e/echo.sock", Weight: 1}, 10*time.Second)
	require.NoError(t, err)
	for _, key := range []string{"echo/h:3", "echo", "", "/h:1"} {
		_, err := s.cli.Put(t.Context(), DefaultServicePrefix+"/"+key, "colour: red")
		require.NoError(t, err)
	}
	_, err = s.cli.Put(t.Context(), DefaultServicePrefix+"-other/echo/h:4", "none of ours")
	require.NoError(t, err)

	services, bad, err := s.List(t.Context())
	require.NoError(t, err)
	var shown []string
	for _, service := range services {
		for _, in := range service.Instances {
			shown = append(shown, service.Service+" "+in.Address)
		}
	}
	require.Equal(t, []string{"echo h:1", "echo h:2", "echo unix:/run/e/echo.sock", "echo-x h:1", "echo-x h:2", "echo.v2 h:1", "echo.v2 h:2"}, shown)
	require.Len(t, bad, 4)
	require.ErrorContains(t, bad[0], `key: "kitex/registry-etcd/", want kitex/registry-etcd/SERVICE/ADDRESS`)
	require.Regexp(t, `^instance kitex/registry-etcd/echo/h:3: bad document at revision \d+: invalid character`, bad[3].Error())

	found, err := s.Deregister(t.Context(), "echo", "h:3")
	require.NoError(t, err)
	require.True(t, found, "a bad document can be removed")
	found, err = s.Deregister(t.Context(), "echo", "unix:/run/e/echo.sock")
	require.NoError(t, err)
	require.True(t, found)
	found, err = s.Deregister(t.Context(), "echo", "unix:/run/e/echo.sock")
	require.NoError(t, err)
	require.False(t, found)
}

func TestServiceStore_EndsWithItsContext(t *testing.T) {
	t.Parallel()
	s := NewServices(resolvertest.EtcdClient(t, "127.0.0.1:1"), DefaultServicePrefix)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err := s.Heartbeat(ctx, "echo", echoInstance, 10*time.Second)
	require.True(t, etcdclient.IsUnavailable(err), "%v", err)
	_, _, err = s.List(ctx)
	require.True(t, etcdclient.IsUnavailable(err), "%v", err)
	_, err = s.Deregister(ctx, "echo", echoInstance.Address)
	require.True(t, etcdclient.IsUnavailable(err), "%v", err)
	err = s.FillTTL(ctx, []ServiceInstances{{Instances: []RegisteredInstance{{Lease: 1}}}})
	require.Error(t, err)
}

func TestServiceStore_RegistryEtcdFindsWhatItRegisters(t *testing.T) {
	t.Parallel()
	s := newServiceStore(t)
	unix := spec.Instance{Address: "unix:/run/echo.sock", Weight: 1}
	for _, in := range []spec.Instance{echoInstance, unix} {
		_, err := s.Heartbeat(t.Context(), "echo", in, 10*time.Second)
		require.NoError(t, err)
	}
	resolver, err := etcdregistry.NewEtcdResolver(s.cli.Endpoints(), etcdtest.QuietRegistry)
	require.NoError(t, err)
	defer etcdtest.CloseEtcdClient(resolver)
	found, err := resolver.Resolve(t.Context(), "echo")
	require.NoError(t, err)
	require.Len(t, found.Instances, 2)
	tcp, sock := found.Instances[0], found.Instances[1]
	require.Equal(t, []any{"tcp", "127.0.0.1:9001", 20}, []any{tcp.Address().Network(), tcp.Address().String(), tcp.Weight()})
	cluster, _ := tcp.Tag("cluster")
	require.Equal(t, "a", cluster)
	require.Equal(t, []any{"unix", "/run/echo.sock", 1}, []any{sock.Address().Network(), sock.Address().String(), sock.Weight()})
}

func TestServiceStore_FindsWhatRegistryEtcdRegisters(t *testing.T) {
	s := newServiceStore(t)
	t.Setenv("KITEX_ETCD_REGISTRY_LEASE_TTL", "10")
	reg, err := etcdregistry.NewEtcdRegistry(s.cli.Endpoints(), etcdtest.QuietRegistry)
	require.NoError(t, err)
	defer etcdtest.CloseEtcdClient(reg)
	info := &registry.Info{ServiceName: "echo", Addr: utils.NewNetAddr("tcp", echoInstance.Address), Weight: 20, Tags: echoInstance.Tags}
	require.NoError(t, reg.Register(info))
	services, bad, err := s.List(t.Context())
	require.NoError(t, err)
	require.Empty(t, bad)
	require.Len(t, services, 1)
	require.Equal(t, "echo", services[0].Service)
	require.Equal(t, echoInstance, services[0].Instances[0].Instance)

	hb, err := s.Heartbeat(t.Context(), "echo", echoInstance, 10*time.Second)
	require.NoError(t, err)
	require.Equal(t, match.Updated, hb.Outcome, "it is on a lease of its own from now on")
	again, err := s.Heartbeat(t.Context(), "echo", echoInstance, 10*time.Second)
	require.NoError(t, err)
	require.Equal(t, Heartbeat{Outcome: match.Unchanged, Revision: hb.Revision, Lease: hb.Lease}, again)

	require.NoError(t, reg.Deregister(info))
	services, _, err = s.List(t.Context())
	require.NoError(t, err)
	require.Empty(t, services)
}

func TestHeartbeat_ThatEtcdRefusesLeavesNoLease(t *testing.T) {
	t.Parallel()
	endpoint := etcdtest.StartEtcdForUsers(t)
	etcdtest.EnableAuth(t, resolvertest.EtcdClient(t, endpoint))
	as := func(user string) *clientv3.Client {
		cli, err := etcdclient.New(etcdclient.Config{Endpoints: []string{endpoint}, Username: user, Password: "p"})
		require.NoError(t, err)
		t.Cleanup(func() { _ = cli.Close() })
		return cli
	}
	store := NewServices(as("reader"), DefaultServicePrefix)
	_, err := store.Heartbeat(t.Context(), "s", spec.Instance{Address: "s:1", Weight: 1}, time.Hour)
	require.ErrorContains(t, err, "permission denied")
	leases, err := as("root").Leases(t.Context())
	require.NoError(t, err)
	require.Empty(t, leases.Leases)
}
