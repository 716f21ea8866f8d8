package app

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/framegate/framegate/handler/structmode/compress"
	"github.com/framegate/framegate/kitex_gen/echo"
	"github.com/framegate/framegate/test/loopback"
	"github.com/framegate/framegate/test/race"
	"github.com/framegate/framegate/test/testbed"
)

// A hundred calls at once on one connection, each of a message of a few KB that decodes to 63 MiB, do not take more memory
// than there is, and others are served meanwhile.
func TestServe_OutlivesMessagesThatDecodeToMuch(t *testing.T) {
	const size, memory = 63 << 20, 1 << 30
	calls := race.Choose(100, 70) // still more than there is memory for
	backend := testbed.NewEcho(t, &testbed.Echo{OnSay: func(_ context.Context, req *echo.Request) (*echo.Reply, error) {
		return &echo.Reply{Message: req.Message}, nil
	}})
	proto, err := filepath.Abs("../../../idl/echo.proto")
	require.NoError(t, err)
	routes := fmt.Sprintf(`{routes: [{name: echo, match: [{method: /echo.Echo/*}], backends: [{endpoints: [{address: %q}]}], mode: struct, schema: {files: [%q]},
struct: {rules: [{on: request, when: 'message.message == "never"', action: reject}, {on: response, when: 'message.message == "never"', action: reject}]}}]}`, backend, proto)
	addr, admin := loopback.Address(t), loopback.Address(t)
	cmd := exec.Command(os.Args[0], "serve", "--etcd", "none", "--admin", admin, "--listen", addr, "--routes", writeFile(t, routes))
	cmd.Env = append(os.Environ(), asFramegate+"=1", fmt.Sprintf("GOMEMLIMIT=%d", memory))
	cmd.Dir = t.TempDir()
	s := startCommand(t, cmd, nil)
	require.Eventually(t, func() bool { return checkHealth(addr) == nil }, processLimit, 5*time.Millisecond)

	zstd, _ := compress.Get("zstd")
	plain := protowire.AppendBytes(protowire.AppendTag(nil, 2, protowire.BytesType), make([]byte, size))
	bomb, err := zstd.Compress(nil, plain)
	require.NoError(t, err)
	require.Less(t, len(bomb), 16<<10)
	client := testbed.DialH2(t, addr)
	fields := testbed.RequestFields("grpc-encoding", "zstd", "grpc-timeout", "5S").Replace(":path", "/echo.Echo/Say")
	var streams []*testbed.H2Stream
	for range calls {
		st := client.Open(t, fields)
		_ = st.TrySendEnd(testbed.Message{Flag: 1, Payload: bomb}.Bytes()) // it may be refused before all of it is sent
		streams = append(streams, st)
	}

	honest := testbed.DialEcho(t, addr)
	over := make(chan struct{})
	var wg sync.WaitGroup
	served := 0
	wg.Go(func() {
		for {
			select {
			case <-over:
				return
			default:
			}
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			_, err := honest.Say(ctx, &echo.Request{Message: "hello", Payload: make([]byte, 1000)})
			cancel()
			if err != nil {
				t.Errorf("another client's call: %v", err)
				return
			}
			served++
		}
	})
	results := map[string]int{}
	for _, st := range streams {
		o := outcomeWithin(t, st, time.Minute) // decoding on a machine that is busy takes its time
		switch {
		case o.Code() >= 0 && o.Reason() == "": // forwarded; the endpoint has no zstd
		case o.Code() == int(codes.ResourceExhausted) && o.Reason() == "overloaded", o.Code() == int(codes.DeadlineExceeded), o.Reset != nil: // at its deadline
		default:
			t.Errorf("%s", o)
		}
		results[fmt.Sprint(o.Code(), " ", o.Reason())]++
	}
	close(over)
	wg.Wait()
	peak := peakMemory(t, s.cmd.Process.Pid)
	t.Logf("%v; %d calls of another client; %d MiB at most", results, served, peak>>20)
	require.NotZero(t, served)
	require.Less(t, peak, race.Choose(int64(memory), 4*memory))

	require.Eventually(t, func() bool { return metric(t, admin, "framegate_decoded_bytes") == 0 }, processLimit, 10*time.Millisecond)
	require.InDelta(t, memory/4, metric(t, admin, "framegate_decoded_bytes_limit"), 1)
	require.Zero(t, metric(t, admin, "framegate_decoded_waiting"))
}

// outcomeWithin is st.Outcome for a stream that may take longer than testbed.Patience. Nothing else reads the stream.
func outcomeWithin(t *testing.T, st *testbed.H2Stream, limit time.Duration) testbed.Outcome {
	t.Helper()
	for began := time.Now(); time.Since(began) < limit; {
		if e, err := st.Next(); err == nil && (e.End || e.Kind == testbed.GotReset || e.Kind == testbed.GotLost) {
			break
		}
	}
	return st.Outcome()
}

// metric returns the value of a metric without labels.
func metric(t *testing.T, admin, name string) float64 {
	t.Helper()
	for line := range strings.Lines(metricsOf(t, admin)) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			v, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
			require.NoError(t, err)
			return v
		}
	}
	t.Fatalf("no metric %s", name)
	return 0
}
