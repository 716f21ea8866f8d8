package admin

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/framegate/framegate/resolver"
)

// A route whose document is good and does not fit its schema is rejected: it is not on its way.
func TestRoutes_OneRouteHasTheStatusThatTheListHas(t *testing.T) {
	t.Parallel()
	control := startEtcd(t).control()
	routes := control.Routes
	control.Routes = func() []resolver.RouteStatus {
		all := routes()
		for i := range all {
			all[i].Route, all[i].Revision, all[i].Err = nil, 0, errors.New("does not fit")
		}
		return all
	}
	c := startAPI(t, Config{Control: control})
	require.Equal(t, 201, c.do("PUT", "/v1/routes/echo", echoRoute).code)
	var got seenRoute
	eventually(t, "rejected", func() bool {
		got, _ = c.getRoute("echo")
		return got.Status == statusRejected
	})
	require.Equal(t, "does not fit", got.Error)
	require.NotZero(t, got.LatestRevision)
}
