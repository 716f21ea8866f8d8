package test

import (
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"

	"github.com/framegate/framegate/conf"
	"github.com/framegate/framegate/test/testbed"
)

// shortKeepalive makes a listener probe soon.
var shortKeepalive = onListener(func(l *conf.Listener) {
	l.Keepalive.Time, l.Keepalive.Timeout = time.Second, 2*time.Second // a busy machine answers within that
})

// cutWithin is when a client that is gone, or as good as gone, must have been given up: keepalive.time and timeout, each
// noticed at a tick of its own.
const cutWithin = 8 * time.Second

// silentClient opens a call and answers nothing any more, not even a PING: to framegate it looks like a client that has
// gone without a FIN. window is what it lets each call send.
func silentClient(t *testing.T, addr string, window uint32) (*net.TCPConn, *http2.Framer) {
	t.Helper()
	nc, err := net.Dial("tcp", addr)
	require.NoError(t, err)
	t.Cleanup(func() { _ = nc.Close() })
	tcp := nc.(*net.TCPConn)
	require.NoError(t, tcp.SetReadBuffer(4<<10))
	_, err = tcp.Write([]byte(http2.ClientPreface))
	require.NoError(t, err)
	fr := http2.NewFramer(tcp, nil)
	require.NoError(t, fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: window}))
	if window > 65535 {
		require.NoError(t, fr.WriteWindowUpdate(0, window-65535))
	}
	openSilently(t, fr, 1)
	return tcp, fr
}

func openSilently(t *testing.T, fr *http2.Framer, id uint32) {
	t.Helper()
	require.NoError(t, fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, EndHeaders: true, BlockFragment: testbed.HeaderBlock(testbed.RequestFields())}))
}

func TestSlow_ClientThatIsGoneWithoutAFinIsGivenUp(t *testing.T) {
	const clients = 10
	server := testbed.NewH2Server(t)
	proxy := testbed.NewProxy(t, testbed.RouteTo(server.Addr), testbed.Admin(), shortKeepalive, oneUpstream)
	other := rawPair{client: testbed.DialH2(t, proxy.Addr), server: server}
	other.finish(t)
	before := taken(t)
	var calls []*testbed.H2Stream
	for range clients {
		silentClient(t, proxy.Addr, 65535)
		calls = append(calls, server.Accept(t))
	}
	begin := time.Now()
	for _, ss := range calls {
		ss.AwaitReset() // the endpoint is told
	}
	require.Less(t, time.Since(begin), cutWithin)
	require.GreaterOrEqual(t, time.Since(begin), time.Second, "not before it had time to answer")
	other.finish(t)
	before.files += clients // their own ends
	testbed.Poll(t, func() error { return before.compare(t) })
}

// A client that sends a frame byte by byte cannot answer a PING within it.
func TestSlow_WriterOfOneFrameIsGivenUp(t *testing.T) {
	t.Parallel()
	server := testbed.NewH2Server(t)
	proxy := testbed.NewProxy(t, testbed.RouteTo(server.Addr), shortKeepalive)
	other := rawPair{client: testbed.DialH2(t, proxy.Addr), server: server}
	tcp, _ := silentClient(t, proxy.Addr, 65535)
	ss := server.Accept(t)
	begin := time.Now()
	_, err := tcp.Write([]byte{0, 0x40, 0, byte(http2.FrameData), 0, 0, 0, 0, 1}) // 16 KiB are to come
	require.NoError(t, err)
	over := make(chan error, 1)
	go func() {
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for range tick.C {
			if _, err := tcp.Write([]byte{0}); err != nil {
				over <- err
				return
			}
		}
	}()
	other.finish(t)
	ss.AwaitReset()
	require.Less(t, time.Since(begin), cutWithin)
	testbed.Await(t, over, "the connection closed")
	other.finish(t)
}

