package test

import (
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/framegate/framegate/cmd/framegate/gateway"
	"github.com/framegate/framegate/conf"
	"github.com/framegate/framegate/test/dnsserver"
	"github.com/framegate/framegate/test/testbed"
)

// pods are raw backends at several addresses of one port, as those of a headless service. Each answers with its address.
type pods struct {
	port string

	mu          sync.Mutex
	authorities map[string]bool // of calls
	checked     map[string]bool // authorities of health checks
}

const healthCheck = "/grpc.health.v1.Health/Check"

// startPods starts a backend at 127.0.0.1 and so on.
func startPods(t testing.TB, n int) *pods {
	t.Helper()
	p := &pods{port: "0", authorities: map[string]bool{}, checked: map[string]bool{}}
	for i := range n {
		host := fmt.Sprintf("127.0.0.%d", i+1)
		addr := testbed.NewRawAt(t, "tcp", net.JoinHostPort(host, p.port), func(stream grpc.ServerStream) error { return p.serve(host, stream) })
		_, p.port, _ = net.SplitHostPort(addr)
	}
	return p
}

func (p *pods) serve(host string, stream grpc.ServerStream) error {
	md, _ := metadata.FromIncomingContext(stream.Context())
	method, _ := grpc.MethodFromServerStream(stream)
	authorities := p.authorities
	if method == healthCheck {
		authorities = p.checked
	}
	p.mu.Lock()
	for _, a := range md.Get(":authority") {
		authorities[a] = true
	}
	p.mu.Unlock()
	for {
		if _, err := testbed.Recv(stream); err != nil {
			return nil
		}
		answer := []byte(host)
		if method == healthCheck {
			answer = []byte{8, 1} // SERVING
		}
		if err := testbed.Send(stream, answer); err != nil {
			return err
		}
	}
}

func (p *pods) seen(of func(*pods) map[string]bool) (all []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for a := range of(p) {
		all = append(all, a)
	}
	return all
}

// answersAre waits until calls are answered by exactly these.
func answersAre(t testing.TB, cc *grpc.ClientConn, want ...string) {
	t.Helper()
	testbed.Poll(t, func() error {
		got := map[string]int{}
		for range 10 * len(want) {
			got[answerOf(t, cc, "/a.B/C")]++
		}
		for _, w := range want {
			if got[w] == 0 {
				return fmt.Errorf("no answer of %s: %v", w, got)
			}
		}
		if len(got) != len(want) {
			return fmt.Errorf("answers of %v, want %v", got, want)
		}
		return nil
	})
}

// What a user of a headless service of Kubernetes expects: calls go to all of its pods, to new ones within the refresh, to
// those that are gone no more, and calls under way there are drained.
func TestDNS_AHeadlessService(t *testing.T) {
	t.Parallel()
	const name = "echo.default.svc"
	for _, scheme := range []string{"", "dns:///"} {
		t.Run(scheme+name, func(t *testing.T) {
			dns, p := dnsserver.New(t), startPods(t, 3)
			dns.Set(name, "127.0.0.1", "127.0.0.2")
			address := name + ":" + p.port
			proxy := testbed.NewProxyWith(t, `
routes:
- name: echo
  match: [{method: /a.B/*}]
  balancer: {policy: round_robin}
  backends:
  - endpoints: [{address: "`+scheme+address+`"}]
    dns: {refresh: 200ms}
    health: {type: grpc, interval: 2s, timeout: 2s}
`, []gateway.Option{gateway.WithResolver(dns.Resolver())}, testbed.Admin(), func(c *conf.Config) { c.Drain.EndpointTimeout = time.Second })
			cc := testbed.DialGRPC(t, proxy.Addr)
			got := map[string]int{}
			for range 20 {
				got[answerOf(t, cc, "/a.B/C")]++
			}
			require.Equal(t, map[string]int{"127.0.0.1": 10, "127.0.0.2": 10}, got, "from the first call on")

			// A stream at a pod that goes.
			var stream grpc.ClientStream
			var trailer metadata.MD
			for {
				var err error
				stream, err = cc.NewStream(patientFor(t, 5), &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, "/a.B/C")
				require.NoError(t, err)
				require.NoError(t, testbed.Send(stream, nil))
				host, err := testbed.Recv(stream)
				require.NoError(t, err)
				if string(host) == "127.0.0.1" {
					break
				}
			}
			dns.Set(name, "127.0.0.2", "127.0.0.3")
			answersAre(t, cc, "127.0.0.2", "127.0.0.3")
			_, err := testbed.Recv(stream)
			require.Equal(t, codes.Unavailable, status.Code(err), "%v", err)
			trailer = stream.Trailer()
			require.Equal(t, []string{"draining"}, trailer.Get("framegate-error"))

			// A server that fails takes nothing away; one that says that there is nobody does.
			dns.Break(name, dnsserver.ServFail)
			testbed.Poll(t, func() error {
				if body := answerOfAdmin(t, http.MethodGet, proxy.Admin()+"/v1/endpoints", "", http.StatusOK); strings.Count(body, "lookup_error") != 2 {
					return fmt.Errorf("no error of the look-up yet: %s", body)
				}
				return nil
			})
			answersAre(t, cc, "127.0.0.2", "127.0.0.3")
			for _, e := range shownEndpoints(t, proxy) {
				require.Equal(t, shownEndpoint{Address: e.Address, Name: address, State: "usable"}, e)
			}
			explained := answerOfAdmin(t, http.MethodGet, proxy.Admin()+"/v1/explain?method=/a.B/C", "", http.StatusOK)
			require.Contains(t, explained, fmt.Sprintf("%s = 127.0.0.2:%s, 127.0.0.3:%[2]s", address, p.port))
			require.Contains(t, explained, `"name":"`+address+`"`)
			dns.Remove(name)
			awaitAnswer(t, cc, "/a.B/C", "no_endpoint")
			require.Equal(t, "unresolved", shownEndpoints(t, proxy)[0].State)
			dns.Set(name, "127.0.0.1")
			answersAre(t, cc, "127.0.0.1")
			metrics := answerOfAdmin(t, http.MethodGet, proxy.Admin()+"/metrics", "", http.StatusOK)
			for _, line := range []string{
				`framegate_endpoints{backend="",route="echo",service="",state="usable",tags=""} 1`,
				`framegate_endpoints{backend="",route="echo",service="",state="unresolved",tags=""} 0`,
				`framegate_dns_lookups_total{result="failed"} `,
			} {
				require.Contains(t, metrics, line)
			}

			require.Equal(t, []string{proxy.Addr}, p.seen(func(p *pods) map[string]bool { return p.authorities }), "a client's authority is kept")
			require.Equal(t, []string{address}, p.seen(func(p *pods) map[string]bool { return p.checked }), "a health check has the name")
		})
	}
}

