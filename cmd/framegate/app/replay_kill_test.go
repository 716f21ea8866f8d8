package app

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/cloudwego/kitex/client"
	"github.com/cloudwego/kitex/transport"
	"github.com/stretchr/testify/require"

	"github.com/framegate/framegate/cmd/framegate/replay"
	"github.com/framegate/framegate/kitex_gen/echo"
	echosvc "github.com/framegate/framegate/kitex_gen/echo/echo"
	"github.com/framegate/framegate/test/loopback"
)

// The recordings of a framegate that is killed while it records, and of the one that follows in the same folder, are made again
// without a difference; each call of them was recorded whole, but for those that were under way.
func TestReplay_OfAFramegateThatWasKilled(t *testing.T) {
	const callers = 8
	backend, tapes := serveBenchEcho(t), filepath.Join(t.TempDir(), "tapes")
	routes := writeFile(t, fmt.Sprintf(`
name: echo
match: [{method: /echo.*}]
backends: [{endpoints: [{address: %q}]}]
mirrors: [{name: tape, queue: {messages: 100000, bytes: 64MiB}, record: {path: %q}}]
`, backend, tapes))
	for range 2 {
		listen, admin := loopback.Address(t), loopback.Address(t)
		s := startServer(t, "--listen", listen, "--admin", admin, "--etcd", "none", "--routes", routes)
		require.Eventually(t, func() bool {
			resp, err := http.Get("http://" + admin + "/readyz")
			if err != nil {
				return false
			}
			defer resp.Body.Close()
			return resp.StatusCode == http.StatusOK
		}, processLimit, 10*time.Millisecond)
		cc, err := echosvc.NewClient("echo", client.WithHostPorts(listen), client.WithTransportProtocol(transport.GRPC))
		require.NoError(t, err)
		before := sizeOfFolder(t, tapes)
		var calls sync.WaitGroup
		for caller := range callers {
			calls.Go(func() {
				for i := 0; ; i++ {
					if _, err := cc.Say(t.Context(), &echo.Request{Message: fmt.Sprintf("%d of %d", i, caller)}); err != nil {
						return // it was killed
					}
				}
			})
		}
		require.Eventually(t, func() bool { return sizeOfFolder(t, tapes) > before+200<<10 }, processLimit, time.Millisecond)
		require.NoError(t, s.cmd.Process.Kill())
		calls.Wait()
	}

	out, _, _, err := execute(t.Context(), newReplayCommand(), "", tapes, "--list", "-o", "json")
	require.NoError(t, err)
	var list struct{ Calls []replay.Recorded }
	require.NoError(t, json.Unmarshal([]byte(out), &list))
	whole := 0
	for _, c := range list.Calls {
		if c.Code != "" {
			require.Equal(t, [3]any{"OK", 1, 1}, [3]any{c.Code, c.Requests, c.Responses})
			whole++
		}
	}
	require.Greater(t, whole, 500)
	require.LessOrEqual(t, len(list.Calls)-whole, 2*callers, "calls that are not whole")

	out, _, code, err := execute(t.Context(), newReplayCommand(), "", tapes, "--target", backend, "--speed", "0", "--max-concurrent", "50", "-o", "json")
	require.NoError(t, err)
	require.Zero(t, code)
	var report replay.Report
	require.NoError(t, json.Unmarshal([]byte(out), &report))
	require.Equal(t, whole, report.Same)
	require.Equal(t, map[string]int{"OK -> OK": whole}, report.Codes)
	require.LessOrEqual(t, len(report.Torn), 2)
}

// sizeOfFolder returns the length of all files of a folder; 0 if there is none.
func sizeOfFolder(t *testing.T, dir string) (n int64) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	require.NoError(t, err)
	for _, name := range files {
		if info, err := os.Stat(name); err == nil {
			n += info.Size()
		}
	}
	return n
}
