package h2

import (
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"
)

// openMany opens n streams of a server whose requests have ended and whose answers have begun, with large windows.
func openMany(p *peer, n int) (streams []*Stream) {
	p.send(settings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 24}), update(0, 1<<24))
	for i := range n {
		id := uint32(2*i + 1)
		p.send(request(flagEndStream, id, "/"))
		s := p.events.streams[id]
		s.WriteHeaders([]*field{fieldOK}, false)
		streams = append(streams, s)
	}
	p.output()
	p.events.take()
	return streams
}

// DATA waits for the socket in the streams' queues. When the socket has taken all, it is followed by more, and streams that wait are
// not overtaken.
func TestConn_SocketIsSlow(t *testing.T) {
	t.Parallel()
	const limit = 48 << 10
	p := newServerPeer(t, Config{SendLimit: limit})
	streams := openMany(p, 3)
	a, b, c := streams[0], streams[1], streams[2]
	require.Equal(t, 3*16384, a.WriteData(make([]byte, 100_000), true))
	require.Equal(t, 0, b.WriteData(make([]byte, 20_000), true))
	most := limit + frameHeaderLen + maxFrameLen
	require.LessOrEqual(t, len(p.conn.Output()), most)

	drain := func(n int) { p.wire.Write(p.conn.Output()[:n]); p.conn.Wrote(n) }
	drain(len(p.conn.Output()) - 1)
	require.Empty(t, p.events.take())
	require.Equal(t, 0, c.WriteData(make([]byte, 100), false), "c must wait behind a and b")
	drain(1)
	require.Equal(t, []string{"sent 1 16384", "sent 3 16384", "sent 5 100", "sent 1 16384"}, p.events.take())
	require.LessOrEqual(t, len(p.conn.Output()), most)
	c.WriteTrailers(fieldList("grpc-status=0"))
	p.output()
	require.Equal(t, []string{"done 5", "sent 3 3616", "done 3", "sent 1 16384", "sent 1 1696", "done 1"}, p.events.take())
	require.Zero(t, p.memory.budget.Held())
}

// With bytes that the socket takes one by one, nothing is lost and nothing stalls.
func TestConn_SocketTakesBytes(t *testing.T) {
	t.Parallel()
	p := newServerPeer(t, Config{SendLimit: 100})
	s := openMany(p, 1)[0]
	total := 50_000 - s.WriteData(make([]byte, 50_000), true)
	require.Equal(t, 50_000-16384, total)
	for len(p.conn.Output()) > 0 {
		p.wire.Write(p.conn.Output()[:1])
		p.conn.Wrote(1)
	}
	require.Equal(t, []string{"sent 1 16384", "sent 1 16384", "sent 1 848", "done 1"}, p.events.take())
	require.Equal(t, frames("DATA 1 16384", "DATA 1 16384", "DATA 1 16384", "DATA 1 848 END"), p.output())
}

// Streams take turns when the connection's window is what is short, and one without a window holds up no other.
func TestConn_StreamsTakeTurns(t *testing.T) {
	t.Parallel()
	p := newServerPeer(t, Config{})
	p.send(request(flagEndStream, 1, "/"), request(flagEndStream, 3, "/"), request(flagEndStream, 5, "/"))
	for id := uint32(1); id < 7; id += 2 {
		p.events.streams[id].WriteHeaders([]*field{fieldOK}, false)
	}
	p.output()
	require.Equal(t, 65535, p.events.streams[1].WriteData(make([]byte, 70_000), true)) // no window is left, of stream or connection
	require.Equal(t, 0, p.events.streams[3].WriteData(make([]byte, 40_000), true))
	require.Equal(t, 0, p.events.streams[5].WriteData(make([]byte, 40_000), true))
	p.output()
	p.events.take()
	p.send(update(0, 16384*4))
	require.Equal(t, frames("DATA 3 16384", "DATA 5 16384", "DATA 3 16384", "DATA 5 16384"), p.output())
	p.send(update(1, 1), update(0, 100_000))
	require.Equal(t, frames("DATA 3 7232 END", "DATA 5 7232 END", `DATA 1 "\x00"`), p.output())
	p.send(update(1, 100_000))
	require.Equal(t, frames("DATA 1 4464 END"), p.output())
}

