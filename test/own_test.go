package test

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/framegate/framegate/conf"
	"github.com/framegate/framegate/test/testbed"
)

// shownEndpoint is what GET /v1/endpoints says of an endpoint.
type shownEndpoint struct{ Address, Name, State, Reason string }

// shownEndpoints returns the endpoints of all groups.
func shownEndpoints(t testing.TB, p *testbed.Proxy) (all []shownEndpoint) {
	t.Helper()
	var answer struct {
		Groups []struct{ Endpoints []shownEndpoint }
	}
	require.NoError(t, json.Unmarshal([]byte(answerOfAdmin(t, http.MethodGet, p.Admin()+"/v1/endpoints", "", http.StatusOK)), &answer))
	for _, g := range answer.Groups {
		all = append(all, g.Endpoints...)
	}
	return all
}

// register writes an instance into etcd as anybody could who may write there.
func register(t testing.TB, cli *clientv3.Client, service, network, address string) {
	t.Helper()
	_, err := cli.Put(patient(t), "kitex/registry-etcd/"+service+"/"+address, fmt.Sprintf(`{"network":%q,"address":%q,"weight":10}`, network, address))
	require.NoError(t, err)
}

// Whoever may register an instance must not reach framegate itself with it: its etcd, where routes are written, its admin
// server, or its listener, at which the call would go round and round.
func TestOwn_FramegatesAddressesAreNoEndpoints(t *testing.T) {
	t.Parallel()
	proxy := testbed.NewProxy(t, "", testbed.EmbeddedEtcd(t), testbed.Admin(), func(c *conf.Config) {
		c.Listeners[0].Address = ":0"
	})
	cli := testbed.DialEtcd(t, proxy.EtcdEndpoint())
	port := func(address string) string {
		_, port, err := net.SplitHostPort(address)
		require.NoError(t, err)
		return port
	}
	listener, etcd, admin := port(proxy.Addr), port(proxy.EtcdEndpoint()), port(proxy.Admin()[len("http://"):])
	cc := testbed.DialGRPC(t, "127.0.0.1:"+listener)
	routes := etcdRoutes{t, cli}
	reasons, methods := map[string]string{}, []string{"/evil.Sock/Call"}
	for i, k := range []struct{ what, address string }{
		{"listener main", "127.0.0.1:" + listener},
		{"listener main", "127.0.0.2:" + listener},
		{"listener main", "[::1]:" + listener},
		{"listener main", "[::ffff:127.0.0.1]:" + listener},
		{"listener main", "localhost:" + listener},
		{"listener main", interfaceAddress(t) + ":" + listener},
		{"etcd.embedded", "127.0.0.1:" + etcd},
		{"etcd.embedded", "[::ffff:7f00:1]:" + etcd},
		{"etcd.embedded", "localhost:" + etcd},
		{"admin", "127.0.0.1:" + admin},
		{"admin", "[0:0:0:0:0:ffff:127.0.0.1]:" + admin},
	} {
		service, method := fmt.Sprintf("s%d", i), fmt.Sprintf("/evil.Service%d/Call", i)
		register(t, cli, service, "tcp", k.address)
		routes.put(service, fmt.Sprintf(`{name: %s, match: [{method: %s}], timeout: 2s, backends: [{service: %s}]}`, service, method, service))
		routes.put("l"+service, routeDocument("l"+service, method+"Listed", k.address))
		methods = append(methods, method, method+"Listed")
		reasons[k.address] = "it is framegate's own: " + k.what
	}
	register(t, cli, "sock", "unix", "/run/secret.sock")
	routes.put("sock", `{name: sock, match: [{method: /evil.Sock/Call}], backends: [{service: sock}]}`)
	reasons["unix:/run/secret.sock"] = "not in services.allow: 0.0.0.0/0, ::/0"

	// The routes and the instances come into force each for themselves.
	testbed.Poll(t, func() error {
		all := shownEndpoints(t, proxy)
		if got, want := len(all), len(methods); got != want {
			return fmt.Errorf("%d endpoints are shown, want %d", got, want)
		}
		for _, e := range all {
			require.Equal(t, shownEndpoint{Address: e.Address, State: "refused", Reason: reasons[e.Address]}, e)
		}
		return nil
	})
	for _, method := range methods {
		require.Equal(t, "no_endpoint", answerOf(t, cc, method), method)
	}
	require.Contains(t, answerOfAdmin(t, http.MethodGet, proxy.Admin()+"/v1/services/s0", "", http.StatusOK), `"refused":"it is framegate's own: listener main"`)
	require.Contains(t, answerOfAdmin(t, http.MethodGet, proxy.Admin()+"/metrics", "", http.StatusOK),
		`framegate_endpoints{backend="",route="",service="sock",state="refused",tags=""} 1`)

	// An endpoint of the same port that is not framegate's is none of its business.
	register(t, cli, "good", "tcp", answering(t, "good"))
	routes.put("good", `{name: good, match: [{method: /good.Service/Call}], backends: [{service: good}]}`)
	awaitAnswer(t, cc, "/good.Service/Call", "good")
}

// interfaceAddress returns an address of this machine that is not loopback, or else a loopback one.
func interfaceAddress(t testing.TB) string {
	t.Helper()
	all, err := net.InterfaceAddrs()
	require.NoError(t, err)
	for _, a := range all {
		if n, ok := a.(*net.IPNet); ok && n.IP.To4() != nil && !n.IP.IsLoopback() {
			return n.IP.String()
		}
	}
	return "127.0.0.3"
}
