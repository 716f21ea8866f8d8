package etcdstore

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"

	"github.com/framegate/framegate/resolver/match"
	"github.com/framegate/framegate/resolver/spec"
	"github.com/framegate/framegate/test/etcdtest"
	"github.com/framegate/framegate/test/loopback"
	"github.com/framegate/framegate/test/resolvertest"
	"github.com/framegate/framegate/test/testlog"
)

// running is a Registration that runs until stop or the test's end.
type running struct {
	*Registration
	logs *testlog.Buffer
	stop func() // deregisters, and returns when that is done
}

func runRegistration(t *testing.T, endpoint string, in spec.Instance, ttl time.Duration) *running {
	t.Helper()
	logs := &testlog.Buffer{}
	store := NewServices(resolvertest.EtcdClient(t, endpoint), DefaultServicePrefix)
	r := &running{Registration: NewRegistration(store, "echo", in, ttl, logs.Logger()), logs: logs}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { r.Run(ctx) })
	r.stop = func() { cancel(); wg.Wait() }
	t.Cleanup(r.stop)
	return r
}

func (r *running) wait(t *testing.T) Heartbeat {
	t.Helper()
	select {
	case hb := <-r.Registered():
		return hb
	case <-time.After(etcdtest.Soon):
		t.Fatalf("not registered within %s", etcdtest.Soon)
		return Heartbeat{}
	}
}

func registered(t *testing.T, cli *clientv3.Client, in spec.Instance) func() bool {
	return func() bool {
		services, _, err := NewServices(cli, DefaultServicePrefix).List(t.Context())
		require.NoError(t, err)
		return len(services) == 1 && len(services[0].Instances) == 1 && services[0].Instances[0].Equal(in)
	}
}

// stays checks that something is so, and goes on to be so for a while.
func stays(t *testing.T, long time.Duration, so func() bool) {
	t.Helper()
	for until := time.Now().Add(long); time.Now().Before(until); time.Sleep(20 * time.Millisecond) {
		require.True(t, so())
	}
}

func none(t *testing.T, cli *clientv3.Client) func() bool {
	return func() bool {
		services, _, err := NewServices(cli, DefaultServicePrefix).List(t.Context())
		require.NoError(t, err)
		return len(services) == 0
	}
}

func startForRegistration(t *testing.T) (endpoint string, cli *clientv3.Client) {
	t.Helper()
	endpoint = etcdtest.StartEtcd(t).Endpoint()
	return endpoint, resolvertest.EtcdClient(t, endpoint)
}

func TestRegistration_StaysBeyondItsTTLAndGoesWithItsContext(t *testing.T) {
	t.Parallel()
	endpoint, cli := startForRegistration(t)
	r := runRegistration(t, endpoint, echoInstance, 2*time.Second)
	hb := r.wait(t)
	require.Equal(t, match.Created, hb.Outcome)
	stays(t, 6*time.Second, registered(t, cli, echoInstance)) // three times the ttl
	require.Equal(t, hb.Revision, etcdRevision(t, cli), "nothing is written after the first time")
	r.stop()
	require.True(t, none(t, cli)())
	require.Zero(t, etcdtest.Leases(t, cli))
	require.Equal(t, 1, r.logs.Count("msg=registered"))
	require.Equal(t, 1, r.logs.Count("msg=deregistered"))
	require.Equal(t, 2, r.logs.Count("msg="))
}

