package hostile

import (
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"

	"github.com/framegate/framegate/test/testbed"
)

// goAway returns a GOAWAY.
func goAway(last uint32, code http2.ErrCode) []byte {
	return frame(http2.FrameGoAway, 0, 0, binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, last), uint32(code))...)
}

// goneMethod is of an endpoint that goes.
const goneMethod = "/hostile.Gone/Call"

// two opens two calls on one connection of framegate to the endpoint, and returns both ends of them.
func two(t *testing.T, c *testbed.H2Conn, method string, server *testbed.H2Server) (calls, ups [2]*testbed.H2Stream) {
	t.Helper()
	for i := range calls {
		calls[i] = c.Open(t, to(method))
		calls[i].SendEnd(wholeRequest)
		ups[i] = server.Accept(t)
	}
	require.Same(t, ups[0].Conn(), ups[1].Conn())
	return calls, ups
}

// goAwayAttacks makes an endpoint go while there are calls. Those that it has processed go on, those that it certainly has not go
// elsewhere, and the others end.
func goAwayAttacks(t *testing.T, w *world, server *testbed.H2Server) {
	send := func(t *testing.T, up *testbed.H2Stream, b ...[]byte) {
		t.Helper()
		for _, b := range b {
			require.NoError(t, up.Conn().WriteBytes(b))
		}
	}
	good := func(t *testing.T, s *testbed.H2Stream) {
		t.Helper()
		o := s.Outcome()
		require.Equal(t, 0, o.Code(), "%s", o)
		require.Equal(t, testbed.Frame([]byte("reply")), o.Body)
	}
	// elsewhere takes the call that comes again, on another connection, and answers it.
	elsewhere := func(t *testing.T, s, up *testbed.H2Stream) {
		t.Helper()
		again := server.Accept(t)
		require.NotSame(t, up.Conn(), again.Conn())
		send(t, again, goodAnswer(again.ID))
		good(t, s)
	}
	for name, f := range inOrder(map[string]func(t *testing.T, calls, ups [2]*testbed.H2Stream){
		"that names all streams": func(t *testing.T, calls, ups [2]*testbed.H2Stream) {
			send(t, ups[0], goAway(1<<31-1, http2.ErrCodeNo), goodAnswer(ups[0].ID), goodAnswer(ups[1].ID))
			good(t, calls[0])
			good(t, calls[1])
		},
		"that names the first": func(t *testing.T, calls, ups [2]*testbed.H2Stream) {
			send(t, ups[0], goAway(ups[0].ID, http2.ErrCodeNo), goodAnswer(ups[0].ID))
			good(t, calls[0])
			elsewhere(t, calls[1], ups[1])
		},
		"that names none": func(t *testing.T, calls, ups [2]*testbed.H2Stream) {
			send(t, ups[0], goAway(0, http2.ErrCodeNo))
			first, second := server.Accept(t), server.Accept(t) // in any order
			send(t, first, goodAnswer(first.ID))
			send(t, second, goodAnswer(second.ID))
			good(t, calls[0])
			good(t, calls[1])
		},
		"that names fewer the second time": func(t *testing.T, calls, ups [2]*testbed.H2Stream) {
			send(t, ups[0], goAway(1<<31-1, http2.ErrCodeNo), goAway(ups[0].ID, http2.ErrCodeNo), goodAnswer(ups[0].ID))
			good(t, calls[0])
			elsewhere(t, calls[1], ups[1])
		},
		"that names more the second time": func(t *testing.T, calls, ups [2]*testbed.H2Stream) { // RFC 9113 §6.8 forbids it
			send(t, ups[0], goAway(ups[0].ID, http2.ErrCodeNo), goAway(1<<31-1, http2.ErrCodeNo), goodAnswer(ups[0].ID))
			good(t, calls[0])
			elsewhere(t, calls[1], ups[1])
		},
		"with an error, and answers": func(t *testing.T, calls, ups [2]*testbed.H2Stream) {
			send(t, ups[0], goAway(ups[1].ID, http2.ErrCodeInternal), goodAnswer(ups[0].ID), goodAnswer(ups[1].ID))
			good(t, calls[0])
			good(t, calls[1])
		},
		"and an answer to a call that was not processed": func(t *testing.T, calls, ups [2]*testbed.H2Stream) {
			send(t, ups[0], goAway(ups[0].ID, http2.ErrCodeNo), goodAnswer(ups[1].ID), goodAnswer(ups[0].ID))
			good(t, calls[0])
			elsewhere(t, calls[1], ups[1])
		},
		"and the end of the connection": func(t *testing.T, calls, ups [2]*testbed.H2Stream) {
			send(t, ups[0], goAway(ups[1].ID, http2.ErrCodeInternal))
			ups[0].Conn().Close()
			wantLocal(t, calls[0].Outcome(), 14, "upstream_reset")
			wantLocal(t, calls[1].Outcome(), 14, "upstream_reset")
		},
		"never, but the end of the connection": func(t *testing.T, calls, ups [2]*testbed.H2Stream) {
			ups[0].Conn().Close()
			wantLocal(t, calls[0].Outcome(), 14, "upstream_reset")
			wantLocal(t, calls[1].Outcome(), 14, "upstream_reset")
		},
		"in the middle of the answer": func(t *testing.T, calls, ups [2]*testbed.H2Stream) {
			whole := goodAnswer(ups[0].ID)
			send(t, ups[0], goodAnswer(ups[1].ID), whole[:len(whole)-3], goAway(1<<31-1, http2.ErrCodeNo)) // within a frame
			ups[0].Conn().Close()
			good(t, calls[1])
			wantLocal(t, calls[0].Outcome(), 14, "upstream_reset")
		},
	}) {
		for _, way := range ways {
			w.attack(t, "a GOAWAY "+name+", "+string(way), func(t *testing.T) {
				c := testbed.DialH2(t, w.proxy.Addr)
				calls, ups := two(t, c, way.of(goneMethod), server)
				f(t, calls, ups)
				wantAnswered(t, c, way.of(goneMethod), server)
				wantGood(t, c)
			})
		}
	}
}
