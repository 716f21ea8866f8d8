package spec

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const goodRoute = `
name: echo
listeners: [main]
match:
- {method: /echo.Echo/Say, authority: "*.Example.com", headers: [{name: x-tenant, exact: ""}, {name: x-a-bin, present: false}]}
- {method: /echo.Echo/*, headers: [{name: x-tenant, prefix: "go"}, {name: x-user, regex: "a|b+"}]}
- {method: /echo.*, authority: "[::1]:80"}
- {method: "*"}
priority: 3
mode: frame
authority: echo.internal:80
timeout: 1.5s
backends:
- name: stable
  weight: 90
  endpoints: [{address: "127.0.0.1:9001", weight: 10}, {address: "[::1]:9002"}, {address: "unix:/run/echo.sock"}]
- {name: canary, weight: 0, endpoints: [{address: "echo.local:80"}]}
- {name: found, service: echo, tags: {cluster: a, zone: ""}}
`

func TestParseRoute_SurvivesARoundTrip(t *testing.T) {
	r := validRoute(t, goodRoute)
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
match:
- method: echo.Echo/Say
- method: "*"
  authority: "a.*.com"
  headers:
  - {name: X-Tenant, exact: a}
  - {name: te, present: true}
  - {name: x-a, exact: a, prefix: b}
  - {name: x-b}
  - {name: x-bin, exact: a}
  - {name: x-c, prefix: ""}
  - {name: x-d, regex: "a)(b"}
  - {name: x-e, regex: ".{0,1000}b"}
  - {name: x-f, exact: "caf\u00e9"}
- {method: "*", authority: "*"}
priority: 9999999
mode: sideways
authority: "a b"
timeout: -1s
backends:
- {name: x, weight: -1, endpoints: [{address: nowhere}, {address: "h:0"}, {address: "unix:rel"}, {address: "h:1", weight: 9999999}]}
- {name: x, endpoints: []}
- {service: echo, endpoints: [{address: "h:1"}]}
- {service: a/b}
- {endpoints: [{address: "h:1"}], tags: {a: b}}
`))
	require.Error(t, err)
	for _, want := range []string{
		`name: "Echo", want 1 to 63 of a-z 0-9 . -`,
		`listeners[0]: "Main!", want the name of a listener`,
		`match[0].method: "echo.Echo/Say", want /pkg.Service/Method, /pkg.Service/*, /pkg.* or *`,
		`priority: 9999999, want -1000000 to 1000000`,
		`mode: "sideways", want frame`,
		`authority: "a b", want a host`,
		`timeout: -1s, want 0s (none) or 1ms to`,
		`backends[0].weight: -1, want 0 to 1000000`,
		`backends[0].endpoints[0].address: "nowhere", want host:port or unix:/path`,
		`backends[0].endpoints[1].address: "h:0", want a port from 1 to 65535`,
		`backends[0].endpoints[2].address: "unix:rel", want unix:/path`,
		`backends[0].endpoints[3].weight: 9999999, want 0 to 1000000`,
		`backends[1].name: "x", want a name that no other backend of the route has`,
		`backends[1].endpoints: empty`,
		`backends[2].service: "echo" beside endpoints, want one of the two`,
		`backends[3].service: "a/b", want`,
		`backends[4].tags: want them beside service only`,
		`match[1].authority: "a.*.com", want a host, host:port or *.domain`,
		`match[2].authority: "*", want a host`,
		`match[1].headers[0].name: "X-Tenant", want a header name of a-z`,
		`match[1].headers[1].name: "te", want a header that is not of the transport`,
		`match[1].headers[2].name: "x-a" with 2 conditions, want one of exact, prefix, regex and present`,
		`match[1].headers[3].name: "x-b" with 0 conditions`,
		`match[1].headers[4].name: "x-bin", want present`,
		`match[1].headers[5].prefix: "", want some text`,
		`match[1].headers[6].regex: "a)(b", want a regular expression in RE2 syntax`,
		`match[1].headers[7].regex: ".{0,1000}b", want one of at most 256 steps`,
		`match[1].headers[8].exact: "café", want printable ASCII`,
	} {
		require.ErrorContains(t, err, want)
	}
}

// What a document may ask for is bounded: each framegate pays for it, again and again.
func TestParseRoute_RefusesWhatWouldCostTooMuch(t *testing.T) {
	many := func(n int, s string) string { return strings.TrimSuffix(strings.Repeat(s+", ", n), ", ") }
	const tail = `, backends: [{endpoints: [{address: "h:1"}]}]}`
	for want, doc := range map[string]string{
		"listeners: 65, want at most 64":                          `{name: a, listeners: [` + many(65, "l") + `], match: [{method: "*"}]` + tail,
		"match: 1001 entries, want at most 1000":                  `{name: a, match: [` + many(1001, `{method: "*"}`) + `]` + tail,
		"match[0].headers: 33, want at most 32":                   `{name: a, match: [{method: "*", headers: [` + many(33, `{name: x-a, exact: a}`) + `]}]` + tail,
		"steps together, want at most 4096":                       `{name: a, match: [{method: "*", headers: [` + many(32, `{name: x-a, regex: ".{200}"}`) + `]}]` + tail,
		"binary data, want a string":                              `{name: a, match: [{method: "*"}], backends: [{endpoints: [{address: !!binary "dW5peDovdG1wL/8="}]}]}`,
		`"unix:/a\u200bb", want at most 512 printable characters`: `{name: a, match: [{method: "*"}], backends: [{endpoints: [{address: "unix:/a\u200bb"}]}]}`,
		"document is not UTF-8":                                   "\xff\xfen\x00a\x00",
		"and 49950 more":                                          strings.Repeat("a:\n", 50_000),
		"want UTF-8 of at most 512 bytes":                         `{name: a, match: [{method: "*"}], backends: [{service: s, tags: {a: ` + strings.Repeat("b", 600) + `}}]}`,
	} {
		_, err := ParseRoute([]byte(doc))
		require.ErrorContains(t, err, want)
		require.Less(t, len(err.Error()), 64<<10)
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
	f.Add([]byte("{name: h, match: [{method: '*', authority: '*.a', headers: [{name: x-a, regex: 'a|b'}]}], backends: [{service: s, tags: {k: v}}]}"))
	f.Add([]byte(`{"name":"j","match":[{"method":"/a.*"}],"backends":[{"endpoints":[{"address":"h:1"}]}]}`))
	for _, doc := range goodPolicies {
		f.Add([]byte(doc))
	}
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
			second, err := again.Encode()
			require.NoError(t, err)
			require.Equal(t, string(enc), string(second))
			_, err = r.MarshalJSON()
			require.NoError(t, err)
		}
	})
}

func validRoute(t testing.TB, doc string) *Route {
	t.Helper()
	r, err := ParseRoute([]byte(doc))
	require.NoError(t, err, doc)
	return r
}
