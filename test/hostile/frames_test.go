package hostile

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"

	"github.com/framegate/framegate/test/chaos"
	"github.com/framegate/framegate/test/testbed"
)

// state is what has become of stream 1 of a connection when an attack begins.
type state int

const (
	idle       state = iota // it was never opened
	open                    // its request goes on
	halfClosed              // its request has ended, and its answer has not
	ended                   // it has ended on both sides
	reset                   // the client has reset it
)

// enter brings stream 1 of a new connection into a state.
func (s state) enter(t *testing.T, c *testbed.H2Conn, w way) *testbed.H2Stream {
	t.Helper()
	switch s {
	case idle:
		return nil
	case ended:
		st := c.Open(t, to(chaos.UnaryMethod))
		st.SendEnd(testbed.Frame(nil))
		require.Equal(t, 0, st.Outcome().Code())
		return st
	}
	st := c.Open(t, held(w))
	switch s {
	case halfClosed:
		st.SendEnd(testbed.Frame(nil))
	case reset:
		st.Reset(http2.ErrCodeCancel)
	}
	return st
}

// scope is what an error is of.
type scope int

const (
	ofConn scope = iota
	ofStream
	none // it is to be borne
)

// mistake is what a client writes that RFC 9113 forbids.
type mistake struct {
	name  string
	state state // of stream 1, before
	sent  []byte
	of    scope
	code  http2.ErrCode
}

// make makes the mistake on a new connection, and wants the outcome. w is how the call of stream 1 is forwarded.
func (m mistake) make(t *testing.T, addr string, w way) {
	t.Helper()
	c := testbed.DialH2(t, addr)
	s := m.state.enter(t, c, w)
	require.NoError(t, c.WriteBytes(m.sent))
	switch m.of {
	case ofConn:
		wantConnError(t, c, m.code)
	case ofStream:
		wantStreamError(t, s, m.code)
	case none:
		wantGood(t, c)
	}
}

const (
	protocol     = http2.ErrCodeProtocol
	streamClosed = http2.ErrCodeStreamClosed
	compression  = http2.ErrCodeCompression
	frameSize    = http2.ErrCodeFrameSize
	flowControl  = http2.ErrCodeFlowControl

	endStream  = http2.FlagDataEndStream
	endHeaders = http2.FlagHeadersEndHeaders
	padded     = http2.FlagDataPadded
	priority   = http2.FlagHeadersPriority
)

