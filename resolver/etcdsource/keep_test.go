package etcdsource

import (
	"context"
	"log/slog"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"

	"github.com/framegate/framegate/resolver"
	"github.com/framegate/framegate/resolver/cluster"
	"github.com/framegate/framegate/resolver/etcdstore"
	"github.com/framegate/framegate/resolver/spec"
	"github.com/framegate/framegate/test/etcdtest"
	"github.com/framegate/framegate/test/resolvertest"
	"github.com/framegate/framegate/test/testlog"
)

// kept is a source that keeps instances, and etcd.
type kept struct {
	t      *testing.T
	cli    *clientv3.Client
	store  *etcdstore.Services
	keys   string // the prefix of its keys
	r      *resolver.Resolver
	source *Source
	logs   *testlog.Buffer
}

func keeping(t *testing.T, keepFor time.Duration) *kept {
	t.Helper()
	at := etcdtest.Shared(t)
	return keepingAt(t, keepFor, at, at.Endpoint)
}

// keepingAt is keeping with a source that reaches the etcd of at by other addresses.
func keepingAt(t *testing.T, keepFor time.Duration, at etcdtest.Place, endpoints ...string) *kept {
	t.Helper()
	k := &kept{t: t, cli: resolvertest.EtcdClient(t, at.Endpoint), r: resolver.New(), logs: &testlog.Buffer{}}
	k.store, k.keys = etcdstore.NewServices(k.cli, at.ServicePrefix), at.ServicePrefix
	cfg := configOf(at)
	cfg.Client.Endpoints = endpoints
	cfg.KeepOnLoss = keepFor
	k.source = New(cfg, k.r, k.logs.Logger())
	runInTest(t, k.source)
	<-k.source.Ready()
	return k
}

// listening starts a gRPC server that answers nothing, and returns its address and what ends it.
func listening(t *testing.T) (address string, end func()) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	server := grpc.NewServer()
	var wg sync.WaitGroup
	wg.Go(func() { _ = server.Serve(l) })
	end = func() { server.Stop(); wg.Wait() }
	t.Cleanup(end)
	return l.Addr().String(), end
}

// register puts an instance on a lease of its own.
func (k *kept) register(service, address string) clientv3.LeaseID {
	k.t.Helper()
	hb, err := k.store.Heartbeat(k.t.Context(), service, spec.Instance{Address: address, Weight: 10}, time.Minute)
	require.NoError(k.t, err)
	return hb.Lease
}

// end ends a lease, as its time does: keys go with it, and nobody said so.
func (k *kept) end(id clientv3.LeaseID) {
	k.t.Helper()
	_, err := k.cli.Revoke(k.t.Context(), id)
	require.NoError(k.t, err)
}

func (k *kept) inForce(service string) []string {
	var all []string
	for _, in := range k.r.Instances()[service] {
		all = append(all, in.Address)
	}
	return all
}

func (k *kept) await(what, service string, want ...string) {
	k.t.Helper()
	want = slices.Sorted(slices.Values(want))
	etcdtest.Eventually(k.t, etcdtest.Soon, what, func() bool { return slices.Equal(k.inForce(service), want) })
}

func (k *kept) keptNow() (addresses []string) {
	now, _ := k.source.Kept()
	for _, in := range now {
		addresses = append(addresses, in.Address)
	}
	return addresses
}

func (k *kept) several(service string, n int) (addresses []string, leases []clientv3.LeaseID, ends []func()) {
	for range n {
		address, end := listening(k.t)
		addresses, leases, ends = append(addresses, address), append(leases, k.register(service, address)), append(ends, end)
	}
	k.await("all are in force", service, addresses...)
	return addresses, leases, ends
}