// END_STREAM needs no window, and comes once.
func TestStream_EndNeedsNoWindow(t *testing.T) {
	t.Parallel()
	p := newServerPeer(t, Config{})
	p.send(request(flagEndStream, 1, "/"), request(flagEndStream, 3, "/"), request(flagEndStream, 5, "/"))
	for id := uint32(1); id < 7; id += 2 {
		p.events.streams[id].WriteHeaders([]*field{fieldOK}, false)
	}
	a, b, c := p.events.streams[1], p.events.streams[3], p.events.streams[5]
	require.Equal(t, 65535, a.WriteData(make([]byte, 65536), false))
	p.output()
	require.Equal(t, 0, b.WriteData(nil, true))
	c.WriteTrailers(fieldList("grpc-status=0"))
	a.WriteData(nil, true) // behind what is queued
	require.True(t, a.Ended())
	require.True(t, a.IsOpen())
	a.WriteData([]byte("not sent"), true)
	a.WriteTrailers(nil)
	require.Equal(t, frames(`DATA 3 "" END`, "HEADERS 5 grpc-status=0 END"), p.output())
	p.send(update(1, 1), update(0, 1))
	require.Equal(t, frames(`DATA 1 "\x00" END`), p.output())
	require.Zero(t, p.conn.Streams())
}

// What an owner may do in Sent: reset the stream, and use its memory for another.
func TestStream_ResetInSent(t *testing.T) {
	t.Parallel()
	for name, do := range map[string]func(p *peer, s *Stream){
		"reset":  func(_ *peer, s *Stream) { s.Reset(http2.ErrCodeCancel) },
		"reused": func(p *peer, s *Stream) { s.Reset(http2.ErrCodeCancel); p.conn.open(s, 3); s.in, s.out = ended, open },
		"closed": func(p *peer, _ *Stream) { p.conn.Close(&ConnError{}) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newServerPeer(t, Config{})
			p.send(request(flagEndStream, 1, "/"))
			s := p.events.streams[1]
			s.WriteHeaders([]*field{fieldOK}, false)
			s.WriteData(make([]byte, 65536), true)
			p.output()
			p.events.take()
			p.conn.events = &onSent{p.events, func(s *Stream) { do(p, s) }}
			p.send(update(0, 1), update(1, 1))
			require.NotContains(t, p.events.take(), "done 3")
			require.NotContains(t, p.output(), "RST_STREAM 1 CANCEL", "both directions had ended")
			if name == "reused" {
				require.Equal(t, open, s.out)
			}
		})
	}
}

// onSent does something when DATA has left a queue.
type onSent struct {
	*recorder
	do func(s *Stream)
}

func (o *onSent) Sent(s *Stream, p []byte) {
	o.recorder.Sent(s, p)
	o.do(s)
}

