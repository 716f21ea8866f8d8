package app

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"

	"github.com/stretchr/testify/require"
	"gopkg.in/yaml.v3"

	"github.com/framegate/framegate/resolver/spec"
)

const explainRoutes = `routes:
- {name: gold, priority: 2, match: [{method: /echo.Echo/*, headers: [{name: x-tenant, exact: gold}]}], backends: [{service: gold}]}
- {name: host, match: [{method: /echo.Echo/Say, authority: "*.example.com"}], backends: [{endpoints: [{address: "h:1"}]}]}
- {name: edge, listeners: [edge], match: [{method: /echo.Echo/Say}], backends: [{endpoints: [{address: "e:1"}]}]}
- {name: echo, match: [{method: /echo.Echo/*}], backends: [{weight: 90, service: echo, tags: {cluster: a}}, {weight: 10, endpoints: [{address: "c:1"}]}]}
- {name: empty, match: [{method: /host.S/*}], backends: [{service: empty}]}
- {name: other, match: [{method: /other.S/M, headers: [{name: x-a, present: true}]}], backends: [{service: other}]}
`

const explainedSay = "ROUTE     echo\n" +
	"MATCH     /echo.Echo/*\n" +
	"PRIORITY  0\n" +
	"BACKENDS  90 x service echo cluster=a\n" +
	"          10 x c:1\n" +
	"\n" +
	"STRONGER  PRIORITY  MATCH                                   WHY NOT\n" +
	"gold      2         /echo.Echo/* x-tenant=gold              header x-tenant: [\"free\" \"x=y\"], want exactly \"gold\"\n" +
	"host      0         /echo.Echo/Say authority=*.example.com  authority: \"\", want *.example.com\n" +
	"edge      0         /echo.Echo/Say                          listener: \"main\", want edge\n"

func TestRoute_ExplainSaysWhichRouteACallGetsAndWhy(t *testing.T) {
	t.Parallel()
	c := newRouteCLI(t)
	file := document(t, explainRoutes)
	c.ok("put", "-f", file)
	say := []string{"explain", "/echo.Echo/Say", "-H", "x-tenant=free", "-H", "X-Tenant=x=y"}
	require.Equal(t, explainedSay, c.ok(say...))
	fromFile := func(args ...string) (string, int, error) {
		stdout, stderr, code, err := runRoute(t, "", append(args, "-f", file)...)
		require.Empty(t, stderr)
		return stdout, code, err
	}
	stdout, _, err := fromFile(say...)
	require.NoError(t, err)
	require.Equal(t, explainedSay, stdout, "the same from a file, without etcd")

	for want, args := range map[string][]string{
		"gold": {"-H", "x-tenant=gold"},
		"host": {"--authority", "www.example.com:443"},
		"edge": {"--listener", "edge"},
	} {
		stdout, _, err := fromFile(append([]string{"explain", "/echo.Echo/Say", "-o", "yaml"}, args...)...)
		require.NoError(t, err)
		var x explanation
		require.NoError(t, yaml.Unmarshal([]byte(stdout), &x))
		require.Equal(t, want, x.Chosen.Route)
		require.Nil(t, x.Target)
	}

	stdout, code, err := fromFile("explain", "/other.S/M")
	require.EqualError(t, err, "no route takes /other.S/M on listener main")
	require.Equal(t, exitFailed, code)
	require.Equal(t, "ROUTE  none\n\n"+
		"STRONGER  PRIORITY  MATCH           WHY NOT\n"+
		"other     0         /other.S/M x-a  header x-a: absent, want any value\n", stdout)
	stdout, code, err = fromFile("explain", "/none.S/M", "-o", "json")
	require.Error(t, err)
	require.Equal(t, exitFailed, code)
	require.JSONEq(t, `{"chosen":null,"stronger":[],"backends":[]}`, stdout)

	c.rawPut("gold", "colour: red")
	stdout, stderr, _, err := c.run("explain", "/echo.Echo/Say")
	require.NoError(t, err)
	require.NotContains(t, stdout, "gold")
	require.Contains(t, stderr, "framegate: route gold: bad document at revision 3: ")
	require.Contains(t, stderr, "; a framegate may have an earlier version in force, see --admin\n")
}

// adminServer answers as the admin server of a framegate with explainRoutes does, and wants the token "secret".
func adminServer(t *testing.T, seen *url.Values) string {
	t.Helper()
	routes, err := spec.ParseRoutes([]byte(explainRoutes))
	require.NoError(t, err)
	refuse := func(w http.ResponseWriter, status int, reason, message string) {
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(map[string]any{"error": map[string]string{"reason": reason, "message": message}})
	}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/bare/v1/explain":
			w.WriteHeader(http.StatusBadGateway)
		case r.URL.Path == "/away/v1/explain":
			http.Redirect(w, r, "/v1/explain", http.StatusFound)
		case r.URL.Path == "/text/v1/explain":
			_, _ = w.Write([]byte("hello"))
		case r.URL.Path != "/v1/explain":
			refuse(w, http.StatusNotFound, "not_found", "no such page")
		case r.Header.Get("Authorization") != "Bearer secret":
			refuse(w, http.StatusUnauthorized, "unauthorized", "want a token")
		default:
			*seen = r.URL.Query()
			address := "10.0.0.1:9001"
			if seen.Get("method") == "/host.S/M" {
				address = ""
			}
			x := explain(routes, spec.Request{Listener: "main", Method: r.URL.Query().Get("method")})
			_ = json.NewEncoder(w).Encode(map[string]any{
				"chosen": x.Chosen, "stronger": x.Stronger, "backends": x.Backends,
				"target": map[string]string{"backend": "stable", "address": address},
			})
		}
	}))
	t.Cleanup(s.Close)
	return s.URL
}