// A pod knows itself by the name, not by the address, where the client says neither.
func TestDNS_AuthorityIsTheName(t *testing.T) {
	t.Parallel()
	dns, server := dnsserver.New(t), testbed.NewH2Server(t)
	dns.Set("echo.default.svc", "127.0.0.1")
	_, port, err := net.SplitHostPort(server.Addr)
	require.NoError(t, err)
	proxy := testbed.NewProxyWith(t, testbed.RouteTo("echo.default.svc:"+port), []gateway.Option{gateway.WithResolver(dns.Resolver())})
	client := testbed.DialH2(t, proxy.Addr)
	for authority, want := range map[string]string{"": "echo.default.svc:" + port, "client.example": "client.example"} {
		fields := testbed.NewFields(":method", "POST", ":scheme", "http", ":path", testbed.Method)
		if authority != "" {
			fields = fields.With(":authority", authority)
		}
		cs := client.OpenEnd(t, fields.With("content-type", "application/grpc", "te", "trailers"))
		ss := server.Accept(t)
		require.Equal(t, []string{want}, ss.ReadHeaders().Values(":authority"))
		ss.SendTrailers(append(testbed.ResponseFields(), testbed.StatusFields(0, "")...))
		require.Zero(t, cs.Outcome().Code())
	}
}

// An instance may be registered by name. That is looked up too, and what it leads to must be allowed.
func TestDNS_AnInstanceByName(t *testing.T) {
	t.Parallel()
	dns, p, etcd := dnsserver.New(t), startPods(t, 2), testbed.NewEtcd(t)
	dns.Set("pod.svc", "127.0.0.1", "127.0.0.2")
	cli := testbed.DialEtcd(t, etcd.Endpoint)
	register(t, cli, "s", "tcp", "pod.svc:"+p.port)
	etcdRoutes{t, cli}.put("r", `{name: r, match: [{method: /a.B/*}], backends: [{service: s, dns: {refresh: 200ms}}]}`)
	proxy := testbed.NewProxyWith(t, "", []gateway.Option{gateway.WithResolver(dns.Resolver())}, testbed.Admin(), testbed.EtcdAt(etcd.Endpoint),
		func(c *conf.Config) { c.Services.Allow = []string{"127.0.0.1/32"} })
	cc := testbed.DialGRPC(t, proxy.Addr)
	awaitAnswer(t, cc, "/a.B/C", "127.0.0.1")
	answersAre(t, cc, "127.0.0.1")
	require.ElementsMatch(t, []shownEndpoint{
		{Address: "127.0.0.1:" + p.port, Name: "pod.svc:" + p.port, State: "usable"},
		{Address: "127.0.0.2:" + p.port, Name: "pod.svc:" + p.port, State: "refused", Reason: "127.0.0.2 is not in services.allow: 127.0.0.1/32"},
	}, shownEndpoints(t, proxy))
}

// The name of framegate's own listener leads back to it.
func TestDNS_ANameOfOurOwn(t *testing.T) {
	t.Parallel()
	dns := dnsserver.New(t)
	dns.Set("gateway.svc", "127.0.0.1", interfaceAddress(t), "::1")
	proxy := testbed.NewProxyWith(t, "", []gateway.Option{gateway.WithResolver(dns.Resolver())}, testbed.Admin(), testbed.EmbeddedEtcd(t), func(c *conf.Config) {
		c.Listeners[0].Address = ":0"
	})
	_, port, err := net.SplitHostPort(proxy.Addr)
	require.NoError(t, err)
	cc := testbed.DialGRPC(t, "127.0.0.1:"+port)
	etcdRoutes{t, testbed.DialEtcd(t, proxy.EtcdEndpoint())}.put("loop", routeDocument("loop", "/a.B/C", "gateway.svc:"+port))
	testbed.Poll(t, func() error {
		all := shownEndpoints(t, proxy)
		if len(all) == 0 {
			return fmt.Errorf("no endpoint yet")
		}
		for _, e := range all {
			if e.State != "refused" || e.Reason != "it is framegate's own: listener main" {
				return fmt.Errorf("%+v, want it refused", e)
			}
		}
		return nil
	})
	require.Equal(t, "no_endpoint", answerOf(t, cc, "/a.B/C"))
}
