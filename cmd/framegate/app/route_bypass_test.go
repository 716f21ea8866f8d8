package app

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/framegate/framegate/resolver/match"
)

const (
	guardRoute = `{name: guard, match: [{method: /e.E/*}], mode: struct, schema: {reflection: true}, struct: {rules: [{on: request, action: reject}]}, backends: [{service: e}]}`
	allRoute   = `{name: all, match: [{method: "*"}], backends: [{service: e}]}`
	bypassLine = "warning: route all reaches service e by *, past the rules of route guard for /e.E/*: " +
		"a server that ignores packages, as Kitex does, takes other names for those methods\n"
)

// Whatever puts a route warns of calls that get past the rules of another.
func TestRoute_WarnsOfCallsPastTheRulesOfAnotherRoute(t *testing.T) {
	c := newRouteCLI(t)
	c.ok("put", "-f", document(t, guardRoute))
	all := document(t, allRoute)
	dry := "route all: would be created\n*: no route -> all (service e)\n" + bypassLine
	require.Equal(t, dry, c.ok("put", "-f", all, "--dry-run"))
	require.Equal(t, dry, c.ok("validate", "-f", all))
	var plan match.Plan
	require.NoError(t, json.Unmarshal([]byte(c.ok("put", "-f", all, "--dry-run", "-o", "json")), &plan))
	require.Equal(t, []match.Bypass{{Route: "all", Method: "*", Guard: "guard", Guards: "/e.E/*", Target: "service e"}}, plan.Bypasses)

	warns := func(want string, args ...string) {
		t.Helper()
		stdout, stderr, _, err := c.run(args...)
		require.NoError(t, err)
		require.Equal(t, "framegate: "+bypassLine, stderr)
		require.Equal(t, want, stdout)
	}
	warns("route all: created (revision 3)\n", "put", "-f", all)
	warns("route guard: unchanged (revision 2)\n", "put", "-f", document(t, guardRoute))
	t.Setenv("VISUAL", "")
	t.Setenv("EDITOR", `sed -i -e 's/^name: all$/&\ntimeout: 1s/'`)
	warns("route all: updated (revision 4)\n", "edit", "all")
	warns("route all: updated, as at revision 3 (revision 5)\n", "rollback", "all")

	require.Equal(t, "ROUTE     all\nMATCH     *\nPRIORITY  0\nBACKENDS  service e\n"+bypassLine, c.ok("explain", "/x.E/Say"))
	c.ok("put", "-f", document(t, `{name: all, match: [{method: /other.Other/*}], backends: [{service: e}]}`))
	require.NotContains(t, c.ok("explain", "/e.E/Say"), "warning")

	stdout, stderr, _, err := runRoute(t, "", "validate", "-f", document(t, "routes:\n- "+guardRoute+"\n- "+allRoute+"\n"))
	require.NoError(t, err)
	require.Equal(t, "framegate: "+bypassLine, stderr)
	require.Equal(t, "route guard: valid\nroute all: valid\n", stdout)
}