func TestRegistration_TakesALostLeaseOrADeletedKeyAgain(t *testing.T) {
	t.Parallel()
	endpoint, cli := startForRegistration(t)
	r := runRegistration(t, endpoint, echoInstance, time.Hour) // heartbeats are far apart: only the watch is this fast
	lease := r.wait(t).Lease
	again := 0
	for what, lose := range map[string]func() error{
		"deleted": func() error {
			_, err := cli.Delete(t.Context(), ServiceKey(DefaultServicePrefix, "echo", echoInstance.Address))
			return err
		},
		"lease revoked": func() error { _, err := cli.Revoke(t.Context(), lease); return err },
	} {
		require.NoError(t, lose(), what)
		etcdtest.Eventually(t, etcdtest.Soon, what+" and taken again", registered(t, cli, echoInstance))
		again++
		etcdtest.Eventually(t, etcdtest.Soon, "it is logged", func() bool { return r.logs.Count("the registration was lost; registered again") == again })
		services, _, err := r.store.List(t.Context())
		require.NoError(t, err)
		lease = services[0].Instances[0].Lease
	}
	r.stop()
	require.True(t, none(t, cli)())
}

func TestRegistration_HeartbeatsNoticeALossWithoutAWatch(t *testing.T) {
	t.Parallel()
	endpoint, cli := startForRegistration(t)
	link := etcdtest.NewLink(t, endpoint)
	r := runRegistration(t, link.Address(), echoInstance, 3*time.Second)
	lease := r.wait(t).Lease
	link.Cut()
	_, err := cli.Revoke(t.Context(), lease)
	require.NoError(t, err)
	etcdtest.Eventually(t, etcdtest.Soon, "the outage is logged", func() bool { return r.logs.Count("cannot register in etcd; trying on") == 1 })
	link.Restore()
	etcdtest.Eventually(t, etcdtest.Soon, "registered again", registered(t, cli, echoInstance))
	require.Equal(t, 1, r.logs.Count("cannot register in etcd"), "once an outage")
}

func TestRegistration_StartsBeforeEtcdAndOutlivesIt(t *testing.T) {
	t.Parallel()
	dir, endpoint := t.TempDir(), ""
	{
		e := etcdtest.StartEtcdAt(t, dir, loopback.Address(t))
		endpoint = e.Endpoint()
		require.NoError(t, e.Close())
	}
	r := runRegistration(t, endpoint, echoInstance, 2*time.Second)
	etcdtest.Eventually(t, etcdtest.Soon, "the outage is logged", func() bool { return r.logs.Count("cannot register in etcd; trying on") == 1 })
	e := etcdtest.StartEtcdAt(t, dir, endpoint)
	etcdtest.Eventually(t, etcdtest.Soon, "registered", func() bool { return len(r.Registered()) == 1 })

	require.NoError(t, e.Close())
	etcdtest.Eventually(t, etcdtest.Soon, "the second outage is logged", func() bool { return r.logs.Count("cannot register in etcd; trying on") == 2 })
	empty := etcdtest.StartEtcdAt(t, t.TempDir(), endpoint) // with all its data lost
	cli := resolvertest.EtcdClient(t, endpoint)
	etcdtest.Eventually(t, etcdtest.Soon, "registered again", registered(t, cli, echoInstance))

	require.NoError(t, empty.Close())
	began := time.Now()
	r.stop()
	require.Less(t, time.Since(began), leaveTimeout+5*time.Second, "an etcd that is away does not hold up the end")
	require.Equal(t, 1, r.logs.Count("cannot deregister; the lease will run out"))
}

func TestRegistration_EndsInPeaceWithoutEtcd(t *testing.T) {
	t.Parallel()
	r := runRegistration(t, "127.0.0.1:1", echoInstance, 10*time.Second)
	etcdtest.Eventually(t, etcdtest.Soon, "the outage is logged", func() bool { return r.logs.Count("connection refused") == 1 })
	began := time.Now()
	r.stop()
	require.Less(t, time.Since(began), leaveTimeout, "there is nothing to deregister")
	require.Zero(t, r.logs.Count("deregister"))
}

