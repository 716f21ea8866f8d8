package app

import (
	"context"
	"fmt"
	"net"
	"os"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/framegate/framegate/test/loopback"
	"github.com/framegate/framegate/test/race"
)

// startSink starts a grpc-go server that takes a stream of messages and answers once with how many they were.
func startSink(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s := grpc.NewServer(grpc.MaxRecvMsgSize(64<<20), grpc.UnknownServiceHandler(func(_ any, s grpc.ServerStream) error {
		for n := int64(0); ; n++ {
			var m wrapperspb.BytesValue
			if s.RecvMsg(&m) != nil {
				return s.SendMsg(wrapperspb.Int64(n))
			}
		}
	}))
	go func() { _ = s.Serve(ln) }()
	t.Cleanup(s.Stop)
	return ln.Addr().String()
}

var peakPattern = regexp.MustCompile(`VmHWM:\s+(\d+) kB`)

func peakMemory(t *testing.T, pid int) int64 {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	require.NoError(t, err)
	m := peakPattern.FindSubmatch(status)
	require.NotNil(t, m)
	kb, err := strconv.ParseInt(string(m[1]), 10, 64)
	require.NoError(t, err)
	return kb << 10
}

func TestServe_LargeMessagesRaisePeakMemoryLittle(t *testing.T) {
	backend, addr := startSink(t), loopback.Address(t)
	routes := fmt.Sprintf("routes: [{name: all, match: [{method: '*'}], backends: [{endpoints: [{address: %q}]}]}]", backend)
	s := startServer(t, "--etcd", "none", "--admin", "none", "--listen", addr, "--routes", writeFile(t, routes))
	require.Eventually(t, func() bool { return checkHealth(addr) == nil }, processLimit, 5*time.Millisecond)
	cc, err := grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	defer cc.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 2*processLimit)
	defer cancel()
	require.NoError(t, cc.Invoke(ctx, "/warm/Up", &emptypb.Empty{}, &wrapperspb.Int64Value{}))
	before := peakMemory(t, s.cmd.Process.Pid)

	messages, size := race.Choose(16, 4), 16<<20
	stream, err := cc.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true}, "/sink/Take")
	require.NoError(t, err)
	message := wrapperspb.Bytes(make([]byte, size))
	for range messages {
		require.NoError(t, stream.SendMsg(message))
	}
	require.NoError(t, stream.CloseSend())
	var got wrapperspb.Int64Value
	require.NoError(t, stream.RecvMsg(&got))
	require.EqualValues(t, messages, got.Value)
	raised := peakMemory(t, s.cmd.Process.Pid) - before
	t.Logf("%d messages of 16 MiB raised the peak from %d MiB by %d MiB", messages, before>>20, raised>>20)
	require.LessOrEqual(t, raised, int64(race.Choose(32<<20, 6*32<<20)))
}
