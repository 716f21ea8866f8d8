package test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/framegate/framegate/test/race"
	"github.com/framegate/framegate/test/testbed"
)

// liveWithin is how long a change of a route in etcd may take to be in force: a second, where the machine is not slowed
// down.
var liveWithin = race.Choose(time.Second, 3*time.Second)

// routeDocument is a route of its own name for one method.
func routeDocument(name, method, backend string) string {
	return fmt.Sprintf("{name: %s, match: [{method: %q}], backends: [{endpoints: [{address: %q}]}]}", name, method, backend)
}

// etcdRoutes changes routes in etcd as any tool would, by their keys.
type etcdRoutes struct {
	t   testing.TB
	cli *clientv3.Client
}

func (e etcdRoutes) put(name, document string) {
	e.t.Helper()
	_, err := e.cli.Put(patient(e.t), "/framegate/routes/"+name, document)
	require.NoError(e.t, err)
}

func (e etcdRoutes) delete(name string) {
	e.t.Helper()
	_, err := e.cli.Delete(patient(e.t), "/framegate/routes/"+name)
	require.NoError(e.t, err)
}

// answering starts a backend that answers each call, once it has its message, with name, and returns its address.
func answering(t testing.TB, name string) string {
	t.Helper()
	return testbed.NewRaw(t, func(stream grpc.ServerStream) error {
		if _, err := testbed.Recv(stream); err != nil {
			return err
		}
		return testbed.Send(stream, []byte(name))
	})
}

// answerOf makes one call and returns the reply or framegate's reason for none.
func answerOf(t testing.TB, cc *grpc.ClientConn, method string) string {
	t.Helper()
	var reply []byte
	var trailer metadata.MD
	err := cc.Invoke(patient(t), method, &reply, &reply, grpc.Trailer(&trailer))
	if reasons := trailer.Get("framegate-error"); len(reasons) > 0 {
		return reasons[0]
	}
	require.NoError(t, err)
	return string(reply)
}

// awaitAnswer polls until calls of method are answered with want, and returns how long that took.
func awaitAnswer(t testing.TB, cc *grpc.ClientConn, method, want string) time.Duration {
	t.Helper()
	start := time.Now()
	testbed.Poll(t, func() error {
		if got := answerOf(t, cc, method); got != want {
			return fmt.Errorf("%s: got %q, want %q", method, got, want)
		}
		return nil
	})
	return time.Since(start)
}

func TestEtcd_ChangesAreLiveWithinASecond(t *testing.T) {
	for name, start := range map[string]func(t *testing.T) *testbed.Proxy{
		"embedded": func(t *testing.T) *testbed.Proxy { return testbed.NewProxy(t, "", testbed.EmbeddedEtcd(t)) },
		"external": func(t *testing.T) *testbed.Proxy {
			return testbed.NewProxy(t, "", testbed.EtcdAt(testbed.NewEtcd(t).Endpoint))
		},
	} {
		t.Run(name, func(t *testing.T) {
			one, two := answering(t, "one"), answering(t, "two")
			proxy := start(t)
			cc := testbed.DialGRPC(t, proxy.Addr)
			routes := etcdRoutes{t, testbed.DialEtcd(t, proxy.EtcdEndpoint())}
			const method = "/a.B/C"
			awaitAnswer(t, cc, method, "no_route") // first it is not_ready

			routes.put("r", routeDocument("r", method, one))
			require.LessOrEqual(t, awaitAnswer(t, cc, method, "one"), liveWithin, "time until a new route is live")
			routes.put("r", routeDocument("r", method, two))
			require.LessOrEqual(t, awaitAnswer(t, cc, method, "two"), liveWithin, "time until a changed route is live")
			routes.delete("r")
			require.LessOrEqual(t, awaitAnswer(t, cc, method, "no_route"), liveWithin, "time until a deleted route is gone")
		})
	}
}

func TestEtcd_BadDocumentNeverReplacesAGoodOne(t *testing.T) {
	t.Parallel()
	one := answering(t, "one")
	proxy := testbed.NewProxy(t, "", testbed.EmbeddedEtcd(t))
	cc := testbed.DialGRPC(t, proxy.Addr)
	routes := etcdRoutes{t, testbed.DialEtcd(t, proxy.EtcdEndpoint())}
	routes.put("good", routeDocument("good", "/a.B/Good", one))
	awaitAnswer(t, cc, "/a.B/Good", "one")
	for i, bad := range []string{
		"", "{", "name: [", "name: good", routeDocument("good", "no slash", one), routeDocument("other", "/a.B/Good", one),
		routeDocument("good", "/a.B/Good", "nowhere"),
	} {
		// The watch is in order: when the marker is live, the bad document has been seen.
		marker := fmt.Sprintf("/a.B/Marker%d", i)
		routes.put("good", bad)
		routes.put("marker", routeDocument("marker", marker, one))
		awaitAnswer(t, cc, marker, "one")
		require.Equal(t, "one", answerOf(t, cc, "/a.B/Good"), "after %q", bad)
	}
}

func TestEtcd_RoutesGoOnWhileItIsDown(t *testing.T) {
	t.Parallel()
	one, two := answering(t, "one"), answering(t, "two")
	etcd := testbed.NewEtcd(t)
	proxy := testbed.NewProxy(t, "", testbed.EtcdAt(etcd.Endpoint))
	cc := testbed.DialGRPC(t, proxy.Addr)
	routes := etcdRoutes{t, testbed.DialEtcd(t, etcd.Endpoint)}
	routes.put("kept", routeDocument("kept", "/a.B/Kept", one))
	awaitAnswer(t, cc, "/a.B/Kept", "one")

	etcd.Stop()
	require.Equal(t, "one", answerOf(t, cc, "/a.B/Kept"), "while etcd is down")

	etcd.Start()
	require.Equal(t, "one", answerOf(t, cc, "/a.B/Kept"), "when etcd is back")
	routes.put("new", routeDocument("new", "/a.B/New", two))
	awaitAnswer(t, cc, "/a.B/New", "two")
	routes.delete("kept")
	awaitAnswer(t, cc, "/a.B/Kept", "no_route")
}
