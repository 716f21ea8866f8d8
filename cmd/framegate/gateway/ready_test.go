package gateway

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/framegate/framegate/conf"
	"github.com/framegate/framegate/resolver/etcdserver"
	"github.com/framegate/framegate/test/loopback"
)

// Clients take UNIMPLEMENTED as final: a gateway that has not heard of its routes yet must not say so.
func TestStart_NoRouteIsNotFinalBeforeTheFirstRoutes(t *testing.T) {
	t.Parallel()
	endpoint := loopback.Address(t) // etcd will be there
	backend, _ := startHealth(t)
	cfg := fileConfig(t, `routes: [{name: file, match: [{method: /grpc.health.v1.Health/List}], backends: [{endpoints: [{address: "`+backend+`"}]}]}]`)
	cfg.Admin.Address, cfg.Admin.Token = "127.0.0.1:0", token
	cfg.AccessLog = conf.AccessLog{Path: filepath.Join(t.TempDir(), "access.log"), Sample: 1}
	cfg.Etcd = external(endpoint)
	g := start(t, cfg)
	cc := dial(t, g.Addr("main"))
	answer := func(method string) (codes.Code, string) {
		var trailer metadata.MD
		err := cc.Invoke(testContext(t), method, &emptypb.Empty{}, &emptypb.Empty{}, grpc.Trailer(&trailer))
		return status.Code(err), strings.Join(trailer.Get("framegate-error"), ",")
	}

	code, reason := answer("/a.B/C")
	require.Equal(t, codes.Unavailable, code)
	require.Equal(t, "not_ready", reason)
	code, reason = answer("/grpc.health.v1.Health/List")
	require.Equal(t, codes.OK, code, "a route from elsewhere is served: %s", reason)
	require.Error(t, g.Ready())
	s, err := checkService(t, cc, "")
	require.NoError(t, err)
	require.Equal(t, notServing, s, "as /readyz")
	told := watchService(t, cc, "")
	require.Equal(t, notServing, told())
	require.Eventually(t, func() bool { // counted when the answer has gone out
		return slices.Equal([]string{`framegate_local_errors_total{backend="",reason="not_ready",route=""} 1`},
			series(ask(t, g, "/metrics"), `framegate_local_errors_total{backend="",reason="not_ready"`))
	}, waitLimit, 10*time.Millisecond)
	require.Eventually(t, func() bool {
		lines, err := os.ReadFile(cfg.AccessLog.Path)
		return err == nil && strings.Contains(string(lines), `"reason":"not_ready"`)
	}, waitLimit, 10*time.Millisecond)

	etcd, err := etcdserver.Start(testContext(t), etcdserver.Config{Dir: t.TempDir(), Address: endpoint})
	require.NoError(t, err)
	t.Cleanup(func() { _ = etcd.Close() })
	require.Equal(t, serving, told())
	require.NoError(t, g.Ready())
	code, reason = answer("/a.B/C")
	require.Equal(t, codes.Unimplemented, code)
	require.Equal(t, "no_route", reason)
	go g.Drain()
	require.Equal(t, notServing, told())
}
