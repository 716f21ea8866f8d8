package test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/framegate/framegate/conf"
	"github.com/framegate/framegate/test/testbed"
)

// badPaths are no /pkg.Service/Method. The first ones mean /echo.Echo/Say to one kind of server or another: Kitex ignores
// the package and what precedes it, servers of HTTP decode paths and cut off queries.
var badPaths = []string{
	"//echo.Echo/Say", "/x/echo.Echo/Say", "/x.y/echo.Echo/Say", "/echo.Echo//Say", "echo.Echo/Say", "/.Echo/Say", "/..Echo/Say", "/evil..Echo/Say",
	"/ .Echo/Say", "/a b.Echo/Say", "/../echo.Echo/Say", "/./echo.Echo/Say", "/echo.Echo/Say/", "/echo.Echo/../echo.Echo/Say",
	"/%65cho.Echo/Say", "/echo.Echo/%53ay", "/echo%2eEcho/Say", "/echo.Echo/Say?a=b", "/echo.Echo/Say#a", "/echo.Echo/Say;a=b", "/echo.Echo\\Say", "\\echo.Echo/Say",
	"http://a/echo.Echo/Say", "//a/echo.Echo/Say", "/échö.Echo/Say", "/echo.Echo /Say", " /echo.Echo/Say", "/echo.Echo/Say ", "/*.Echo/Say", "/echo.Echo/*",
	"/", "//", "/nothing", "nothing", "*", "", "/Echo/", "//Say", "/echo.Echo./Say", "/echo.Echo/Say.Say", "/grpc.health.v1.Health/Check/",
	"grpc.health.v1.Health/Check", "//grpc.health.v1.Health/Check", "/x/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/", "/" + strings.Repeat("a", 2000) + "/Say",
}

// A rule of a route is not to be got around by another way to write a path: a server that reads it less strictly than
// framegate would take the call for one of those that the rule refuses.
func TestBadPath_IsRefusedBeforeRouting(t *testing.T) {
	t.Parallel()
	server := testbed.NewEcho(t, &testbed.Echo{})
	routes := fmt.Sprintf(`routes:
- name: guard
  match: [{method: /echo.Echo/*}]
  mode: struct
  schema: {files: [%q]}
  struct: {rules: [{on: request, action: reject}]}
  backends: [{endpoints: [{address: %q}]}]
- name: all
  match: [{method: "*"}]
  backends: [{endpoints: [{address: %q}]}]
`, testbed.EchoProto(t), server, server)
	for name, limit := range map[string]int{"max_calls": 2, "no max_calls": 0} {
		t.Run(name, func(t *testing.T) {
			log := filepath.Join(t.TempDir(), "access.log")
			proxy := testbed.NewProxy(t, routes, testbed.Admin(), testbed.AccessLog(log), onListener(func(l *conf.Listener) { l.MaxCalls = limit }))
			request := testbed.Frame(text("hello"))
			client := testbed.DialH2(t, proxy.Addr)
			call := func(path string) testbed.Outcome {
				cs := client.Open(t, testbed.RequestFields().Replace(":path", path))
				_ = cs.TrySendEnd(request) // the refusal may be faster
				return cs.Outcome()
			}
			wantLocal(t, call("/echo.Echo/Say"), 7, "rejected")
			for _, path := range badPaths {
				t.Run(path, func(t *testing.T) {
					o := call(path)
					wantLocal(t, o, 3, "bad_request")
					require.Contains(t, o.Message(), "/pkg.Service/Method", "it says what is wanted")
				})
			}
			wantMetrics(t, proxy, // each is counted once, and nothing is left of it
				fmt.Sprintf(`framegate_local_errors_total{backend="",reason="bad_request",route=""} %d`, len(badPaths)),
				`framegate_listener_calls{listener="main"} 0`)
			proxy.Stop()
			lines, err := os.ReadFile(log)
			require.NoError(t, err)
			require.Equal(t, len(badPaths), strings.Count(string(lines), `"reason":"bad_request"`), "lines of the access log")
		})
	}
}

// What other kinds of server call their services is forwarded as it is.
func TestBadPath_OddButGoodOnesAreForwarded(t *testing.T) {
	t.Parallel()
	p := newRawPair(t, proxied)
	for _, path := range []string{"/Echo/Say", "/a/b", "/$GenericService/Say", "/a.b-c.D_e/f-g", "/_/_", "/a.B2/1", "/grpc.health.v1.Healthy/Check"} {
		_, _, request := p.open(t, testbed.RequestFields().Replace(":path", path))
		require.Equal(t, path, request.Get(":path"))
	}
}
