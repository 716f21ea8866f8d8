package test

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"

	"github.com/framegate/framegate/test/testbed"
)

// Each message is at the other side before the next exists: nothing is held back to be sent with more.
func TestDelivery_EachMessageIsDeliveredBeforeTheNextExists(t *testing.T) {
	t.Parallel()
	eachPath(t, func(t *testing.T, to via) {
		p := newRawPair(t, to)
		cs, ss, _ := p.open(t, testbed.RequestFields())
		for i := range 5 {
			m := fmt.Sprintf("request %d", i)
			cs.Send(testbed.Frame(text(m)))
			ss.WantMessage(string(text(m)))
		}
		ss.SendHeaders(testbed.ResponseFields())
		cs.ReadHeaders()
		for i := range 5 {
			m := fmt.Sprintf("response %d", i)
			ss.Send(testbed.Frame(text(m)))
			cs.WantMessage(string(text(m)))
		}
		cs.SendEnd(nil)
		ss.WantEnd()
		ss.SendTrailers(testbed.StatusFields(0, ""))
		wantUpstream(t, cs.Outcome(), 0, "")
	})
}

// The server speaks before the client has sent anything.
func TestDelivery_ServerMaySpeakFirst(t *testing.T) {
	t.Parallel()
	eachPath(t, func(t *testing.T, to via) {
		p := newRawPair(t, to)
		cs, ss, _ := p.open(t, testbed.RequestFields())
		ss.SendHeaders(testbed.ResponseFields())
		ss.Send(testbed.Frame(text("hello")))
		cs.ReadHeaders()
		cs.WantMessage(string(text("hello")))
		cs.SendEnd(testbed.Frame(text("hello yourself")))
		ss.WantMessage(string(text("hello yourself")))
		ss.WantEnd()
		ss.SendTrailers(testbed.StatusFields(0, ""))
		wantUpstream(t, cs.Outcome(), 0, "")
	})
}

// A direction that is full does not stop the other.
func TestDelivery_BlockedDirectionDoesNotStopTheOther(t *testing.T) {
	t.Parallel()
	eachPath(t, func(t *testing.T, to via) {
		t.Run("client does not read", func(t *testing.T) {
			server := testbed.NewH2Server(t)
			p := rawPair{client: testbed.DialH2(t, to(t, server.Addr), testbed.HoldWindows()), server: server}
			cs, ss, _ := p.open(t, testbed.RequestFields())
			ss.SendHeaders(testbed.ResponseFields())
			fill(ss, cs)
			for i := range 10 {
				m := fmt.Sprintf("request %d", i)
				cs.Send(testbed.Frame(text(m)))
				ss.WantMessage(string(text(m)))
			}
			cs.SendEnd(nil)
			ss.WantEnd()
		})
		t.Run("server does not read", func(t *testing.T) {
			server := testbed.NewH2Server(t, testbed.HoldWindows())
			p := rawPair{client: testbed.DialH2(t, to(t, server.Addr)), server: server}
			cs, ss, _ := p.open(t, testbed.RequestFields())
			fill(cs, ss)
			ss.SendHeaders(testbed.ResponseFields())
			cs.ReadHeaders()
			for i := range 10 {
				m := fmt.Sprintf("response %d", i)
				ss.Send(testbed.Frame(text(m)))
				cs.WantMessage(string(text(m)))
			}
			ss.SendTrailers(testbed.StatusFields(3, "enough"))
			wantUpstream(t, cs.Outcome(), 3, "enough")
		})
	})
}

// Where DATA frames begin and end means nothing to gRPC.
func TestDelivery_MessagesDoNotDependOnDataFrames(t *testing.T) {
	t.Parallel()
	three := bytes.Join([][]byte{testbed.Frame(text("a")), testbed.Frame(nil), testbed.Frame(text("ccc"))}, nil)
	want := []testbed.Message{{Payload: text("a")}, {Payload: []byte{}}, {Payload: text("ccc")}}
	for name, send := range map[string]func(s *testbed.H2Stream){
		"one frame":           func(s *testbed.H2Stream) { s.SendEnd(three) },
		"end on its own":      func(s *testbed.H2Stream) { s.Send(three); s.SendEnd(nil) },
		"one byte in a frame": func(s *testbed.H2Stream) { sendByBytes(s, three) },
	} {
		t.Run(name, func(t *testing.T) {
			eachPath(t, func(t *testing.T, to via) {
				p := newRawPair(t, to)
				cs, ss, _ := p.open(t, testbed.RequestFields())
				send(cs)
				request := ss.Outcome()
				require.True(t, request.Ended, "END_STREAM at the server; got %s", request)
				got, err := testbed.Messages(request.Body)
				require.NoError(t, err)
				require.Equal(t, want, got)
			})
		})
	}
}

func sendByBytes(s *testbed.H2Stream, b []byte) {
	for i := range len(b) - 1 {
		s.Send(b[i : i+1])
	}
	s.SendEnd(b[len(b)-1:])
}

// Padding is HTTP/2's; it is no part of the message.
func TestDelivery_PaddingIsNotForwarded(t *testing.T) {
	t.Parallel()
	eachPath(t, func(t *testing.T, to via) {
		p := newRawPair(t, to)
		cs, ss, _ := p.open(t, testbed.RequestFields())
		body := testbed.Frame(text("padded"))
		require.NoError(t, writePadded(p.client, cs.ID, body))
		require.Equal(t, body, ss.Outcome().Body)
	})
}

// writePadded writes b as one padded DATA frame with END_STREAM, past the window's account: b is short.
func writePadded(c *testbed.H2Conn, id uint32, b []byte) error {
	return c.Write(func(fr *http2.Framer) error { return fr.WriteDataPadded(id, true, b, make([]byte, 200)) })
}