func TestKeep_MostOfAServiceThatVanishesIsKeptWhileItTakesConnections(t *testing.T) {
	t.Parallel()
	k := keeping(t, time.Minute)
	addresses, leases, ends := k.several("echo", 4)
	k.end(leases[0])
	k.await("one that is lost alone goes", "echo", addresses[1:]...)
	k.end(leases[1])
	k.await("and a second one", "echo", addresses[2:]...)
	k.end(leases[2])
	k.await("the third is one too many: all are kept, also those that went", "echo", addresses...)
	k.end(leases[3])
	etcdtest.Eventually(t, etcdtest.Soon, "all are kept", func() bool { return len(k.keptNow()) == 4 })
	require.Len(t, k.inForce("echo"), 4)
	now, ever := k.source.Kept()
	require.EqualValues(t, 4, ever)
	require.WithinDuration(t, now[0].Since.Add(time.Minute), now[0].Until, time.Millisecond)

	ends[0]()
	k.await("one that takes no connections goes", "echo", addresses[1:]...)
	k.register("echo", addresses[1])
	etcdtest.Eventually(t, etcdtest.Soon, "one that registers again is not kept", func() bool { return len(k.keptNow()) == 2 })
	k.await("it is in force", "echo", addresses[1:]...)
	k.register("other", addresses[2])
	k.await("one whose address another service has now goes", "echo", addresses[1], addresses[3])
	require.Equal(t, []string{addresses[2]}, k.inForce("other"))
}

func TestKeep_NoLongerThanItsTime(t *testing.T) {
	t.Parallel()
	k := keeping(t, 2*time.Second)
	_, leases, _ := k.several("echo", 1)
	k.end(leases[0])
	etcdtest.Eventually(t, etcdtest.Soon, "it is kept", func() bool { _, ever := k.source.Kept(); return ever == 1 })
	k.await("its time is over", "echo")
	require.Empty(t, k.keptNow())
}

// What deregisters says so, or leaves its lease behind: none of it is kept, though it takes connections.
func TestKeep_NothingThatDeregisters(t *testing.T) {
	t.Parallel()
	address, _ := listening(t)
	for name, leave := range map[string]func(t *testing.T, k *kept){
		"a registration of framegate's": func(t *testing.T, k *kept) {
			ctx, cancel := context.WithCancel(t.Context())
			r := etcdstore.NewRegistration(k.store, "echo", spec.Instance{Address: address, Weight: 10}, time.Minute, k.logs.Logger())
			var wg sync.WaitGroup
			wg.Go(func() { r.Run(ctx) })
			k.await("it is in force", "echo", address)
			held := (<-r.Registered()).Lease
			cancel()
			wg.Wait()
			left, err := k.cli.TimeToLive(t.Context(), held)
			require.NoError(t, err)
			require.EqualValues(t, -1, left.TTL, "its lease is gone, too")
		},
		"by its address, or by registry-etcd": func(t *testing.T, k *kept) {
			k.register("echo", address)
			k.await("it is in force", "echo", address)
			found, err := k.store.Deregister(t.Context(), "echo", address)
			require.NoError(t, err)
			require.True(t, found)
		},
		"what is on no lease": func(t *testing.T, k *kept) {
			key := etcdstore.ServiceKey(k.keys, "echo", address)
			_, err := k.cli.Put(t.Context(), key, `{"network":"tcp","address":"`+address+`"}`)
			require.NoError(t, err)
			k.await("it is in force", "echo", address)
			_, err = k.cli.Delete(t.Context(), key)
			require.NoError(t, err)
		},
	} {
		t.Run(name, func(t *testing.T) {
			k := keeping(t, time.Minute)
			leave(t, k)
			k.await("it is not kept", "echo")
			_, ever := k.source.Kept()
			require.Zero(t, ever)
		})
	}
}