func TestRoute_ExplainAsksARunningFramegate(t *testing.T) {
	var seen url.Values
	admin := adminServer(t, &seen)
	t.Setenv("FRAMEGATE_ADMIN_TOKEN", "secret")
	stdout, _, _, err := runRoute(t, "", "explain", "/echo.Echo/Say", "-H", "x-a=1", "-H", "x-a=2&3", "-H", "x-b=4", "--authority", "a.com", "--admin", admin)
	require.NoError(t, err)
	require.Equal(t, url.Values{
		"method": {"/echo.Echo/Say"}, "listener": {"main"}, "authority": {"a.com"}, "header": seen["header"],
	}, seen)
	require.ElementsMatch(t, []string{"x-a:1", "x-a:2&3", "x-b:4"}, seen["header"])
	require.Contains(t, stdout, "ROUTE     echo\n")
	require.Contains(t, stdout, "          10 x c:1\nTARGET    stable 10.0.0.1:9001\n")
	require.Contains(t, stdout, "header x-tenant: absent, want exactly \"gold\"")

	asJSON, _, _, err := runRoute(t, "", "explain", "/echo.Echo/Say", "-o", "json", "--admin", admin)
	require.NoError(t, err)
	var x explanation
	require.NoError(t, json.Unmarshal([]byte(asJSON), &x))
	require.Equal(t, &explainedTarget{Backend: "stable", Address: "10.0.0.1:9001"}, x.Target)
	require.Len(t, x.Stronger, 3)

	stdout, _, _, err = runRoute(t, "", "explain", "/host.S/M", "--admin", admin)
	require.NoError(t, err)
	require.Contains(t, stdout, "TARGET    none: no backend has an endpoint that may be used\n")

	_, _, code, err := runRoute(t, "", "explain", "/none.S/M", "--admin", admin)
	require.Equal(t, exitFailed, code)
	require.EqualError(t, err, "no route takes /none.S/M on listener main")

	for path, want := range map[string]string{
		"/else": "no such page (not_found)", "/bare": "502 Bad Gateway", "/away": "302 Found", "/text": "its answer is not that of a framegate",
	} {
		_, _, code, err = runRoute(t, "", "explain", "/echo.Echo/Say", "--admin", admin+path)
		require.Equal(t, exitFailed, code)
		require.ErrorContains(t, err, "admin server at "+admin+path+": "+want)
	}
	_, _, _, err = runRoute(t, "", "explain", "/echo.Echo/Say", "--admin", admin, "--admin-token", "wrong")
	require.ErrorContains(t, err, "want a token (unauthorized)")
	_, _, _, err = runRoute(t, "", "explain", "/echo.Echo/Say", "--admin", "127.0.0.1:1")
	require.ErrorContains(t, err, "admin server at 127.0.0.1:1 cannot be asked (dial tcp 127.0.0.1:1: connect: connection refused); is that framegate running?")
}

func TestRoute_ExplainGivesUpOnASilentFramegate(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))
	defer s.Close()
	defer close(release)
	_, _, code, err := runRoute(t, "", "explain", "/echo.Echo/Say", "--admin", s.URL, "--timeout", "100ms")
	require.Equal(t, exitFailed, code)
	require.EqualError(t, err, "admin server at "+s.URL+": no answer within 100ms")
}

func TestRoute_WrongUsageOfExplain(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		args []string
		want string
	}{
		{nil, "route explain: arguments [], want one method such as /pkg.Service/Method"},
		{[]string{"/echo.Echo/*"}, `route explain: arguments ["/echo.Echo/*"], want one method`},
		{[]string{"/a.S/M", "-H", "gold"}, `-H: "gold", want name=value`},
		{[]string{"/a.S/M", "--listener", "No"}, `--listener: "No", want the name of a listener`},
		{[]string{"/a.S/M", "-f", "x", "--admin", "y"}, "route explain: want one of -f, --admin and --etcd"},
		{[]string{"/a.S/M", "-f", "x", "--etcd", "y:1"}, "route explain: want one of -f, --admin and --etcd"},
		{[]string{"/a.S/M", "--admin", "ftp://x"}, `--admin: "ftp://x", want a URL`},
		{[]string{"/a.S/M", "--admin", "x", "--timeout", "0s"}, "--timeout: 0s, want more than 0s"},
		{[]string{"/a.S/M", "-o", "xml"}, `-o: "xml", want table, json or yaml`},
	} {
		_, _, code, err := runRoute(t, "", append([]string{"explain"}, c.args...)...)
		require.ErrorContains(t, err, c.want)
		require.Equal(t, exitUsage, code, c.args)
	}
}