// A client that sends slowly, but whole frames, is slow and no more: its call goes on.
func TestSlow_WriterOfWholeFramesIsServed(t *testing.T) {
	t.Parallel()
	server := testbed.NewH2Server(t)
	proxy := testbed.NewProxy(t, testbed.RouteTo(server.Addr), shortKeepalive)
	p := rawPair{client: testbed.DialH2(t, proxy.Addr), server: server}
	cs, ss, _ := p.open(t, testbed.RequestFields())
	message := testbed.Frame(make([]byte, 35))
	tick := time.NewTicker(150 * time.Millisecond) // 6 s in all: longer than a silent client has
	defer tick.Stop()
	for i := range message {
		<-tick.C
		cs.Send(message[i : i+1])
	}
	cs.SendEnd(nil)
	ss.WantMessage(string(make([]byte, 35)))
	ss.SendHeaders(testbed.ResponseFields())
	ss.SendTrailers(testbed.StatusFields(0, ""))
	wantUpstream(t, cs.Outcome(), 0, "")
}

// A client that reads nothing, but goes on to send, passes for alive. What waits for it is bounded, and so is the time.
func TestSlow_ReaderThatOnlySendsIsCutOff(t *testing.T) {
	const clients = 5
	server := testbed.NewH2Server(t)
	proxy := testbed.NewProxy(t, testbed.RouteTo(server.Addr), testbed.Admin(), shortKeepalive)
	other := rawPair{client: testbed.DialH2(t, proxy.Addr), server: server}
	other.finish(t)
	runtime.GC()
	heap := heapBytes()
	begin := time.Now()
	var calls []*testbed.H2Stream
	for range clients {
		tcp, fr := silentClient(t, proxy.Addr, 1<<31-1)
		ss := server.Accept(t)
		ss.SendHeaders(testbed.ResponseFields())
		message := testbed.Frame(make([]byte, 1<<20))
		go func() {
			for ss.TrySend(message) == nil { // until the stream is reset
			}
		}()
		openSilently(t, fr, 3)
		server.Accept(t)
		over := make(chan struct{})
		go func() {
			defer close(over)
			tick := time.NewTicker(50 * time.Millisecond)
			defer tick.Stop()
			for range tick.C {
				if fr.WriteData(3, false, []byte{0}) != nil {
					return
				}
			}
		}()
		t.Cleanup(func() { _ = tcp.Close(); <-over })
		calls = append(calls, ss)
	}
	for _, ss := range calls {
		ss.AwaitBlocked()
	}
	runtime.GC()
	if grown := int64(heapBytes()) - int64(heap); grown > heapLimit {
		t.Errorf("got %d MiB more heap, want at most %d MiB", grown>>20, heapLimit>>20)
	}
	for _, ss := range calls {
		ss.AwaitReset()
	}
	require.Less(t, time.Since(begin), cutWithin+testbed.Patience) // it may have taken its time to fill all that lies between
	reason := map[string]string{conf.DataPlaneRelay: "write_timeout", conf.DataPlaneKitex: "not_reading"}[testbed.DataPlane()]
	wantMetrics(t, proxy, fmt.Sprintf(`framegate_listener_sent_away_total{listener="main",reason="%s"} %d`, reason, clients))
	other.finish(t)
}

// The deadline of a call holds however slow its client is.
func TestSlow_DeadlineEndsTheCallOfAReaderThatDoesNotRead(t *testing.T) {
	t.Parallel()
	server := testbed.NewH2Server(t)
	proxy := testbed.NewProxy(t, testbed.RouteTo(server.Addr))
	nc, err := net.Dial("tcp", proxy.Addr)
	require.NoError(t, err)
	defer nc.Close()
	_, err = nc.Write([]byte(http2.ClientPreface))
	require.NoError(t, err)
	fr := http2.NewFramer(nc, nil)
	require.NoError(t, fr.WriteSettings())
	require.NoError(t, fr.WriteHeaders(http2.HeadersFrameParam{
		StreamID: 1, EndHeaders: true, EndStream: true, BlockFragment: testbed.HeaderBlock(testbed.RequestFields("grpc-timeout", "500m")),
	}))
	ss := server.Accept(t)
	ss.SendHeaders(testbed.ResponseFields())
	begin := time.Now()
	for ss.TrySend(testbed.Frame(make([]byte, 16<<10))) == nil { // until the stream is reset
	}
	require.Less(t, time.Since(begin), 3*time.Second)
	require.NoError(t, nc.SetReadDeadline(time.Now()))
	_, err = nc.Read(make([]byte, 1))
	require.True(t, err == nil || errors.Is(err, os.ErrDeadlineExceeded), "the connection stays: %v", err)
}
