package app

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/cloudwego/kitex/server"
	"github.com/stretchr/testify/require"

	"github.com/framegate/framegate/cmd/framegate/load"
	pb "github.com/framegate/framegate/kitex_gen/echo"
	"github.com/framegate/framegate/kitex_gen/echo/echo"
	"github.com/framegate/framegate/test/kitexlistener"
)

// benchEcho answers the calls that bench makes.
type benchEcho struct{}

func (*benchEcho) Say(_ context.Context, req *pb.Request) (*pb.Reply, error) {
	return &pb.Reply{Payload: req.Payload}, nil
}

func (*benchEcho) Collect(stream pb.Echo_CollectServer) error {
	for {
		switch _, err := stream.Recv(); {
		case errors.Is(err, io.EOF):
			return stream.SendAndClose(&pb.Reply{})
		case err != nil:
			return err
		}
	}
}

func (*benchEcho) Stream(req *pb.Request, stream pb.Echo_StreamServer) error {
	for range req.Count {
		if err := stream.Send(&pb.Reply{Payload: req.Payload}); err != nil {
			return err
		}
	}
	return nil
}

func (*benchEcho) Chat(stream pb.Echo_ChatServer) error {
	for {
		req, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := stream.Send(&pb.Reply{Payload: req.Payload}); err != nil {
			return err
		}
	}
}

// serveBenchEcho serves benchEcho until the test ends and returns its address.
func serveBenchEcho(t *testing.T) string {
	t.Helper()
	ln := kitexlistener.New(t)
	svr := echo.NewServer(&benchEcho{}, server.WithListener(ln), server.WithExitWaitTime(100*time.Millisecond),
		server.WithExitSignal(func() <-chan error { return nil })) // otherwise it waits for signals, for ever
	stopped := make(chan error, 1)
	go func() { stopped <- svr.Run() }()
	t.Cleanup(func() {
		_ = svr.Stop() // says so if a connection outlives the exit wait
		<-stopped
	})
	return ln.Addr().String()
}

// bench runs `framegate bench args...` in this process.
func bench(ctx context.Context, args ...string) (stdout, stderr string, code int) {
	var out, errOut bytes.Buffer
	code = Run(ctx, append([]string{"bench"}, args...), strings.NewReader(""), &out, &errOut)
	return out.String(), errOut.String(), code
}

func TestBench_PrintsAJSONObjectAlone(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"unary", "client", "server", "bidi"} {
		t.Run(mode, func(t *testing.T) {
			out, errOut, code := bench(t.Context(), "--target", serveBenchEcho(t), "--mode", mode, "--duration", "500ms",
				"--warmup", "10ms", "--concurrency", "2", "--json")
			require.Equal(t, exitDone, code, errOut)
			require.Empty(t, errOut, "no progress where there is no terminal")
			var r load.Result
			require.NoError(t, json.Unmarshal([]byte(out), &r))
			require.Equal(t, load.Mode(mode), r.Mode)
			require.Equal(t, 2, r.Connections, "never more than there are calls in flight, unless asked for")
			require.Positive(t, r.Target.Calls)
			require.Empty(t, r.Target.Errors)
		})
	}
}

func TestBench_PrintsATableOfBothSides(t *testing.T) {
	t.Parallel()
	target, baseline := serveBenchEcho(t), serveBenchEcho(t)
	out, errOut, code := bench(t.Context(), "--target", target, "--baseline", baseline, "--duration", "500ms", "--warmup", "0s")
	require.Equal(t, exitDone, code, errOut)
	require.Regexp(t, `(?m)^ +target +baseline +target/baseline$`, out)
	require.Regexp(t, `(?m)^address +`+target+` +`+baseline+`$`, out)
	require.Regexp(t, `(?m)^calls/s +[\d.]+ +[\d.]+ +\d+\.\d\d$`, out)
	require.Regexp(t, `(?m)^errors +0 +0$`, out)
}

func TestBench_FailsWhenNoCallSucceeds(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, ln.Close())
	target := ln.Addr().String()

	out, errOut, code := bench(t.Context(), "--target", target, "--duration", "50ms", "--warmup", "0s")
	require.Equal(t, exitFailed, code)
	require.Contains(t, errOut, "not one call to "+target+" succeeded; the first error: ")
	require.Equal(t, 1, strings.Count(errOut, "\n"), errOut)
	require.Contains(t, out, "UNAVAILABLE", "the report still says what came back")
}

func TestBench_InterruptPrintsWhatWasMeasured(t *testing.T) {
	target := serveBenchEcho(t)
	var r load.Result
	for after := 200 * time.Millisecond; ; after *= 2 {
		ctx, cancel := context.WithTimeout(t.Context(), after)
		out, errOut, code := bench(ctx, "--target", target, "--duration", "5m", "--warmup", "0s", "--json")
		cancel()
		if code == exitDone {
			require.NoError(t, json.Unmarshal([]byte(out), &r))
			break
		}
		require.Contains(t, errOut, "interrupted before", "what a busy machine does")
		require.Less(t, after, processLimit)
	}
	require.True(t, r.Interrupted)
	require.Positive(t, r.Target.Calls)
}

func TestBench_WrongUsageNamesFlagValueAndWant(t *testing.T) {
	t.Parallel()
	for args, want := range map[string]string{
		"":                                    `--target: "", want host:port`,
		"--target x":                          `--target: "x", want host:port`,
		"--target a:1 --baseline b":           `--baseline: "b", want host:port`,
		"--target a:1 --mode all":             `--mode: "all", want unary, client, server or bidi`,
		"--target a:1 --size -1":              "--size: -1, want 0 to 67108864",
		"--target a:1 --size 67108865":        "--size: 67108865, want 0 to 67108864",
		"--target a:1 --connections 0":        "--connections: 0, want 1 to 1024",
		"--target a:1 --connections 1025":     "--connections: 1025, want 1 to 1024",
		"--target a:1 --concurrency 0":        "--concurrency: 0, want 1 to 65536",
		"--target a:1 --concurrency 65537":    "--concurrency: 65537, want 1 to 65536",
		"--target a:1 --duration 0s":          "--duration: 0s, want more than 0 and at most 10m0s",
		"--target a:1 --duration 11m":         "--duration: 11m0s, want more than 0 and at most 10m0s",
		"--target a:1 --rate -1":              "--rate: -1, want 0 to 1000000",
		"--target a:1 --messages 5":           "--messages: 5 with --mode unary, want it with client or server only",
		"--target a:1 --rate -1 --size -1":    "--size: -1, want 0 to 67108864; --rate: -1, want 0 to 1000000",
		"--target a:1 127.0.0.1:9001":         `unexpected argument "127.0.0.1:9001", want none`,
		"--target a:1 --mode client --size x": `invalid argument "x" for "--size" flag`,
	} {
		t.Run(args, func(t *testing.T) {
			out, errOut, code := bench(t.Context(), strings.Fields(args)...)
			require.Equal(t, exitUsage, code)
			require.Contains(t, errOut, want)
			require.Equal(t, 1, strings.Count(errOut, "\n"), errOut)
			require.Empty(t, out)
		})
	}
}
