package app

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// Whatever puts a route for health checks, or explains one, says that listeners may answer them themselves.
func TestRoute_WarnsOfHealthChecksThatListenersAnswer(t *testing.T) {
	t.Parallel()
	const warning = "warning: route hc gets no health checks by /grpc.health.v1.Health/* from a listener whose configuration does not say health: routed, which answers Check and Watch of grpc.health.v1.Health itself\n"
	c := newRouteCLI(t)
	hc := document(t, `{name: hc, match: [{method: /grpc.health.v1.Health/*}], backends: [{service: e}]}`)
	require.Contains(t, c.ok("put", "-f", hc, "--dry-run"), warning)
	stdout, stderr, _, err := c.run("put", "-f", hc)
	require.NoError(t, err)
	require.Equal(t, "framegate: "+warning, stderr)
	require.Contains(t, stdout, "route hc: created")
	stdout, stderr, _, err = runRoute(t, "", "validate", "-f", hc)
	require.NoError(t, err)
	require.Equal(t, "framegate: "+warning, stderr)
	require.Equal(t, "route hc: valid\n", stdout)

	const own = "warning: a listener answers it itself unless its configuration says health: routed\n"
	require.Contains(t, c.ok("explain", "/grpc.health.v1.Health/Watch"), own)
	require.NotContains(t, c.ok("explain", "/grpc.health.v1.Health/List"), "warning")
	_, stderr, _, err = c.run("put", "-f", document(t, `{name: other, match: [{method: /my.Health/*}], backends: [{service: e}]}`))
	require.NoError(t, err)
	require.Empty(t, stderr)
}