// An owner may end or reset the stream in any call, and gets one Done, or none.
func TestStream_EndsInCalls(t *testing.T) {
	t.Parallel()
	end := func(s *Stream) { s.WriteHeaders([]*field{fieldOK}, true) }
	reset := func(s *Stream) { s.Reset(http2.ErrCodeNo) }
	answerThenReset := func(s *Stream) { end(s); reset(s) }
	for name, x := range map[string]struct {
		in     []byte
		inHead func(s *Stream)
		inData func(s *Stream)
		out    []string
		events []string
	}{
		"end in Head, request goes on":  {request(0, 1, "/"), end, nil, frames("HEADERS 1 :status=200 END"), []string{"head 1"}},
		"end in Head, request ended":    {request(flagEndStream, 1, "/"), end, nil, frames("HEADERS 1 :status=200 END"), []string{"head 1 END", "done 1"}},
		"reset in Head":                 {request(0, 1, "/"), reset, nil, frames("RST_STREAM 1 NO_ERROR"), []string{"head 1"}},
		"reset in Head, request ended":  {request(flagEndStream, 1, "/"), reset, nil, frames("RST_STREAM 1 NO_ERROR"), []string{"head 1 END"}},
		"end and reset, request ended":  {request(flagEndStream, 1, "/"), answerThenReset, nil, frames("HEADERS 1 :status=200 END"), []string{"head 1 END", "done 1"}},
		"end and reset in Head":         {request(0, 1, "/"), answerThenReset, nil, frames("HEADERS 1 :status=200 END", "RST_STREAM 1 NO_ERROR"), []string{"head 1"}},
		"end in Data":                   {cat(request(0, 1, "/"), data(0, 1, "x")), nil, end, frames("HEADERS 1 :status=200 END"), []string{"head 1", `data 1 "x"`}},
		"end in the last Data":          {cat(request(0, 1, "/"), data(flagEndStream, 1, "x")), nil, end, frames("HEADERS 1 :status=200 END"), []string{"head 1", `data 1 "x" END`, "done 1"}},
		"reset in the last Data":        {cat(request(0, 1, "/"), data(flagEndStream, 1, "x")), nil, reset, frames("RST_STREAM 1 NO_ERROR"), []string{"head 1", `data 1 "x" END`}},
		"end and reset in the last":     {cat(request(0, 1, "/"), data(flagEndStream, 1, "x")), nil, answerThenReset, frames("HEADERS 1 :status=200 END"), []string{"head 1", `data 1 "x" END`, "done 1"}},
		"end before the last Data":      {cat(request(0, 1, "/"), data(flagEndStream, 1, "x")), end, nil, frames("HEADERS 1 :status=200 END"), []string{"head 1", `data 1 "x" END`, "done 1"}},
		"end, then reset in the last":   {cat(request(0, 1, "/"), data(flagEndStream, 1, "x")), end, reset, frames("HEADERS 1 :status=200 END"), []string{"head 1", `data 1 "x" END`}},
		"answer in Head, end with Data": {cat(request(0, 1, "/"), data(flagEndStream, 1, "x")), func(s *Stream) { s.WriteHeaders([]*field{fieldOK}, false) }, func(s *Stream) { s.WriteData([]byte("y"), true) }, frames("HEADERS 1 :status=200", `DATA 1 "y" END`), []string{"head 1", `data 1 "x" END`, "done 1"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newServerPeer(t, Config{})
			if x.inHead != nil {
				p.events.onHead = func(s *Stream, _ *Head) { x.inHead(s) }
			}
			if x.inData != nil {
				p.events.onData = func(s *Stream, _ []byte, _ bool) { x.inData(s) }
			}
			p.send(x.in)
			require.Equal(t, x.out, p.output())
			require.Equal(t, x.events, p.events.take())
			require.Nil(t, p.conn.Failure())
		})
	}
}

// What a stream says of itself.
func TestStream_State(t *testing.T) {
	t.Parallel()
	var s Stream
	require.Nil(t, s.Conn())
	require.False(t, s.IsOpen())
	s.Reset(http2.ErrCodeCancel) // nothing
	s.Consumed(1)

	p := newServerPeer(t, Config{})
	p.send(request(0, 1, "/"))
	got := p.events.streams[1]
	require.Same(t, p.conn, got.Conn())
	require.Equal(t, [4]bool{true, false, false, false}, [4]bool{got.IsOpen(), got.PeerEnded(), got.Answered(), got.Ended()})
	got.WriteHeaders(fieldList(":status=103"), false)
	got.WriteHeaders([]*field{fieldOK}, false)
	require.Equal(t, [4]bool{true, false, true, false}, [4]bool{got.IsOpen(), got.PeerEnded(), got.Answered(), got.Ended()})
	got.WriteTrailers(nil)
	p.send(data(flagEndStream, 1, ""))
	require.False(t, got.IsOpen())
	require.Equal(t, frames("HEADERS 1 :status=103", "HEADERS 1 :status=200", "HEADERS 1 END"), p.output())
}
