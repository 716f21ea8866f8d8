package app

import (
	"context"
	"fmt"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/framegate/framegate/test/loopback"
)

// A start that is refused ends at once, and says nothing of a drain: nobody was told to send calls.
func TestServe_AStartThatIsRefusedDrainsNothing(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = taken.Close() })
	in := taken.Addr().String()
	const document = `
listeners: [{name: main, address: %q}, {name: other, address: %q}]
admin: {address: %q}
etcd: {endpoints: [%s], embedded: {address: %q, dir: data}}
routes: {file: %q}
drain: {delay: 1m, timeout: 1m}
`
	for name, c := range map[string]struct{ other, admin, etcd, embedded string }{
		"second listener":                      {in, loopback.Address(t), "none", loopback.Address(t)},
		"admin":                                {loopback.Address(t), in, "none", loopback.Address(t)},
		"embedded etcd":                        {loopback.Address(t), loopback.Address(t), "embedded", in},
		"all is well with etcd until the last": {in, loopback.Address(t), "embedded", loopback.Address(t)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			config := writeFile(t, fmt.Sprintf(document, loopback.Address(t), c.other, c.admin, c.etcd, c.embedded, writeFile(t, "routes: []")))
			began := time.Now()
			_, stderr, code := runFramegate(t, "", "serve", "--config", config)
			require.Equal(t, 1, code, stderr)
			require.Less(t, time.Since(began), 50*time.Second, "a drain would be a minute")
			require.NotContains(t, stderr, "draining")
			require.Contains(t, stderr, "is in use")
		})
	}
}

// A server that is told to end warns of nothing, with connections of clients and to endpoints open, and etcd within.
func TestServe_ACleanStopWarnsOfNothing(t *testing.T) {
	t.Parallel()
	backend := startSink(t)
	addr, etcd := loopback.Address(t), loopback.Address(t)
	config := fmt.Sprintf("{listeners: [{name: main, address: %q}], admin: {address: %q}, etcd: {embedded: {address: %q, dir: data}}, routes: {file: %q}, access_log: {path: access.log, sample: 1}}",
		addr, loopback.Address(t), etcd, writeFile(t, fmt.Sprintf("routes: [{name: all, match: [{method: '*'}], backends: [{endpoints: [{address: %q}]}]}]", backend)))
	s := startServer(t, "--config", writeFile(t, config))
	require.Eventually(t, func() bool { return checkHealth(addr) == nil }, processLimit, 5*time.Millisecond)
	for range 4 {
		cc, err := grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
		require.NoError(t, err)
		defer cc.Close()
		for range 20 {
			ctx, cancel := context.WithTimeout(t.Context(), processLimit)
			require.NoError(t, cc.Invoke(ctx, "/sink/Take", &emptypb.Empty{}, &wrapperspb.Int64Value{}))
			cancel()
		}
	}
	require.NoError(t, s.cmd.Process.Signal(syscall.SIGTERM))
	state, err := s.cmd.Process.Wait()
	require.NoError(t, err)
	require.Equal(t, 0, state.ExitCode())
	require.Eventually(t, func() bool { return strings.Contains(s.log(), "msg=stopped") }, processLimit, time.Millisecond)
	require.NotContains(t, s.log(), "level=WARN")
	require.NotContains(t, s.log(), "level=ERROR")
	require.Equal(t, 1, strings.Count(s.log(), "msg=draining"))
}
