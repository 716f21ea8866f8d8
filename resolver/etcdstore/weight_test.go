package etcdstore

import (
	"testing"
	"time"

	"github.com/cloudwego/kitex/pkg/registry"
	"github.com/cloudwego/kitex/pkg/utils"
	etcdregistry "github.com/kitex-contrib/registry-etcd"
	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/framegate/framegate/resolver/match"
	"github.com/framegate/framegate/resolver/spec"
	"github.com/framegate/framegate/test/etcdtest"
)

// stored returns what a key holds.
func stored(t *testing.T, cli *clientv3.Client, key string) (value string, lease clientv3.LeaseID) {
	t.Helper()
	resp, err := cli.Get(t.Context(), key)
	require.NoError(t, err)
	require.Len(t, resp.Kvs, 1, key)
	return string(resp.Kvs[0].Value), clientv3.LeaseID(resp.Kvs[0].Lease)
}

var echoKey = ServiceKey(DefaultServicePrefix, "echo", echoInstance.Address)

func withWeight(weight int) spec.Instance {
	in := echoInstance
	in.Weight = weight
	return in
}

// A weight is set without a take-over: whoever keeps the instance registered goes on, with the new weight.
func TestWeight_StaysWhileARegistrationGoesOn(t *testing.T) {
	t.Parallel()
	endpoint, cli := startForRegistration(t)
	r := runRegistration(t, endpoint, echoInstance, 2*time.Second)
	lease := r.wait(t).Lease
	store := NewServices(cli, DefaultServicePrefix)
	set, err := store.SetWeight(t.Context(), "echo", echoInstance.Address, 3)
	require.NoError(t, err)
	require.Equal(t, WeightChange{Outcome: match.Updated, Address: echoInstance.Address, Was: 20, Revision: etcdRevision(t, cli)}, set)
	stays(t, 5*time.Second, registered(t, cli, withWeight(3))) // more than twice the ttl
	require.Equal(t, set.Revision, etcdRevision(t, cli), "heartbeats write nothing")
	_, now := stored(t, cli, echoKey)
	require.Equal(t, lease, now)
	require.Equal(t, 1, r.logs.Count("the weight was set"), r.logs.String())

	_, err = cli.Revoke(t.Context(), lease)
	require.NoError(t, err)
	etcdtest.Eventually(t, etcdtest.Soon, "it is registered again, with the weight that was set", registered(t, cli, withWeight(3)))

	set, err = store.SetWeight(t.Context(), "echo", echoInstance.Address, 20)
	require.NoError(t, err)
	require.Equal(t, 3, set.Was)
	value, _ := stored(t, cli, echoKey)
	require.NotContains(t, value, "registered_weight", "as it registered")
	etcdtest.Eventually(t, etcdtest.Soon, "the registration hears of it", func() bool { return r.logs.Count("the weight was set") == 2 })
	require.Equal(t, set.Revision, etcdRevision(t, cli))
	r.stop()
	require.True(t, none(t, cli)())
	require.Zero(t, etcdtest.Leases(t, cli))
}

// Heartbeats of nobody in particular say the weight each time: the same as before does not undo what was set.
func TestWeight_StaysWhileHeartbeatsSayTheSameAsBefore(t *testing.T) {
	t.Parallel()
	s := newServiceStore(t)
	beat := func(weight int) Heartbeat {
		hb, err := s.Heartbeat(t.Context(), "echo", withWeight(weight), 10*time.Second)
		require.NoError(t, err)
		return hb
	}
	is := registered(t, s.cli, withWeight(1))
	first := beat(20)
	_, err := s.SetWeight(t.Context(), "echo", echoInstance.Address, 1)
	require.NoError(t, err)
	again := beat(20)
	require.Equal(t, match.Unchanged, again.Outcome)
	require.Equal(t, first.Lease, again.Lease)
	require.True(t, is())
	hb, err := s.Heartbeat(t.Context(), "echo", echoInstance, 20*time.Second)
	require.NoError(t, err)
	require.Equal(t, match.Updated, hb.Outcome, "another ttl")
	require.True(t, is())
	require.Equal(t, match.Updated, beat(30).Outcome, "whoever sends them wants another weight")
	require.True(t, registered(t, s.cli, withWeight(30))())
}

