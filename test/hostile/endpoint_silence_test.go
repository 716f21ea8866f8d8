package hostile

import (
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"

	"github.com/framegate/framegate/test/testbed"
)

// impatient is a key of a backend whose endpoints may take no long time to be connected to. A call without a deadline waits as long
// for a stream.
const impatient = "pool: {connect_timeout: 400ms}"

// unsettled starts an endpoint that sends greeting to whoever connects, and then nothing. It closes the connection at once if
// closes is set.
func unsettled(t *testing.T, method string, greeting []byte, closes bool) route {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var conns []net.Conn
	var accepting sync.WaitGroup
	accepting.Go(func() {
		for {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			_, _ = nc.Write(greeting)
			if closes {
				_ = nc.Close()
				continue
			}
			conns = append(conns, nc)
		}
	})
	closing := sync.OnceFunc(func() {
		_ = ln.Close()
		accepting.Wait()
		for _, nc := range conns {
			_ = nc.Close()
		}
	})
	t.Cleanup(closing)
	return route{method: method, address: ln.Addr().String(), close: closing, keys: impatient}
}

// silent starts an endpoint that does not even accept.
func silent(t *testing.T, method string) route {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = ln.Close() })
	return route{method: method, address: ln.Addr().String(), close: func() { _ = ln.Close() }, keys: impatient}
}

// silentEndpoints are endpoints that keep calls waiting.
type silentEndpoints struct {
	dead             []route // nothing can be done with them
	quiet, full, shy *testbed.H2Server
}

const silentMethod = "/hostile.Silent/"

func newSilentEndpoints(t *testing.T) *silentEndpoints {
	t.Helper()
	return &silentEndpoints{
		dead: []route{
			silent(t, silentMethod+"Mute"),
			unsettled(t, silentMethod+"NoSettings", nil, false),
			unsettled(t, silentMethod+"HalfSettings", []byte{0, 0, 6, 4, 0, 0}, false),
			unsettled(t, silentMethod+"Closes", nil, true),
			unsettled(t, silentMethod+"HTTP1", []byte("HTTP/1.1 400 Bad Request\r\n\r\n"), false),
			unsettled(t, silentMethod+"GoAway", goAway(0, http2.ErrCodeNo), false), // in the place of SETTINGS
			unsettled(t, silentMethod+"Ack", frame(http2.FrameSettings, http2.FlagSettingsAck, 0), false),
			unsettled(t, silentMethod+"BadSettings", settings(http2.SettingInitialWindowSize, 1<<32-1), false),
		},
		quiet: testbed.NewH2Server(t),
		full:  testbed.NewH2Server(t, testbed.Settings(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 0})),
		shy:   testbed.NewH2Server(t),
	}
}

func (e *silentEndpoints) routes() []route {
	return append(e.dead, routeTo(silentMethod+"Quiet", e.quiet), routeTo(silentMethod+"Full", e.full, impatient), routeTo(silentMethod+"Shy", e.shy, impatient))
}

// silenceAttacks makes calls to endpoints that keep them waiting. They end in time, with the status that says why.
func silenceAttacks(t *testing.T, w *world, e *silentEndpoints) {
	for _, r := range e.dead {
		for _, way := range ways {
			w.attack(t, r.method+string(way), func(t *testing.T) {
				for _, s := range callMany(t, w, way.of(r.method)) {
					wantLocal(t, s.Outcome(), 14, "connect_failed")
				}
			})
		}
	}
	for _, way := range ways {
		w.attack(t, "no answer, "+string(way), func(t *testing.T) {
			calls := callMany(t, w, way.of(silentMethod+"Quiet"), "grpc-timeout", "300m")
			for _, s := range calls {
				wantLocal(t, s.Outcome(), 4, "timeout")
			}
			for range calls {
				code, _ := e.quiet.Accept(t).AwaitReset()
				require.Equal(t, http2.ErrCodeCancel, code)
			}
		})
		w.attack(t, "MAX_CONCURRENT_STREAMS 0 from the beginning, "+string(way), func(t *testing.T) {
			for _, s := range callMany(t, w, way.of(silentMethod+"Full")) {
				wantLocal(t, s.Outcome(), 14, "connect_failed")
			}
			require.Zero(t, e.full.Unaccepted(), "calls at an endpoint that takes none")
		})
		w.attack(t, "MAX_CONCURRENT_STREAMS 0 for a while, "+string(way), func(t *testing.T) { fullForAWhile(t, w, way.of(silentMethod+"Shy"), e.shy) })
	}
}

