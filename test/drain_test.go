package test

import (
	"fmt"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"

	"github.com/framegate/framegate/conf"
	"github.com/framegate/framegate/test/testbed"
)

// Clients are told to go, and calls that run go on to their end. Then framegate ends too, whether or not its clients
// close their connections.
func TestDrain_RunningCallsFinish(t *testing.T) {
	t.Parallel()
	for name, after := range map[string]func(*testbed.H2Conn){
		"client closes": (*testbed.H2Conn).Close,
		"client stays":  func(*testbed.H2Conn) {},
	} {
		t.Run(name, func(t *testing.T) {
			server := testbed.NewH2Server(t)
			proxy := testbed.NewProxy(t, testbed.RouteTo(server.Addr))
			p := rawPair{client: testbed.DialH2(t, proxy.Addr), server: server}
			cs, ss, _ := p.open(t, testbed.RequestFields())

			down := proxy.Drain()
			p.client.AwaitGoAway(t)
			cs.SendEnd(testbed.Frame([]byte("request")))
			ss.WantMessage("request")
			ss.WantEnd()
			ss.SendHeaders(testbed.ResponseFields())
			ss.Send(testbed.Frame([]byte("response")))
			ss.SendTrailers(testbed.StatusFields(0, ""))
			o := cs.Outcome()
			wantUpstream(t, o, 0, "")
			require.Equal(t, testbed.Frame([]byte("response")), o.Body)
			after(p.client)
			testbed.Await(t, down, "the end of framegate")
		})
	}
}

// What has not ended when the time is up ends with an error that says why, on both sides.
func TestDrain_TimeIsUp(t *testing.T) {
	t.Parallel()
	server := testbed.NewH2Server(t)
	proxy := testbed.NewProxy(t, testbed.RouteTo(server.Addr))
	p := rawPair{client: testbed.DialH2(t, proxy.Addr), server: server}
	cs, ss, _ := p.open(t, testbed.RequestFields())
	ss.SendHeaders(testbed.ResponseFields())
	cs.ReadHeaders()

	proxy.Stop()
	wantLocal(t, cs.Outcome(), 14, "draining")
	ss.AwaitReset()
}

// While drain.delay passes, load balancers learn that this server is not ready, and everything is served as before.
func TestDrain_ServesDuringTheDelay(t *testing.T) {
	t.Parallel()
	const delay = 3 * time.Second
	server := testbed.NewH2Server(t)
	proxy := testbed.NewProxy(t, testbed.RouteTo(server.Addr), testbed.Admin(), func(c *conf.Config) { c.Drain.Delay = delay })
	p := rawPair{client: testbed.DialH2(t, proxy.Addr), server: server}
	p.finish(t)
	require.NoError(t, healthy(t, proxy.Addr))
	require.Contains(t, scraped(t, proxy), "\nframegate_draining 0\n")

	begin := time.Now()
	for range 3 { // more than once is like once
		answer := answerOfAdmin(t, http.MethodPost, proxy.Admin()+"/v1/drain", "", http.StatusAccepted)
		require.Contains(t, answer, `"status":"draining"`)
		require.Contains(t, answer, fmt.Sprintf(`"delay":%q`, delay))
	}
	down := proxy.Drain() // as "framegate serve" does then
	answerOfAdmin(t, http.MethodGet, proxy.Admin()+"/readyz", "", http.StatusServiceUnavailable)
	require.EqualError(t, healthy(t, proxy.Addr), "health: NOT_SERVING")
	require.Contains(t, scraped(t, proxy), "\nframegate_draining 1\n")
	p.finish(t)
	late := rawPair{client: testbed.DialH2(t, proxy.Addr), server: server}
	late.finish(t)
	require.Less(t, time.Since(begin), delay, "all of that in the delay")

	p.client.AwaitGoAway(t)
	require.GreaterOrEqual(t, time.Since(begin), delay)
	testbed.Await(t, down, "the end of framegate")
}

// RFC 9113 §6.8: the first GOAWAY names no stream, so that those which are on their way are served; the second comes when
// the client has answered, and names the last one.
func TestDrain_CallThatCrossesTheGoAwayIsServed(t *testing.T) {
	t.Parallel()
	proxy := testbed.NewProxy(t, testbed.RouteTo(testbed.NewRaw(t, echoAll)))
	nc, err := net.Dial("tcp", proxy.Addr)
	require.NoError(t, err)
	defer nc.Close()
	_, err = nc.Write([]byte(http2.ClientPreface))
	require.NoError(t, err)
	fr := http2.NewFramer(nc, nc)
	require.NoError(t, fr.WriteSettings())
	call := func(id uint32) {
		require.NoError(t, fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, EndHeaders: true, BlockFragment: testbed.HeaderBlock(testbed.RequestFields())}))
		require.NoError(t, fr.WriteData(id, true, testbed.Frame([]byte("hello"))))
	}
	// until returns the first frame that f wants, and counts the calls that end with a message before.
	answered := map[uint32]bool{}
	until := func(f func(http2.Frame) bool) http2.Frame {
		for {
			require.NoError(t, nc.SetReadDeadline(time.Now().Add(testbed.Patience)))
			frame, err := fr.ReadFrame()
			require.NoError(t, err)
			if d, ok := frame.(*http2.DataFrame); ok && len(d.Data()) > 0 {
				answered[d.StreamID] = true
			}
			if f(frame) {
				return frame
			}
		}
	}
	isGoAway := func(f http2.Frame) bool { _, ok := f.(*http2.GoAwayFrame); return ok }

	call(1)
	until(func(f http2.Frame) bool {
		return f.Header().StreamID == 1 && f.Header().Flags.Has(http2.FlagHeadersEndStream)
	})
	down := proxy.Drain()
	require.Equal(t, uint32(1<<31-1), until(isGoAway).(*http2.GoAwayFrame).LastStreamID)
	call(3) // as if it had been sent before
	ping := until(func(f http2.Frame) bool { p, ok := f.(*http2.PingFrame); return ok && !p.IsAck() }).(*http2.PingFrame)
	require.NoError(t, fr.WritePing(true, ping.Data))
	require.Equal(t, uint32(3), until(isGoAway).(*http2.GoAwayFrame).LastStreamID)
	if !answered[3] {
		until(func(f http2.Frame) bool { return f.Header().StreamID == 3 && f.Header().Type == http2.FrameData })
	}
	require.True(t, answered[1])
	testbed.Await(t, down, "the end of framegate")
}

// A client that never answers the GOAWAY's ping, and one that sends its answer without having been asked, do not hold up
// the end.
func TestDrain_ClientThatIgnoresTheGoAwayDoesNotHoldUpTheEnd(t *testing.T) {
	t.Parallel()
	proxy := testbed.NewProxy(t, testbed.RouteTo(testbed.NewRaw(t, echoAll)))
	nc, err := net.Dial("tcp", proxy.Addr)
	require.NoError(t, err)
	defer nc.Close()
	_, err = nc.Write([]byte(http2.ClientPreface))
	require.NoError(t, err)
	require.NoError(t, http2.NewFramer(nc, nil).WriteSettings())
	_, err = nc.Read(make([]byte, 1)) // it is served
	require.NoError(t, err)
	begin := time.Now()
	testbed.Await(t, proxy.Drain(), "the end of framegate")
	require.Less(t, time.Since(begin), testbed.Patience)
}