// A Kitex server's document keeps all that it says, on the lease that the server keeps alive.
func TestWeight_OfAKitexServerLeavesTheRestAsItIs(t *testing.T) {
	t.Parallel()
	s := newServiceStore(t)
	reg, err := etcdregistry.NewEtcdRegistry(s.cli.Endpoints(), etcdtest.QuietRegistry)
	require.NoError(t, err)
	defer etcdtest.CloseEtcdClient(reg)
	info := &registry.Info{ServiceName: "echo", Addr: utils.NewNetAddr("tcp", echoInstance.Address), Weight: 20, Tags: echoInstance.Tags}
	require.NoError(t, reg.Register(info))
	_, lease := stored(t, s.cli, echoKey)
	_, err = s.SetWeight(t.Context(), "echo", echoInstance.Address, 7)
	require.NoError(t, err)
	value, now := stored(t, s.cli, echoKey)
	require.Equal(t, lease, now)
	require.JSONEq(t, `{"network":"tcp","address":"127.0.0.1:9001","weight":7,"tags":{"cluster":"a"},"registered_weight":20}`, value)
	found, err := etcdregistry.NewEtcdResolver(s.cli.Endpoints(), etcdtest.QuietRegistry)
	require.NoError(t, err)
	defer etcdtest.CloseEtcdClient(found)
	result, err := found.Resolve(t.Context(), "echo")
	require.NoError(t, err)
	require.Equal(t, 7, result.Instances[0].Weight())

	_, err = s.cli.Put(t.Context(), echoKey, `{"network":"tcp","Weight":0,"address":"127.0.0.1:9001","later":{"b":1.50,"a":[1]}}`, clientv3.WithLease(lease))
	require.NoError(t, err)
	set, err := s.SetWeight(t.Context(), "echo", echoInstance.Address, 7)
	require.NoError(t, err)
	require.Equal(t, spec.DefaultInstanceWeight, set.Was)
	value, now = stored(t, s.cli, echoKey)
	require.Equal(t, lease, now)
	require.Equal(t, `{"address":"127.0.0.1:9001","later":{"b":1.50,"a":[1]},"network":"tcp","registered_weight":10,"weight":7}`, value)
	require.NoError(t, reg.Deregister(info))
}

func TestWeight_NamesWhatIsWrong(t *testing.T) {
	t.Parallel()
	s := newServiceStore(t)
	for _, weight := range []int{0, -1, spec.MaxWeight + 1} {
		_, err := s.SetWeight(t.Context(), "echo", echoInstance.Address, weight)
		require.ErrorContains(t, err, "want 1 to 1000000")
	}
	_, err := s.SetWeight(t.Context(), "echo", echoInstance.Address, 1)
	require.ErrorIs(t, err, ErrNotFound)
	_, err = s.cli.Put(t.Context(), echoKey, "colour: red")
	require.NoError(t, err)
	_, err = s.SetWeight(t.Context(), "echo", echoInstance.Address, 1)
	require.ErrorContains(t, err, "bad document")
	value, _ := stored(t, s.cli, echoKey)
	require.Equal(t, "colour: red", value)

	hb, err := s.Heartbeat(t.Context(), "echo", echoInstance, time.Minute)
	require.NoError(t, err)
	set, err := s.SetWeight(t.Context(), "echo", echoInstance.Address, echoInstance.Weight)
	require.NoError(t, err)
	require.Equal(t, WeightChange{Outcome: match.Unchanged, Address: echoInstance.Address, Was: 20, Revision: hb.Revision}, set)
}

// Whoever takes an instance over has it on a lease of its own: what the one before does with its lease does not matter.
func TestHeartbeat_TookOverStaysWhenTheFirstOwnerDeregisters(t *testing.T) {
	t.Parallel()
	endpoint, cli := startForRegistration(t)
	const ttl = 6 * time.Second
	first := runRegistration(t, endpoint, echoInstance, ttl)
	first.wait(t)
	store := NewServices(cli, DefaultServicePrefix)
	hb, err := store.Heartbeat(t.Context(), "echo", echoInstance, ttl) // the same instance, the same ttl
	require.NoError(t, err)
	first.stop()
	require.True(t, registered(t, cli, echoInstance)(), "the heartbeat's stays")
	again, err := store.Heartbeat(t.Context(), "echo", echoInstance, ttl)
	require.NoError(t, err)
	require.Equal(t, Heartbeat{Outcome: match.Unchanged, Revision: hb.Revision, Lease: hb.Lease}, again)
	require.Equal(t, hb.Revision, etcdRevision(t, cli), "it was never away")
	require.Equal(t, 1, etcdtest.Leases(t, cli))
}
