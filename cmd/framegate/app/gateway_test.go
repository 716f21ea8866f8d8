package app

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/cloudwego/kitex/client"
	"github.com/cloudwego/kitex/transport"
	"github.com/stretchr/testify/require"

	"github.com/framegate/framegate/cmd/framegate/gateway"
	"github.com/framegate/framegate/conf"
	echosvc "github.com/framegate/framegate/kitex_gen/echo/echo"
)

// startGateway runs a gateway in this process with those documents of routes until the test ends, and returns a client of it. set
// changes its configuration; it may be nil.
func startGateway(t *testing.T, routes []byte, set func(*conf.Config)) (*gateway.Gateway, echosvc.Client) {
	t.Helper()
	c := conf.Default()
	c.Listeners[0].Address, c.Admin.Address, c.Etcd.Endpoints = "127.0.0.1:0", "127.0.0.1:0", []string{conf.None}
	c.Routes.File = filepath.Join(t.TempDir(), "routes.yaml")
	require.NoError(t, os.WriteFile(c.Routes.File, routes, 0o600))
	if set != nil {
		set(c)
	}
	g, err := gateway.Start(t.Context(), c, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	t.Cleanup(func() { g.Shutdown(context.Background()) })
	cc, err := echosvc.NewClient("echo", client.WithHostPorts(g.Addr("main")), client.WithTransportProtocol(transport.GRPC))
	require.NoError(t, err)
	return g, cc
}
