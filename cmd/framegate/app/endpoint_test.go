package app

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"gopkg.in/yaml.v3"

	"github.com/framegate/framegate/admin"
	"github.com/framegate/framegate/cmd/framegate/gateway"
	"github.com/framegate/framegate/kitex_gen/echo"
	"github.com/framegate/framegate/test/loopback"
)

// startFailing runs a framegate with an endpoint in each state, and returns when each is in its own.
func startFailing(t *testing.T) (g *gateway.Gateway, good, dead, gone string) {
	t.Helper()
	good, dead, gone = serveBenchEcho(t), loopback.Address(t), loopback.Address(t)
	g, cc := startGateway(t, fmt.Appendf(nil, `routes:
- name: checked
  match: [{method: /checked.*}]
  backends:
  - name: main
    endpoints: [{address: %q}, {address: %q, weight: 2}, {address: "127.0.0.1:1", weight: 0}]
    health: {type: tcp, interval: 1s, fall: 1}
    panic_percent: 0
- name: echo
  match: [{method: /echo.*}]
  backends:
  - endpoints: [{address: %q}, {address: %q, weight: 1000000}]
    ejection: {consecutive_failures: 1, base_time: 1h}
    panic_percent: 60
- {name: registered, match: [{method: /registered.*}], backends: [{service: shop, tags: {zone: a}}]}
`, good, dead, good, gone), nil)
	_, err := cc.Say(t.Context(), &echo.Request{Message: "hello"})
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		out, _, _, err := listEndpoints(t, g)
		return err == nil && strings.Contains(out, "unhealthy:") && strings.Contains(out, "ejected until")
	}, processLimit, 10*time.Millisecond)
	return g, good, dead, gone
}

func listEndpoints(t *testing.T, g *gateway.Gateway, args ...string) (stdout, stderr string, code int, err error) {
	t.Helper()
	return execute(t.Context(), newEndpointCommand(), "", append([]string{"list", "--admin", g.AdminAddr()}, args...)...)
}

func TestEndpointList_SaysHowEachDoes(t *testing.T) {
	t.Parallel()
	g, good, dead, gone := startFailing(t)
	out, stderr, code, err := listEndpoints(t, g)
	require.NoError(t, err)
	require.Equal(t, exitDone, code)
	require.Empty(t, stderr)
	rows := map[string]string{} // by what comes before the state
	lines := strings.Split(strings.TrimSuffix(out, "\n"), "\n")
	require.Regexp(t, `^SERVICE/ROUTE +BACKEND +ADDRESS +WEIGHT +STATE +ACTIVE +CONNECTIONS$`, lines[0])
	for _, line := range lines[1:] {
		f := strings.Fields(line)
		n := 5
		if f[0] == "service" {
			n = 6
		}
		rows[strings.Join(f[:n], " ")] = strings.Join(f[n:], " ")
	}
	require.Len(t, rows, 6, out)
	require.Equal(t, "ok 0 1", rows["route checked main "+good+" 1"])
	require.Regexp(t, `^unhealthy: .*refused.* 0 0$`, rows["route checked main "+dead+" 2"])
	require.Equal(t, "off 0 0", rows["route checked main 127.0.0.1:1 0"])
	require.Equal(t, "ok 0 1", rows["route echo #0 "+good+" 1"])
	require.Regexp(t, `^ejected until \d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ, in (1h0m0s|5\dm\d+s) \(used in panic\) 0 0$`, rows["route echo #0 "+gone+" 1000000"])
	require.Equal(t, "no endpoint - -", rows["service shop zone=a - - -"])
}

func TestEndpointList_OfOneRouteOrService(t *testing.T) {
	t.Parallel()
	g, _, _, _ := startFailing(t)
	for name, want := range map[string]int{"checked": 3, "echo": 2, "shop": 1, "registered": 1} {
		out, _, _, err := listEndpoints(t, g, name)
		require.NoError(t, err)
		require.Equal(t, want, strings.Count(out, "\n")-1, "%s: %s", name, out)
	}
	_, _, code, err := listEndpoints(t, g, "none")
	require.Equal(t, exitFailed, code)
	require.EqualError(t, err, "admin server at "+g.AdminAddr()+": no route none is in force there, and none that uses a service of that name")
}

