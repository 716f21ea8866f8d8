package tour

import (
	"net"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/framegate/framegate/cmd/framegate/load"
	"github.com/framegate/framegate/test/chaos"
	"github.com/framegate/framegate/test/testbed"
)

// start builds and runs a service of the tour until the test has ended.
func start(t *testing.T, name string, args ...string) {
	t.Helper()
	binary := filepath.Join(t.TempDir(), name)
	out, err := exec.Command("go", "build", "-o", binary, "./"+name).CombinedOutput()
	require.NoError(t, err, "%s", out)
	cmd := exec.Command(binary, args...)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
}

// What bench sends comes back, in every mode: it reports what it received.
func TestTour_ServicesEchoThePayload(t *testing.T) {
	etcd := testbed.NewEtcd(t)
	kitex, grpcgo := chaos.FreeAddress(t), chaos.FreeAddress(t)
	start(t, "kitex-echo", "-address", kitex, "-etcd", etcd.Endpoint)
	start(t, "grpc-echo", "-address", grpcgo)
	for name, address := range map[string]string{"kitex-echo": kitex, "grpc-echo": grpcgo} {
		testbed.Poll(t, func() error {
			nc, err := net.Dial("tcp", address)
			if err != nil {
				return err
			}
			return nc.Close()
		})
		for _, mode := range []load.Mode{load.Unary, load.Client, load.Server, load.Bidi} {
			t.Run(name+"/"+string(mode), func(t *testing.T) {
				cfg := load.Defaults()
				cfg.Target, cfg.Mode, cfg.Duration, cfg.Warmup = address, mode, 200*time.Millisecond, 0
				cfg.Connections, cfg.Concurrency, cfg.SizeBytes, cfg.Messages = 1, 2, 1000, 10
				r, err := load.Run(t.Context(), cfg, nil)
				require.NoError(t, err)
				require.Zero(t, r.Target.ErrorCount, r.Target.FirstError)
				require.NotZero(t, r.Target.Calls)
				each := map[load.Mode]float64{load.Unary: 1000, load.Client: 0, load.Server: 10_000, load.Bidi: 1000}[mode]
				require.InDelta(t, each*r.Target.Throughput.CallsPerSecond, r.Target.Throughput.ReceivedMBPerSecond*1e6, 1+each*r.Target.Throughput.CallsPerSecond/1000)
			})
		}
	}
}