// frameMistakes are frames in places where they may not be.
func frameMistakes() []mistake {
	half := frame(http2.FrameHeaders, 0, 1, 0x83) // of a header block
	bad := func(block ...byte) []byte { return frame(http2.FrameHeaders, endHeaders|endStream, 1, block...) }
	opening := func(stream uint32, end bool) []byte { return request(stream, held(relayed), end) }
	all := func(frames ...[]byte) []byte { return slices.Concat(frames...) }
	return []mistake{
		// RFC 9113 §5.1, idle: anything but HEADERS and PRIORITY.
		{"DATA on an idle stream", idle, frame(http2.FrameData, 0, 5, 'x'), ofConn, protocol},
		{"DATA on an idle stream behind an open one", open, frame(http2.FrameData, 0, 3, 'x'), ofConn, protocol},
		{"RST_STREAM on an idle stream", open, frame(http2.FrameRSTStream, 0, 3, 0, 0, 0, 8), ofConn, protocol},
		{"WINDOW_UPDATE on an idle stream", open, frame(http2.FrameWindowUpdate, 0, 3, 0, 0, 0, 1), ofConn, protocol},
		{"PRIORITY on an idle stream", open, frame(http2.FramePriority, 0, 3, 0, 0, 0, 1, 16), none, 0},
		{"CONTINUATION on an idle stream", idle, frame(http2.FrameContinuation, endHeaders, 1, 0x83), ofConn, protocol},

		// RFC 9113 §5.1, half-closed (remote): anything but WINDOW_UPDATE, PRIORITY and RST_STREAM.
		{"DATA after END_STREAM", halfClosed, frame(http2.FrameData, 0, 1, 'x'), ofStream, streamClosed},
		{"empty DATA after END_STREAM", halfClosed, frame(http2.FrameData, 0, 1), ofStream, streamClosed},
		{"END_STREAM after END_STREAM", halfClosed, frame(http2.FrameData, endStream, 1), ofStream, streamClosed},
		{"HEADERS after END_STREAM", halfClosed, opening(1, true), ofStream, streamClosed},
		{"WINDOW_UPDATE after END_STREAM", halfClosed, frame(http2.FrameWindowUpdate, 0, 1, 0, 0, 0, 1), none, 0},
		{"RST_STREAM after END_STREAM", halfClosed, frame(http2.FrameRSTStream, 0, 1, 0, 0, 0, 8), none, 0},

		// RFC 9113 §5.1, closed: an error of the connection if END_STREAM had come, which the client knows.
		{"DATA on a stream that has ended", ended, frame(http2.FrameData, 0, 1, 'x'), ofConn, streamClosed},
		{"a stream that has ended, opened again", ended, opening(1, true), ofConn, streamClosed},
		{"WINDOW_UPDATE on a stream that has ended", ended, frame(http2.FrameWindowUpdate, 0, 1, 0, 0, 0, 1), none, 0},
		{"RST_STREAM on a stream that has ended", ended, frame(http2.FrameRSTStream, 0, 1, 0, 0, 0, 8), none, 0},
		{"PRIORITY on a stream that has ended", ended, frame(http2.FramePriority, 0, 1, 0, 0, 0, 3, 16), none, 0},
		{"DATA after RST_STREAM", reset, frame(http2.FrameData, 0, 1, 'x'), ofStream, streamClosed},
		{"HEADERS after RST_STREAM", reset, opening(1, true), ofStream, streamClosed},
		{"RST_STREAM after RST_STREAM", reset, frame(http2.FrameRSTStream, 0, 1, 0, 0, 0, 8), none, 0},

		// RFC 9113 §5.1.1.
		{"an even stream", idle, opening(2, true), ofConn, protocol},
		{"an even stream behind an open one", open, opening(4, true), ofConn, protocol},
		{"a stream lower than the last", idle, all(opening(5, true), opening(3, true)), ofConn, protocol},
		{"an open stream, opened again", open, opening(1, false), ofStream, protocol}, // they are trailers without END_STREAM, §8.1
		{"the highest stream, and then none is left", idle, all(opening(1<<31-1, true), opening(1, true)), ofConn, protocol},

		// RFC 9113 §4.3 and §6.10: nothing comes between the parts of a header block.
		{"HEADERS before END_HEADERS", idle, all(half, opening(3, true)), ofConn, protocol},
		{"HEADERS again and again, without END_HEADERS", idle, all(half, half, half), ofConn, protocol},
		{"PING before END_HEADERS", idle, all(half, frame(http2.FramePing, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8)), ofConn, protocol},
		{"DATA before END_HEADERS", idle, all(half, frame(http2.FrameData, 0, 1)), ofConn, protocol},
		{"an unknown frame before END_HEADERS", idle, all(half, frame(0xbe, 0, 1)), ofConn, protocol},
		{"CONTINUATION of another stream", idle, all(half, frame(http2.FrameContinuation, endHeaders, 3)), ofConn, protocol},
		{"CONTINUATION after END_HEADERS", open, frame(http2.FrameContinuation, endHeaders, 1), ofConn, protocol},

		// Frames of a stream on the connection, and the other way round.
		{"DATA on stream 0", idle, frame(http2.FrameData, 0, 0, 'x'), ofConn, protocol},
		{"HEADERS on stream 0", idle, opening(0, true), ofConn, protocol},
		{"PRIORITY on stream 0", idle, frame(http2.FramePriority, 0, 0, 0, 0, 0, 1, 16), ofConn, protocol},
		{"RST_STREAM on stream 0", idle, frame(http2.FrameRSTStream, 0, 0, 0, 0, 0, 8), ofConn, protocol},
		{"CONTINUATION on stream 0", idle, frame(http2.FrameContinuation, endHeaders, 0), ofConn, protocol},
		{"SETTINGS on a stream", open, frame(http2.FrameSettings, 0, 1), ofConn, protocol},
		{"PING on a stream", open, frame(http2.FramePing, 0, 1, 1, 2, 3, 4, 5, 6, 7, 8), ofConn, protocol},
		{"GOAWAY on a stream", open, frame(http2.FrameGoAway, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0), ofConn, protocol},

		// RFC 9113 §8.4: a client cannot push.
		{"PUSH_PROMISE", open, frame(http2.FramePushPromise, endHeaders, 1, append([]byte{0, 0, 0, 2}, block(held(relayed))...)...), ofConn, protocol},

		// RFC 9113 §6.1 and §6.2: padding that is as long as the frame.
		{"DATA of padding that is too long", open, frame(http2.FrameData, padded, 1, 1), ofConn, protocol},
		{"DATA with 255 bytes of padding, which are not there", open, frame(http2.FrameData, padded, 1, 255, 'x', 'y'), ofConn, protocol},
		{"DATA without its padding's length", open, frame(http2.FrameData, padded, 1), ofConn, frameSize},
		{"HEADERS of padding that is too long", idle, frame(http2.FrameHeaders, padded|endHeaders, 1, 5, 0x83), ofConn, protocol},

		// RFC 9113 §6.5.2.
		{"SETTINGS_ENABLE_PUSH 2", idle, frame(http2.FrameSettings, 0, 0, 0, 2, 0, 0, 0, 2), ofConn, protocol},
		{"SETTINGS_MAX_FRAME_SIZE 16383", idle, frame(http2.FrameSettings, 0, 0, 0, 5, 0, 0, 0x3f, 0xff), ofConn, protocol},
		{"SETTINGS_MAX_FRAME_SIZE 2^24", idle, frame(http2.FrameSettings, 0, 0, 0, 5, 1, 0, 0, 0), ofConn, protocol},
		{"SETTINGS of an unknown parameter", idle, frame(http2.FrameSettings, 0, 0, 0xff, 0xff, 1, 0, 0, 0), none, 0},

		// RFC 9113 §4.3: a header block that cannot be decoded.
		{"an index that is too large", idle, bad(0xff, 0xff, 0xff, 0xff, 0x7f), ofConn, compression},
		{"an index without an end", idle, bad(0xff, 0xff, 0xff), ofConn, compression},
		{"index 0", idle, bad(0x80), ofConn, compression},
		{"an index of nothing", idle, bad(0xbe), ofConn, compression},
		{"a literal that is cut off", idle, bad(0x00, 0x05, 'a'), ofConn, compression},
		{"Huffman code with padding that is too long", idle, bad(0x00, 0x82, 0xff, 0xff, 0x00), ofConn, compression},
		{"a table size over the limit", idle, bad(0x3f, 0xe2, 0x1f), ofConn, compression}, // 4097
		{"a table size behind a field", idle, bad(0x83, 0x20), ofConn, compression},
		{"an undecodable block of a stream that was reset", reset, frame(http2.FrameHeaders, endHeaders|endStream, 1, 0x80), ofConn, compression},
		{"undecodable trailers", open, frame(http2.FrameHeaders, endHeaders|endStream, 1, 0x80), ofConn, compression},
	}
}

// frameAttacks makes all mistakes that are in frames.
func frameAttacks(t *testing.T, w *world, stuck *testbed.H2Server) {
	for _, m := range slices.Concat(frameMistakes(), sizeMistakes(), windowMistakes()) {
		w.attack(t, m.name, func(t *testing.T) {
			for i := range repeats {
				m.make(t, w.proxy.Addr, ways[i%len(ways)])
			}
		})
	}
	w.attack(t, "DATA over a stream's window", func(t *testing.T) {
		for _, way := range ways {
			overflow(t, w, stuck, way)
		}
	})
}
