package test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/framegate/framegate/test/testbed"
)

// Clients are told to go, and calls that run go on to their end. Then framegate ends too, whether or not its clients
// close their connections.
func TestDrain_RunningCallsFinish(t *testing.T) {
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