// fullForAWhile makes calls to an endpoint that takes none any more, and then takes some again.
func fullForAWhile(t *testing.T, w *world, method string, server *testbed.H2Server) {
	const limit = http2.SettingMaxConcurrentStreams
	c := testbed.DialH2(t, w.proxy.Addr)
	s := c.Open(t, to(method))
	s.SendEnd(wholeRequest)
	up := server.Accept(t)
	require.NoError(t, up.Conn().WriteBytes(append(settings(limit, 0), goodAnswer(up.ID)...)))
	require.Equal(t, 0, s.Outcome().Code()) // the SETTINGS have come before it
	for range 10 {
		late := c.Open(t, to(method))
		_ = late.TrySendEnd(wholeRequest)
		wantLocal(t, late.Outcome(), 14, "connect_failed")
	}
	require.Zero(t, server.Unaccepted(), "calls at an endpoint that takes none")
	require.NoError(t, up.Conn().WriteBytes(settings(limit, 1000)))
	testbed.Poll(t, func() error { // until it is no longer avoided
		s := c.Open(t, to(method))
		_ = s.TrySendEnd(wholeRequest)
		next, o := server.AcceptUnless(t, s)
		if next == nil {
			return fmt.Errorf("refused: %s", o)
		}
		return next.Conn().WriteBytes(goodAnswer(next.ID))
	})
	wantAnswered(t, c, method, server)
}

// callMany opens many calls with whole requests on a few connections.
func callMany(t *testing.T, w *world, method string, fields ...string) (calls []*testbed.H2Stream) {
	t.Helper()
	const conns, each = 2, 25
	for range conns {
		c := testbed.DialH2(t, w.proxy.Addr)
		for range each {
			s := c.Open(t, to(method, fields...))
			_ = s.TrySendEnd(wholeRequest) // it may have ended
			calls = append(calls, s)
		}
	}
	return calls
}

// refusalCodes are the codes with which endpoints reset every stream, which is not forbidden.
var refusalCodes = []http2.ErrCode{http2.ErrCodeRefusedStream, http2.ErrCodeInternal, http2.ErrCodeProtocol, http2.ErrCodeCancel, http2.ErrCodeNo, http2.ErrCodeEnhanceYourCalm, 1<<32 - 1}

// refusalRoutes returns routes to a new endpoint for each of the codes.
func refusalRoutes(t *testing.T) (routes []route) {
	t.Helper()
	for i, code := range refusalCodes {
		server := testbed.ServeH2(t, func(s *testbed.H2Stream) func() {
			_ = s.TryReset(code)
			return nil
		})
		routes = append(routes, routeTo(fmt.Sprintf("/hostile.Resets/Call%d", i), server, impatient))
	}
	return routes
}

// refusalAttacks makes calls to endpoints that reset every stream. It costs the calls, and no more.
func refusalAttacks(t *testing.T, w *world, routes []route) {
	const rounds = 10
	for i, r := range routes {
		for _, way := range ways {
			w.attack(t, fmt.Sprintf("every call is reset with %v, %s", refusalCodes[i], way), func(t *testing.T) {
				for range rounds {
					begun := time.Now()
					for _, s := range callMany(t, w, way.of(r.method)) {
						o := s.Outcome()
						require.Positive(t, o.Code(), "%s", o)
						require.Equal(t, "upstream_reset", o.Reason(), "%s", o)
					}
					if refusalCodes[i] == http2.ErrCodeRefusedStream {
						require.GreaterOrEqual(t, time.Since(begun), 400*time.Millisecond, "other attempts were made")
						break
					}
				}
			})
		}
	}
}
