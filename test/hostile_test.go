package test

import (
	"encoding/binary"
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"

	"github.com/framegate/framegate/test/testbed"
)

// A timeout and the end of the upstream it causes race to end the call; the loser must not let Kitex end it with OK.
func TestDeadline_RouteTimeoutOfManyCallsIsNeverOK(t *testing.T) {
	t.Parallel()
	const rounds, batch = 8, 500 // fewer than the test server keeps unaccepted
	server := testbed.NewH2Server(t)
	proxy := testbed.NewProxy(t, testbed.RouteWith(server.Addr, "timeout: 30ms"))
	for range rounds {
		client := testbed.DialH2(t, proxy.Addr)
		streams := make([]*testbed.H2Stream, batch)
		for i := range streams {
			streams[i] = client.OpenEnd(t, testbed.RequestFields())
		}
		for _, cs := range streams {
			if o := cs.Outcome(); o.Code() != 4 || o.Reason() != "timeout" || len(o.Trailers.Values("framegate-error")) != 1 {
				t.Fatalf("got %v, want 4 timeout", o)
			}
		}
		client.Close()
	}
}

// The call's context is a child of the client's stream where the route has a timeout: what wakes up with the client's
// deadline sees the parent ended and the child not yet.
func TestDeadline_OfTheClientUnderALongerRouteTimeoutIsATimeout(t *testing.T) {
	t.Parallel()
	const rounds, batch = 8, 500
	server := testbed.NewH2Server(t)
	proxy := testbed.NewProxy(t, testbed.RouteWith(server.Addr, "timeout: 1m"))
	for range rounds {
		client := testbed.DialH2(t, proxy.Addr)
		streams := make([]*testbed.H2Stream, batch)
		for i := range streams {
			streams[i] = client.Open(t, testbed.RequestFields("grpc-timeout", "100m")) // its request goes on
		}
		for _, cs := range streams {
			if o := cs.Outcome(); o.Code() != 4 || o.Reason() != "timeout" {
				t.Fatalf("got %v, want 4 timeout", o)
			}
		}
		client.Close()
	}
}

// stuckClient opens a call through the proxy whose answer it does not read until the sockets are full, and queues more
// answers to its own frames than Kitex's reader waits for. It returns the call's other end.
func stuckClient(t *testing.T, proxy *testbed.Proxy, server *testbed.H2Server) (*net.TCPConn, *testbed.H2Stream) {
	t.Helper()
	nc, err := net.Dial("tcp", proxy.Addr)
	require.NoError(t, err)
	t.Cleanup(func() { _ = nc.Close() })
	tcp := nc.(*net.TCPConn)
	require.NoError(t, tcp.SetReadBuffer(4<<10))
	fr := http2.NewFramer(tcp, nil)
	_, err = tcp.Write([]byte(http2.ClientPreface))
	require.NoError(t, err)
	const window = 1<<31 - 1
	require.NoError(t, fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: window}))
	require.NoError(t, fr.WriteWindowUpdate(0, window-65535))
	require.NoError(t, fr.WriteHeaders(http2.HeadersFrameParam{
		StreamID: 1, EndHeaders: true, EndStream: true, BlockFragment: testbed.HeaderBlock(testbed.RequestFields()),
	}))
	ss := server.Accept(t)
	ss.SendHeaders(testbed.ResponseFields())
	message := testbed.Frame(make([]byte, 1<<20))
	go func() {
		for range 32 {
			if ss.TrySend(message) != nil {
				return
			}
		}
	}()
	ss.AwaitBlocked()
	for range 60 {
		require.NoError(t, fr.WriteSettings())
	}
	return tcp, ss
}

func TestCancel_LostClientWithAFullQueueReachesTheUpstream(t *testing.T) {
	server := testbed.NewH2Server(t)
	proxy := testbed.NewProxy(t, testbed.RouteTo(server.Addr))
	requireAtOnce(t, func() time.Duration {
		tcp, ss := stuckClient(t, proxy, server)
		require.NoError(t, tcp.SetLinger(0)) // Close sends RST
		lost := time.Now()
		require.NoError(t, tcp.Close())
		_, at := ss.AwaitReset()
		return at.Sub(lost)
	})
}

func TestDrain_ClientWithAFullQueueDoesNotHoldUpTheEnd(t *testing.T) {
	t.Parallel()
	server := testbed.NewH2Server(t)
	proxy := testbed.NewProxy(t, testbed.RouteTo(server.Addr))
	stuckClient(t, proxy, server)
	begin := time.Now()
	proxy.Stop()
	require.Less(t, time.Since(begin), 2*testbed.Patience)
}

func TestLimits_AnnouncedStreamsAreEnforced(t *testing.T) {
	t.Parallel()
	const announced, more = 1024, 50
	server := testbed.NewH2Server(t)
	proxy := testbed.NewProxy(t, testbed.RouteTo(server.Addr))
	client := testbed.DialH2(t, proxy.Addr)
	streams := make([]*testbed.H2Stream, announced+more)
	for i := range streams {
		streams[i] = client.Open(t, testbed.RequestFields())
	}
	for _, cs := range streams[announced:] {
		code, _ := cs.AwaitReset()
		require.Equal(t, http2.ErrCodeRefusedStream, code)
	}
	testbed.Poll(t, func() error {
		if n := proxy.UpstreamStreams(); n != announced {
			return fmt.Errorf("%d streams at the endpoint, want %d", n, announced)
		}
		return nil
	})
}

func TestHealth_AnnouncedSizeAllocatesNothing(t *testing.T) {
	const calls = 20
	server := testbed.NewH2Server(t)
	proxy := testbed.NewProxy(t, testbed.RouteTo(server.Addr))
	client := testbed.DialH2(t, proxy.Addr)
	base := heapBytes()
	for _, size := range []uint32{64 << 20, 1<<32 - 1} {
		for range calls {
			cs := client.Open(t, testbed.RequestFields().Replace(":path", "/grpc.health.v1.Health/Check"))
			cs.Send(binary.BigEndian.AppendUint32([]byte{0}, size))
			wantLocal(t, cs.Outcome(), 8, "message_too_large")
		}
	}
	if grown := int64(heapBytes()) - int64(base); grown > heapLimit {
		t.Errorf("got %d MiB more heap, want at most %d MiB", grown>>20, heapLimit>>20)
	}
}
