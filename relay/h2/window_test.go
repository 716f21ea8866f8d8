package h2

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"
)

// Flow control of what is received, and increments of what is sent (RFC 9113 §6.9).
func TestServer_Windows(t *testing.T) {
	t.Parallel()
	open := first(request(0, 1, "/"), request(0, 3, "/"))
	all := times(16, data(0, 1, strings.Repeat("x", 16384)))
	full := func(p *peer) { open(p); p.send(all) }
	runExchanges(t, newServerPeer, []exchange{
		{name: "a byte over a stream's window", before: full, in: data(0, 1, "x"), out: frames("RST_STREAM 1 FLOW_CONTROL_ERROR"), events: []string{"reset 1 FLOW_CONTROL_ERROR"}},
		{name: "padding over a stream's window", before: full, in: raw(http2.FrameData, flagPadded, 1, 0), out: frames("RST_STREAM 1 FLOW_CONTROL_ERROR"), events: []string{"reset 1 FLOW_CONTROL_ERROR"}},
		{name: "an empty frame at a stream's window", before: full, in: data(flagEndStream, 1, ""), events: []string{`data 1 "" END`}},
		{name: "another stream at a stream's window", before: full, in: data(0, 3, "x"), events: []string{`data 3 "x"`}},

		{name: "increment 0 on a stream", before: open, in: update(1, 0), out: frames("RST_STREAM 1 PROTOCOL_ERROR"), events: []string{"reset 1 PROTOCOL_ERROR"}},
		{name: "increment 0 on the connection", in: update(0, 0), out: fails("0", "PROTOCOL_ERROR", "protocol")},
		{name: "the reserved bit of an increment", before: open, in: raw(http2.FrameWindowUpdate, 0, 1, 0x80, 0, 0, 0), out: frames("RST_STREAM 1 PROTOCOL_ERROR"), events: []string{"reset 1 PROTOCOL_ERROR"}},
		{name: "a stream's window of 2^31-1", before: open, in: update(1, 1<<31-1-65535)},
		{name: "a stream's window of 2^31", before: open, in: update(1, 1<<31-65535), out: frames("RST_STREAM 1 FLOW_CONTROL_ERROR"), events: []string{"reset 1 FLOW_CONTROL_ERROR"}},
		{name: "the connection's window of 2^31-1", in: update(0, 1<<31-1-65535)},
		{name: "the connection's window of 2^31", in: update(0, 1<<31-65535), out: fails("0", "FLOW_CONTROL_ERROR", "window_overflow")},
	})
}

// What comes for streams that are reset counts against the connection's window, and is given back.
func TestServer_ConnWindow(t *testing.T) {
	t.Parallel()
	p := newServerPeer(t, Config{ConnWindow: 65535, StreamWindow: 65535})
	p.send(request(0, 1, "/reset"))
	p.output()
	p.send(data(0, 1, strings.Repeat("x", 16384)))
	require.Empty(t, p.output())
	p.send(data(0, 1, strings.Repeat("x", 16383)))
	require.Equal(t, frames("WINDOW_UPDATE 0 32767"), p.output())
	p.send(times(3, data(0, 1, strings.Repeat("x", 16384))))
	require.Equal(t, frames("WINDOW_UPDATE 0 32768"), p.output())

	p.memory.budget.held.Add(p.memory.budget.Max()) // no credit while memory is short
	p.send(times(2, data(0, 1, strings.Repeat("x", 16384))))
	p.send(data(0, 1, strings.Repeat("x", 16383)))
	require.Empty(t, p.output())
	p.send(data(0, 1, "x"))
	require.Equal(t, fails("1", "FLOW_CONTROL_ERROR", "window_overflow"), p.output())
}

// Credit that is kept back while memory is short must not be forgotten: nothing may come that reminds of it.
func TestServer_ConnWindowAfterShortage(t *testing.T) {
	t.Parallel()
	for name, remind := range map[string]func(p *peer){
		"Tick":     func(p *peer) { p.conn.Tick(int64(p.now)) },
		"Consumed": func(p *peer) { p.events.streams[1].Consumed(1) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newServerPeer(t, Config{ConnWindow: 65535, StreamWindow: 65535})
			p.memory.budget.held.Add(p.memory.budget.Max())
			p.send(request(0, 1, "/"), times(3, data(0, 1, strings.Repeat("x", 16384))))
			require.Empty(t, p.output())
			remind(p)
			require.Empty(t, p.output())
			p.memory.budget.held.Add(-p.memory.budget.Max())
			remind(p)
			require.Contains(t, p.output(), "WINDOW_UPDATE 0 49152")
		})
	}
}

