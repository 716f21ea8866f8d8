package test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"

	"github.com/framegate/framegate/conf"
	"github.com/framegate/framegate/test/testbed"
)

// An endpoint is told when a connection is closed that nobody uses.
func TestIdleUpstream_IsClosedWithAGoAway(t *testing.T) {
	t.Parallel()
	server := testbed.NewH2Server(t)
	proxy := testbed.NewProxy(t, testbed.RouteWith(server.Addr, ""), testbed.On(conf.DataPlaneRelay), func(c *conf.Config) { c.Upstream.IdleTimeout = 300 * time.Millisecond })
	cs := testbed.DialH2(t, proxy.Addr).OpenEnd(t, testbed.RequestFields())
	st := server.Accept(t)
	answer(st, "reply")
	wantAnswer(t, cs, "reply")
	require.Equal(t, http2.ErrCodeNo, st.Conn().AwaitGoAway(t).Code)
	st.Conn().AwaitClosed(t)
}