// Two of the same are one: the last has it, and it stays when the first goes. When the last goes, the first puts it back.
func TestRegistration_TheSameTwiceIsOne(t *testing.T) {
	t.Parallel()
	endpoint, cli := startForRegistration(t)
	first := runRegistration(t, endpoint, echoInstance, 6*time.Second)
	hb := first.wait(t)
	second := runRegistration(t, endpoint, echoInstance, 6*time.Second)
	taken := second.wait(t)
	require.Equal(t, match.Updated, taken.Outcome)
	require.NotEqual(t, hb.Lease, taken.Lease, "on a lease of its own")

	first.stop()
	require.True(t, registered(t, cli, echoInstance)(), "the second's stays")
	require.Equal(t, taken.Revision, etcdRevision(t, cli), "and nobody has touched it")
	second.stop()
	require.True(t, none(t, cli)())

	first = runRegistration(t, endpoint, echoInstance, 6*time.Second)
	first.wait(t)
	second = runRegistration(t, endpoint, echoInstance, 6*time.Second)
	second.wait(t)
	second.stop()
	etcdtest.Eventually(t, etcdtest.Soon, "the first goes on", registered(t, cli, echoInstance))
}

// The end may come between etcd's write and its answer: what the answer would have told is deregistered all the same.
func TestRegistration_LeavesWhenItsEndCutsAnAnswerShort(t *testing.T) {
	t.Parallel()
	endpoint, cli := startForRegistration(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	answersCut := 0
	cut := func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
		err := invoke(ctx, method, req, reply, cc, opts...)
		if method != "/etcdserverpb.KV/Txn" || answersCut > 0 {
			return err
		}
		answersCut++
		cancel()
		<-ctx.Done()
		return ctx.Err()
	}
	registering, err := clientv3.New(clientv3.Config{
		Endpoints:   []string{endpoint},
		DialOptions: []grpc.DialOption{grpc.WithChainUnaryInterceptor(cut)},
	})
	require.NoError(t, err)
	defer registering.Close()
	logs := &testlog.Buffer{}
	NewRegistration(NewServices(registering, DefaultServicePrefix), "echo", echoInstance, time.Hour, logs.Logger()).Run(ctx)
	require.Equal(t, 1, answersCut)
	require.True(t, none(t, cli)())
	require.Zero(t, etcdtest.Leases(t, cli))
}

// A process that died and was started again within the ttl finds its registration there, and owns it.
func TestRegistration_OwnsWhatItsPredecessorLeft(t *testing.T) {
	t.Parallel()
	endpoint, cli := startForRegistration(t)
	_, err := NewServices(cli, DefaultServicePrefix).Heartbeat(t.Context(), "echo", echoInstance, time.Hour)
	require.NoError(t, err)
	r := runRegistration(t, endpoint, echoInstance, time.Hour)
	require.Equal(t, match.Updated, r.wait(t).Outcome)
	r.stop()
	require.True(t, none(t, cli)())
}

func TestRegistration_LeavesWhatAnotherHasTakenOver(t *testing.T) {
	t.Parallel()
	endpoint, cli := startForRegistration(t)
	heavier := echoInstance
	heavier.Weight = 99
	first := runRegistration(t, endpoint, echoInstance, 3*time.Second)
	first.wait(t)
	second := runRegistration(t, endpoint, heavier, 3*time.Second)
	hb := second.wait(t)
	require.Equal(t, match.Updated, hb.Outcome, "the last registration wins")
	etcdtest.Eventually(t, etcdtest.Soon, "the first sees that", func() bool { return first.logs.Count("another registration has this address now") == 1 })
	require.True(t, registered(t, cli, heavier)())
	require.Equal(t, hb.Revision, etcdRevision(t, cli), "they do not fight")

	second.stop()
	etcdtest.Eventually(t, etcdtest.Soon, "the first takes it again", registered(t, cli, echoInstance))
	etcdtest.Eventually(t, etcdtest.Soon, "it is logged", func() bool { return first.logs.Count("the other registration is gone; registered again") == 1 })

	third := runRegistration(t, endpoint, heavier, 3*time.Second)
	third.wait(t)
	etcdtest.Eventually(t, etcdtest.Soon, "the first sees that", func() bool { return first.logs.Count("another registration has this address now") == 2 })
	first.stop()
	require.True(t, registered(t, cli, heavier)(), "the third's stays")
}