// A stream's credit comes when half of its window is used, and not after the peer's END_STREAM.
func TestStream_Consumed(t *testing.T) {
	t.Parallel()
	p := newServerPeer(t, Config{StreamWindow: 65536})
	p.send(request(0, 1, "/"), times(2, data(0, 1, strings.Repeat("x", 16384))))
	s := p.events.streams[1]
	s.Consumed(16384)
	require.Equal(t, frames("WINDOW_UPDATE 1 16384"), p.output())
	s.Consumed(16384)
	require.Empty(t, p.output())
	p.send(data(0, 1, strings.Repeat("x", 16384)))
	s.Consumed(0)
	require.Empty(t, p.output())
	s.Consumed(16384)
	require.Equal(t, frames("WINDOW_UPDATE 1 32768"), p.output())
	p.send(times(4, data(0, 1, strings.Repeat("x", 16384))), data(flagEndStream, 1, ""))
	s.Consumed(65536)
	require.Empty(t, p.output())
	s.Reset(http2.ErrCodeCancel)
	s.Consumed(1)
	require.Equal(t, frames("RST_STREAM 1 CANCEL"), p.output())
}

// DATA that leaves in small pieces is not given back in as many: a server that is slow to read would be sent WINDOW_UPDATEs without
// end. A peer without a window gets what there is, so that nothing stalls.
func TestStream_ConsumedInSmallPieces(t *testing.T) {
	t.Parallel()
	for _, window := range []uint32{65535, 256 << 10, 1 << 20} {
		p := newServerPeer(t, Config{StreamWindow: window, ConnWindow: 4 << 20})
		p.send(request(0, 1, "/"))
		for left := int(window); left > 0; left -= 16384 {
			p.send(data(0, 1, strings.Repeat("x", min(left, 16384))))
		}
		p.output()
		s, want := p.events.streams[1], []string{"WINDOW_UPDATE 1 1", "WINDOW_UPDATE 1 3", "WINDOW_UPDATE 1 12", "WINDOW_UPDATE 1 48"}
		var got []string
		for range window {
			s.Consumed(1)
			got = append(got, p.output()...)
		}
		require.Equal(t, want, got[:len(want)])
		require.Less(t, len(got), 16)
		require.Greater(t, s.recvWindow, int32(window/2))
	}
}

// When memory is short, windows are small, but never 0.
func TestStream_ConsumedWhenMemoryIsShort(t *testing.T) {
	t.Parallel()
	p := newServerPeer(t, Config{})
	budget := p.memory.budget
	p.send(request(0, 1, "/"))
	s := p.events.streams[1]
	budget.held.Add(budget.Max())
	for range 16 {
		p.send(data(0, 1, strings.Repeat("x", 16384)))
		p.output()
		s.Consumed(16384)
	}
	require.Equal(t, frames("WINDOW_UPDATE 1 4096"), p.output())
	p.send(data(0, 1, strings.Repeat("x", 4096)))
	s.Consumed(4096)
	require.Equal(t, frames("WINDOW_UPDATE 1 4096"), p.output())
	budget.held.Add(-budget.Max())
	p.send(data(0, 1, strings.Repeat("x", 4096)))
	s.Consumed(4096)
	require.Equal(t, frames("WINDOW_UPDATE 1 262144"), p.output())
}

// SETTINGS may make a window negative; what is sent next waits until it is above 0 again (RFC 9113 §6.9.2).
func TestStream_NegativeWindow(t *testing.T) {
	t.Parallel()
	initial := func(v uint32) []byte { return settings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: v}) }
	p := newServerPeer(t, Config{})
	p.send(request(flagEndStream, 1, "/"), update(0, 1<<20))
	s := p.events.streams[1]
	p.output()
	s.WriteHeaders([]*field{fieldOK}, false)
	require.Equal(t, 65535, s.WriteData(make([]byte, 70000), false))
	require.Equal(t, 4465, s.Queued())
	p.output()
	p.send(initial(100))
	require.EqualValues(t, 100-65535, s.sendWindow)
	p.send(update(1, 65435)) // to 0
	require.Equal(t, frames("SETTINGS ACK"), p.output())
	p.send(update(1, 1))
	require.Equal(t, frames(`DATA 1 "\x00"`), p.output())
	p.send(initial(99), update(1, 1))
	require.Equal(t, frames("SETTINGS ACK"), p.output())
	p.send(initial(199))
	require.Equal(t, frames("SETTINGS ACK", "DATA 1 100"), p.output())
	s.WriteTrailers(fieldList("grpc-status=0"))
	p.send(initial(0), initial(5000))
	require.Equal(t, frames("SETTINGS ACK", "SETTINGS ACK", "DATA 1 4364", "HEADERS 1 grpc-status=0 END"), p.output())
	require.Equal(t, []string{"settings", "sent 1 1", "settings", "sent 1 100", "settings", "settings", "sent 1 4364", "done 1", "settings"}, p.events.take()[1:])
	require.Zero(t, p.memory.budget.Held())
}