// A member of etcd that hangs, or is stopped, does not say that a lease is there. Others do.
func TestKeep_NothingThatDeregistersWhileAMemberHangs(t *testing.T) {
	t.Parallel()
	at := etcdtest.Shared(t)
	members := []*etcdtest.LateMember{etcdtest.NewLateMember(t, at.Endpoint), etcdtest.NewLateMember(t, at.Endpoint), etcdtest.NewLateMember(t, at.Endpoint)}
	k := keepingAt(t, time.Minute, at, members[0].Address(), members[1].Address(), members[2].Address())
	addresses, _, _ := k.several("echo", 12)
	members[0].Hang("/Watch", "Health/Check") // watches go on
	for i, address := range addresses[:9] {
		found, err := k.store.Deregister(t.Context(), "echo", address)
		require.NoError(t, err)
		require.True(t, found)
		k.await("it goes", "echo", addresses[i+1:]...)
	}
	_, ever := k.source.Kept()
	require.Zero(t, ever, k.logs.String())
}

// What nobody said is asked again: an instance that deregistered while etcd answered nothing is kept until it answers.
func TestKeep_WhatDeregisteredWhileNobodyAnsweredGoesLater(t *testing.T) {
	t.Parallel()
	at := etcdtest.Shared(t)
	member := etcdtest.NewLateMember(t, at.Endpoint)
	k := keepingAt(t, time.Minute, at, member.Address())
	addresses, leases, _ := k.several("echo", 5)
	member.Hang("/Watch")
	found, err := k.store.Deregister(t.Context(), "echo", addresses[0])
	require.NoError(t, err)
	require.True(t, found)
	k.end(leases[1])
	etcdtest.Eventually(t, etcdtest.Soon, "nobody says what became of them", func() bool { return len(k.keptNow()) == 2 })
	require.Len(t, k.inForce("echo"), 5)
	member.GoOn()
	k.await("it deregistered", "echo", addresses[1:]...)
	require.Equal(t, addresses[1:2], k.keptNow(), "the lease of this one has ended")
}

func TestKeep_OneOfManyWhenEtcdIsInTrouble(t *testing.T) {
	t.Parallel()
	k := keeping(t, time.Minute)
	addresses, leases, _ := k.several("echo", 4)
	k.source.reach.noteTrouble()
	k.end(leases[0])
	etcdtest.Eventually(t, etcdtest.Soon, "it is kept", func() bool { return slices.Equal(k.keptNow(), addresses[:1]) })
	require.Len(t, k.inForce("echo"), 4)
}

// An etcd that lost its data has no instances, and those that register there do so within a third of their ttl.
func TestKeep_WhatAReplacedEtcdDoesNotHave(t *testing.T) {
	t.Parallel()
	e := etcdtest.StartEtcd(t)
	link := etcdtest.NewLink(t, e.Endpoint())
	cfg := etcdConfig(link.Address())
	cfg.KeepOnLoss = time.Minute
	r, logs := resolver.New(), &testlog.Buffer{}
	s := New(cfg, r, logs.Logger())
	runInTest(t, s)
	<-s.Ready()
	address, _ := listening(t)
	_, err := etcdstore.NewServices(resolvertest.EtcdClient(t, e.Endpoint()), etcdstore.DefaultServicePrefix).Heartbeat(t.Context(), "echo", spec.Instance{Address: address, Weight: 10}, time.Minute)
	require.NoError(t, err)
	etcdtest.Eventually(t, etcdtest.Soon, "it is in force", func() bool { return len(r.Instances()["echo"]) == 1 })
	link.Cut()
	require.NoError(t, e.Close())
	etcdtest.StartEtcdAt(t, t.TempDir(), e.Endpoint())
	link.Restore()
	etcdtest.Eventually(t, etcdtest.Soon, "it is kept", func() bool { now, _ := s.Kept(); return len(now) == 1 })
	require.Len(t, r.Instances()["echo"], 1)
}

func TestKeep_NothingIfItIsOff(t *testing.T) {
	t.Parallel()
	k := keeping(t, 0)
	_, leases, _ := k.several("echo", 1)
	k.end(leases[0])
	k.await("it goes at once", "echo")
}

// A process that hangs is connected to by the kernel, and that is all.
func TestKeep_NotWhatHangs(t *testing.T) {
	t.Parallel()
	k := keeping(t, time.Minute)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	lease := k.register("echo", l.Addr().String())
	k.await("it is in force", "echo", l.Addr().String())
	k.end(lease)
	k.await("it goes", "echo")
}