func TestEndpointList_AsJSONAndYAMLIsWhatTheServerSays(t *testing.T) {
	t.Parallel()
	g, _, dead, gone := startFailing(t)
	for format, decode := range map[string]func([]byte, any) error{outputJSON: json.Unmarshal, outputYAML: yaml.Unmarshal} {
		out, _, _, err := listEndpoints(t, g, "-o", format)
		require.NoError(t, err)
		var got struct{ Groups []listedGroup }
		require.NoError(t, decode([]byte(out), &got), out)
		require.Len(t, got.Groups, 3)
		checked, ejected := got.Groups[0], got.Groups[1]
		require.Equal(t, []any{"file", "checked", "main", []string{"checked"}, 1}, []any{checked.Source, checked.Route, checked.Backend, checked.Routes, checked.Usable})
		for _, e := range append(checked.Endpoints, ejected.Endpoints...) {
			switch e.Address {
			case dead:
				require.Equal(t, admin.StateUnhealthy, e.State)
				require.Contains(t, e.HealthError, "refused")
			case gone:
				require.Equal(t, admin.StateEjected, e.State)
				require.WithinDuration(t, time.Now().Add(time.Hour), *e.EjectedUntil, 5*time.Minute)
			}
		}
		require.True(t, ejected.Panic)
		require.EqualValues(t, 1, ejected.Ejections)
		require.Empty(t, got.Groups[2].Endpoints)
	}
}

func TestEndpointList_StatesForPeople(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_700_000_000, 0)
	until := now.Add(90 * time.Second)
	for want, c := range map[string]struct {
		e       listedEndpoint
		inPanic bool
	}{
		"ok":           {e: listedEndpoint{State: admin.StateUsable}, inPanic: true},
		"ok, on trial": {e: listedEndpoint{State: admin.StateUsable, Trial: true}},
		"ok, registered no more, kept until 2023-11-14T22:14:50Z": {e: listedEndpoint{State: admin.StateUsable, KeptUntil: &until}},
		"off":            {e: listedEndpoint{State: admin.StateOff}, inPanic: true},
		`"new\x1bstate"`: {e: listedEndpoint{State: "new\x1bstate"}},
		"unhealthy: service \"s\" is NOT_SERVING (used in panic)":     {e: listedEndpoint{State: admin.StateUnhealthy, HealthError: `service "s" is NOT_SERVING`}, inPanic: true},
		"cannot connect: refused":                                     {e: listedEndpoint{State: admin.StateUnreachable, ConnectError: "refused", Trial: true}},
		"unhealthy: its last check was good, but not enough in a row": {e: listedEndpoint{State: admin.StateUnhealthy}},
		`unhealthy: "no\x1b[2J"`:                                      {e: listedEndpoint{State: admin.StateUnhealthy, HealthError: "no\x1b[2J"}},
		"ejected until 2023-11-14T22:14:50Z, in 1m30s":                {e: listedEndpoint{State: admin.StateEjected, EjectedUntil: &until}},
	} {
		require.Equal(t, want, c.e.shownState(c.inPanic, now))
	}
}

func TestEndpointList_SaysWhyNot(t *testing.T) {
	t.Parallel()
	old := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"endpoints": []}`) }))
	defer old.Close()
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"list", "a", "b"}, exitUsage, `arguments ["a" "b"], want the NAME of one route or service or nothing`},
		{[]string{"list", "-o", "xml"}, exitUsage, `-o: "xml", want table, json or yaml`},
		{[]string{"list", "--admin", "ftp://x"}, exitUsage, `--admin: "ftp://x", want a URL such as http://127.0.0.1:8889`},
		{[]string{"list", "--timeout", "0s"}, exitUsage, "--timeout: 0s, want more than 0s"},
		{[]string{"list", "--admin", loopback.Address(t)}, exitFailed, "is that framegate running?"},
		{[]string{"list", "--admin", old.URL}, exitFailed, "its answer has no groups, want a framegate that is not older than this command"},
		{[]string{"lst"}, exitUsage, `unknown command "lst"`},
		{nil, exitUsage, "a command is missing, want list"},
	} {
		_, _, code, err := execute(t.Context(), newEndpointCommand(), "", c.args...)
		require.ErrorContains(t, err, c.want)
		require.Equal(t, c.code, code)
	}
}
