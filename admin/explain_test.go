package admin

import (
	"net/url"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/framegate/framegate/resolver"
	"github.com/framegate/framegate/resolver/cluster"
	"github.com/framegate/framegate/resolver/spec"
)

const tenantRoute = `
name: gold
listeners: [main]
match: [{method: /echo.Echo/Say, authority: "*.example.com", headers: [{name: x-tenant, exact: gold}]}]
backends: [{name: vip, endpoints: [{address: "127.0.0.1:9002"}]}]
`

func startExplain(t *testing.T) *client {
	t.Helper()
	r := resolver.New()
	var routes []*spec.Route
	for _, doc := range []string{echoRoute, tenantRoute} {
		route, err := spec.ParseRoute([]byte(doc))
		require.NoError(t, err)
		routes = append(routes, route)
	}
	r.Apply("test", resolver.Bind(routes...))
	return startAPI(t, Config{Control: Control{Explain: func(req spec.Request) (resolver.Explanation, cluster.Target, bool) {
		target, ok := r.Preview(req)
		return r.Explain(req), target, ok
	}}})
}

func TestExplain_SaysWhichRouteAndWhyNotTheStronger(t *testing.T) {
	c := startExplain(t)
	call := url.Values{"method": {"/echo.Echo/Say"}, "listener": {"main"}, "authority": {"a.example.com:80"}, "header": {"X-Tenant: gold", "x-other:a:b"}}
	require.JSONEq(t, `{
		"chosen": {"route": "gold", "priority": 0, "match": "/echo.Echo/Say authority=*.example.com x-tenant=gold"},
		"stronger": [], "backends": ["127.0.0.1:9002"],
		"target": {"backend": "vip", "address": "127.0.0.1:9002"}
	}`, c.do("GET", "/v1/explain?"+call.Encode(), "").body)

	for _, change := range []struct{ key, value, reason string }{
		{"header", "x-tenant: silver", `header x-tenant: [\"silver\"], want exactly \"gold\"`},
		{"authority", "example.com", `authority: \"example.com\", want *.example.com`},
		{"listener", "", `listener: \"\", want main`},
	} {
		other := url.Values{}
		for k, v := range call {
			other[k] = v
		}
		other.Set(change.key, change.value)
		require.JSONEq(t, `{
			"chosen": {"route": "echo", "priority": 0, "match": "/echo.Echo/*"},
			"stronger": [{"route": "gold", "priority": 0, "match": "/echo.Echo/Say authority=*.example.com x-tenant=gold", "reason": "`+change.reason+`"}],
			"backends": ["127.0.0.1:9001"],
			"target": {"backend": "stable", "address": "127.0.0.1:9001"}
		}`, c.do("GET", "/v1/explain?"+other.Encode(), "").body)
	}
	require.JSONEq(t, `{"chosen": null, "stronger": [], "backends": []}`, c.do("GET", "/v1/explain?method=/other.S/M", "").body)
}

func TestExplain_RefusesWhatIsNoCall(t *testing.T) {
	c := startExplain(t)
	for query, want := range map[string]string{
		"":                                 `method: "", want /pkg.Service/Method`,
		"method=echo":                      `method: "echo", want /pkg.Service/Method`,
		"method=/echo.Echo/*":              `method: "/echo.Echo/*", want /pkg.Service/Method`,
		"method=/a.S/M&method=/b.S/M":      `method: given 2 times, want once`,
		"method=/a.S/M&header=x-tenant":    `header: "x-tenant", want name:value`,
		"method=/a.S/M&header=:authority":  `header: ":authority", want name:value`,
		"method=/a.S/M&listener=&listener": `listener: given 2 times, want once`,
	} {
		require.Equal(t, want, c.fails(400, reasonBadParameter, "GET", "/v1/explain?"+query, ""), query)
	}
}