// counting counts the connections that are made to an address where somebody answers as an HTTP/2 server.
func counting(t *testing.T) (address string, made *atomic.Int64) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	made = new(atomic.Int64)
	server := grpc.NewServer()
	var wg sync.WaitGroup
	wg.Go(func() { _ = server.Serve(countingListener{l, made}) })
	t.Cleanup(func() { server.Stop(); wg.Wait() })
	return l.Addr().String(), made
}

type countingListener struct {
	net.Listener
	made *atomic.Int64
}

func (l countingListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err == nil {
		l.made.Add(1)
	}
	return c, err
}

// What calls may not be sent to is not connected to either: whoever registers could have any address asked else.
func TestKeep_NothingThatIsRefusedIsConnectedTo(t *testing.T) {
	t.Parallel()
	allow, err := cluster.ParseAllow([]string{"10.0.0.0/8"})
	require.NoError(t, err)
	everything, err := cluster.ParseAllow(cluster.DefaultAllow)
	require.NoError(t, err)
	for what, c := range map[string]struct {
		host   string // in the place of 127.0.0.1
		refuse func(k *kept, at net.Addr)
	}{
		"not allowed":                {"127.0.0.1", func(k *kept, _ net.Addr) { k.r.SetAllow(allow) }},
		"a name of what is not":      {"localhost", func(k *kept, _ net.Addr) { k.r.SetAllow(allow) }},
		"where framegate listens":    {"127.0.0.1", func(k *kept, at net.Addr) { k.r.Own("admin", at) }},
		"a name of where it listens": {"localhost.", func(k *kept, at net.Addr) { k.r.Own("admin", at) }},
	} {
		t.Run(what, func(t *testing.T) {
			k := keeping(t, time.Minute)
			k.r.SetAllow(everything)
			at, made := counting(t)
			tcp, err := net.ResolveTCPAddr("tcp", at)
			require.NoError(t, err)
			address := net.JoinHostPort(c.host, strconv.Itoa(tcp.Port))
			c.refuse(k, tcp)
			lease := k.register("echo", address)
			k.await("it is registered", "echo", address)
			k.end(lease)
			k.await("it goes", "echo")
			_, ever := k.source.Kept()
			require.Zero(t, ever)
			require.Zero(t, made.Load())
		})
	}
}

// A reload may forbid what is kept.
func TestKeep_WhatIsForbiddenLaterGoes(t *testing.T) {
	t.Parallel()
	k := keeping(t, time.Minute)
	addresses, leases, _ := k.several("echo", 1)
	k.end(leases[0])
	etcdtest.Eventually(t, etcdtest.Soon, "it is kept", func() bool { return slices.Equal(k.keptNow(), addresses) })
	allow, err := cluster.ParseAllow([]string{"10.0.0.0/8"})
	require.NoError(t, err)
	k.r.SetAllow(allow)
	k.await("it goes", "echo")
	require.Equal(t, 1, k.logs.Count("no calls may be sent to it"))
}

// A name is known to be at a refused address only when it is looked up.
func TestKeep_NamesOfRefusedAddressesAreNotConnectedTo(t *testing.T) {
	t.Parallel()
	k := newKeeper(time.Minute, newReachability(slog.New(slog.DiscardHandler), ""), slog.New(slog.DiscardHandler), resolver.New())
	defer k.close()
	k.refusal = func(address string) string {
		if strings.HasPrefix(address, "127.0.0.1:") || strings.HasPrefix(address, "[::1]:") {
			return "not in services.allow"
		}
		return ""
	}
	at, made := counting(t)
	_, port, err := net.SplitHostPort(at)
	require.NoError(t, err)
	require.ErrorIs(t, k.check(t.Context(), "localhost:"+port), errNotAllowed)
	require.Zero(t, made.Load())
}
