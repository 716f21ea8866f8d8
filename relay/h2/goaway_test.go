package h2

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"
)

// Streams that come after a GOAWAY are ignored, whatever they say, and HPACK stays in step (RFC 9113 §6.8).
func TestServer_GoAway(t *testing.T) {
	t.Parallel()
	p := newServerPeer(t, Config{})
	p.send(request(0, 1, "/"))
	p.conn.AnnounceGoAway()
	require.False(t, p.conn.IsLeaving())
	require.Equal(t, frames("GOAWAY 2147483647 NO_ERROR "), p.output())
	p.send(request(flagEndStream, 3, "/answer")) // was under way
	require.Equal(t, frames("HEADERS 3 :status=200 END"), p.output())
	p.conn.GoAway()
	p.conn.GoAway()
	p.conn.AnnounceGoAway()
	require.True(t, p.conn.IsLeaving())
	require.Equal(t, frames("GOAWAY 3 NO_ERROR "), p.output())
	require.Equal(t, []string{"head 1", "head 3 END", "done 3"}, p.events.take())

	late := raw(http2.FrameHeaders, flagEndHeaders, 5, append(encode(":method=POST", ":scheme=http", ":path=/"), indexingField("x", 9)...)...)
	p.send(late, data(0, 5, "x"), data(0, 5, ""), update(5, 1), raw(http2.FramePriority, 0, 5, 0, 0, 0, 0, 1), heads(flagEndStream, 5, "y=z"), rst(5, http2.ErrCodeCancel))
	p.send(request(0, 9, "/"), data(flagEndStream, 9, "x"), data(0, 7, "x"))
	require.Empty(t, p.output())
	require.Empty(t, p.events.take())
	var got []string
	p.events.onHead = func(_ *Stream, h *Head) { got = append(got, h.Fields[0].Name, h.Fields[0].Value) }
	p.send(raw(http2.FrameHeaders, flagEndHeaders|flagEndStream, 1, 0xbe)) // the entry that the ignored block has made
	require.Equal(t, []string{"trailers 1 END"}, p.events.take())
	require.Equal(t, []string{"x", strings.Repeat("v", 9)}, got)

	p.send(raw(http2.FramePing, 0, 0)) // a second GOAWAY names no higher stream
	require.Equal(t, fails("3", "FRAME_SIZE_ERROR", "protocol"), p.output())
}

func TestClient_GoAway(t *testing.T) {
	t.Parallel()
	p := newClientPeer(t, Config{})
	p.open(true)
	p.output()
	p.conn.GoAway()
	require.True(t, p.conn.IsLeaving())
	require.Equal(t, frames("GOAWAY 0 NO_ERROR "), p.output())
	p.send(answer(flagEndStream, 1))
	require.Equal(t, []string{"head 1 200 END", "done 1"}, p.events.take())
}

// A connection that has failed, or was closed, tells each stream once, and does nothing more.
func TestConn_Close(t *testing.T) {
	t.Parallel()
	p := newServerPeer(t, Config{})
	p.send(request(0, 1, "/"), request(0, 3, "/"), request(0, 5, "/"), []byte{0, 0})
	s := p.events.streams[3]
	s.WriteHeaders([]*field{fieldOK}, false)
	s.WriteData(make([]byte, 100_000), false)
	require.NotZero(t, p.memory.budget.Held())
	p.output()
	p.events.take()
	why := &ConnError{Code: http2.ErrCodeNo, Text: "gone", Peer: true}
	p.conn.Close(why)
	p.conn.Close(&ConnError{})
	require.Equal(t, []string{"reset 1 NO_ERROR conn", "reset 3 NO_ERROR conn", "reset 5 NO_ERROR conn"}, p.events.take())
	require.Same(t, why, p.conn.Failure())
	require.Zero(t, p.memory.budget.Held())
	require.Zero(t, p.conn.Streams())
	require.Empty(t, p.conn.Partial())

	s.WriteHeaders([]*field{fieldOK}, false)
	require.Equal(t, 5, s.WriteData([]byte("hello"), true))
	s.WriteTrailers(nil)
	s.Consumed(1)
	s.Reset(http2.ErrCodeCancel)
	p.send(request(0, 7, "/"))
	p.conn.Tick(1 << 60)
	require.Empty(t, p.output())
	require.Empty(t, p.events.take())
}

// An owner that answers the end of one stream with frames on others finds the connection mute.
func TestConn_FailsInTheMiddle(t *testing.T) {
	t.Parallel()
	p := newServerPeer(t, Config{})
	p.send(request(0, 1, "/"), request(0, 3, "/"))
	second := p.events.streams[3]
	p.conn.events = &onReset{p.events, func() {
		second.WriteHeaders([]*field{fieldOK}, false)
		second.WriteData([]byte("x"), true)
		second.Reset(http2.ErrCodeCancel)
		p.conn.Close(&ConnError{})
	}}
	p.output()
	p.send(data(0, 0, ""), request(0, 5, "/"))
	require.Equal(t, fails("3", "PROTOCOL_ERROR", "protocol"), p.output())
	require.Equal(t, []string{"head 1", "head 3", "reset 1 PROTOCOL_ERROR conn"}, p.events.take())
}

// onReset does something when a stream is reset.
type onReset struct {
	*recorder
	do func()
}

func (o *onReset) Reset(s *Stream, why *Reset) {
	o.recorder.Reset(s, why)
	o.do()
}

// A GOAWAY of a client that has resources to spare: a stream that its owner resets in the middle of it gets no second Reset.
func TestClient_GoAwayResetsInTheMiddle(t *testing.T) {
	t.Parallel()
	p := newClientPeer(t, Config{})
	p.open(true)
	p.open(true)
	third := p.open(true)
	p.conn.events = &onReset{p.events, func() { third.Reset(http2.ErrCodeCancel) }}
	p.send(goAway(0, http2.ErrCodeNo))
	require.Equal(t, []string{"reset 1 NO_ERROR peer unprocessed", "reset 3 NO_ERROR peer unprocessed", `goaway NO_ERROR "bye"`}, p.events.take())
	require.Zero(t, p.conn.Streams())
}
