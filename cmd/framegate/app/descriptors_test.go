package app

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/framegate/framegate/test/loopback"
)

// limitFiles makes cmd run with a limit of open files.
func limitFiles(cmd *exec.Cmd, limit int) {
	cmd.Args = append([]string{"sh", "-c", fmt.Sprintf(`ulimit -n %d; exec "$0" "$@"`, limit), cmd.Path}, cmd.Args[1:]...)
	cmd.Path = "/bin/sh"
}

// Nobody who only opens connections, to whatever listens, keeps others from the rest: calls go through on new
// connections and need new ones to an endpoint, and the admin server answers.
func TestServe_IdleConnectionsLeaveDescriptorsForTheRest(t *testing.T) {
	t.Parallel()
	backend := startSink(t)
	for _, which := range []string{"admin", "listener", "etcd"} {
		t.Run(which, func(t *testing.T) {
			t.Parallel()
			addr, other, adminAddr, etcd := loopback.Address(t), loopback.Address(t), loopback.Address(t), loopback.Address(t)
			config := fmt.Sprintf(`
listeners: [{name: main, address: %q}, {name: other, address: %q, max_connections: 200}]
admin: {address: %q, token: s3cret}
etcd: {embedded: {dir: %q, address: %q}}
routes: {file: %q}
`, addr, other, adminAddr, t.TempDir(), etcd, writeFile(t, fmt.Sprintf("routes: [{name: all, match: [{method: '*'}], backends: [{endpoints: [{address: %q}]}]}]", backend)))
			target := map[string]string{"admin": adminAddr, "listener": other, "etcd": etcd}[which]
			cmd := framegate(t, "serve", "--config", writeFile(t, config))
			limitFiles(cmd, 400)
			cmd.Stderr = io.Discard
			require.NoError(t, cmd.Start())
			defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
			require.Eventually(t, func() bool { return checkHealth(addr) == nil }, processLimit, 5*time.Millisecond)

			for range 420 {
				nc, err := net.DialTimeout("tcp", target, time.Second)
				if err != nil {
					continue // it may not take more
				}
				defer nc.Close()
				if target == other {
					_, _ = io.WriteString(nc, http2.ClientPreface)
					_ = http2.NewFramer(nc, nil).WriteSettings()
				}
			}
			client := &http.Client{Timeout: processLimit, Transport: &http.Transport{DisableKeepAlives: true}}
			for range 10 {
				require.NoError(t, checkHealth(addr))
				resp, err := client.Get("http://" + adminAddr + "/healthz")
				require.NoError(t, err)
				resp.Body.Close()
			}
			require.NoError(t, callSink(addr))
		})
	}
}

// callSink makes one call to a sink through the framegate at addr.
func callSink(addr string) error {
	cc, err := grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer cc.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	return cc.Invoke(ctx, "/sink/Take", &emptypb.Empty{}, &wrapperspb.Int64Value{})
}
