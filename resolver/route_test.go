package resolver

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const goodRoute = `
name: echo
listeners: [main]
match: [{method: /echo.Echo/Say}, {method: /echo.Echo/*}, {method: /echo.*}, {method: "*"}]
priority: 3
mode: frame
authority: echo.internal:80
timeout: 1.5s
backends:
- name: stable
  weight: 90
  endpoints: [{address: "127.0.0.1:9001", weight: 10}, {address: "[::1]:9002"}, {address: "unix:/run/echo.sock"}]
- {name: canary, weight: 0, endpoints: [{address: "echo.local:80"}]}
`

func TestParseRoute_SurvivesARoundTrip(t *testing.T) {
	r := mustRoute(t, goodRoute)
	doc, err := r.Encode()
	require.NoError(t, err)
	again, err := ParseRoute(doc)
	require.NoError(t, err, string(doc))
	require.Equal(t, r, again)
}

func TestParseRoute_NamesEachMistake(t *testing.T) {
	_, err := ParseRoute([]byte(`
name: Echo
listeners: ["Main!"]
match: [{method: echo.Echo/Say}]
priority: 9999999
mode: sideways
authority: "a b"
timeout: -1s
backends:
- {name: x, weight: -1, endpoints: [{address: nowhere}, {address: "h:0"}, {address: "unix:rel"}, {address: "h:1", weight: 9999999}]}
- {name: x, endpoints: []}
`))
	require.Error(t, err)
	for _, want := range []string{
		`name: "Echo", want 1 to 63 of a-z 0-9 . -`,
		`listeners[0]: "Main!", want the name of a listener`,
		`match[0].method: "echo.Echo/Say", want /pkg.Service/Method, /pkg.Service/*, /pkg.* or *`,
		`priority: 9999999, want -1000000 to 1000000`,
		`mode: "sideways", want frame`,
		`authority: "a b", want a host`,
		`timeout: -1s, want 0s to`,
		`backends[0].weight: -1, want 0 to 1000000`,
		`backends[0].endpoints[0].address: "nowhere", want host:port or unix:/path`,
		`backends[0].endpoints[1].address: "h:0", want a port from 1 to 65535`,
		`backends[0].endpoints[2].address: "unix:rel", want unix:/path`,
		`backends[0].endpoints[3].weight: 9999999, want 0 to 1000000`,
		`backends[1].name: "x", want a name that no other backend of the route has`,
		`backends[1].endpoints: empty`,
	} {
		require.ErrorContains(t, err, want)
	}
}

func TestParseRoutes_TakesOneRouteOrAList(t *testing.T) {
	routes, err := ParseRoutes([]byte(goodRoute))
	require.NoError(t, err)
	require.Len(t, routes, 1)

	list := "routes:\n- " + strings.ReplaceAll(strings.TrimSpace(goodRoute), "\n", "\n  ")
	routes, err = ParseRoutes([]byte(list))
	require.NoError(t, err)
	require.Equal(t, "echo", routes[0].Name)

	_, err = ParseRoutes([]byte(list + "\n" + strings.TrimPrefix(list, "routes:\n")))
	require.ErrorContains(t, err, `routes[1].name: "echo", want a name that no other route has`)

	routes, err = ParseRoutes(nil)
	require.NoError(t, err)
	require.Empty(t, routes)

	_, err = ParseRoutes([]byte("routes: [{name: a, colour: red}]"))
	require.ErrorContains(t, err, "routes[0].colour: unknown key, want one of: name, listeners,")
}

func TestParsePattern(t *testing.T) {
	for s, want := range map[string]Pattern{
		"*":           {KindAny, ""},
		"/a.*":        {KindPackage, "/a."},
		"/a.b_1.*":    {KindPackage, "/a.b_1."},
		"/a.b.S/*":    {KindService, "/a.b.S/"},
		"/S/M":        {KindExact, "/S/M"},
		"/a.b.S/M-2x": {KindExact, "/a.b.S/M-2x"},
	} {
		got, err := ParsePattern(s)
		require.NoError(t, err, s)
		require.Equal(t, want, got, s)
	}
	for _, s := range []string{"", "/", "a", "/a", "/a.", "/.*", "/*", "/a*/b", "/a/b/c", "/a/", "/a..b/c", "/a b/c", "**", "/a/b*", "/é/b"} {
		_, err := ParsePattern(s)
		require.ErrorContains(t, err, "want /pkg.Service/Method", s)
	}
}

func FuzzParseRoutes(f *testing.F) {
	f.Add([]byte(goodRoute))
	f.Add([]byte("routes:\n- {name: a, match: [{method: '*'}], backends: [{endpoints: [{address: 'h:1'}]}]}"))
	f.Add([]byte(`{"name":"j","match":[{"method":"/a.*"}],"backends":[{"endpoints":[{"address":"h:1"}]}]}`))
	f.Fuzz(func(t *testing.T, doc []byte) {
		routes, err := ParseRoutes(doc)
		if err != nil {
			return
		}
		for _, r := range routes {
			enc, err := r.Encode()
			require.NoError(t, err)
			again, err := ParseRoute(enc)
			require.NoError(t, err, string(enc))
			require.Equal(t, r.Name, again.Name)
			require.Equal(t, len(r.Backends), len(again.Backends))
		}
		newTable(routes)
	})
}
