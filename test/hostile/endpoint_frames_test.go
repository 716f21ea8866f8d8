package hostile

import (
	"slices"

	"golang.org/x/net/http2"

	"github.com/framegate/framegate/test/testbed"
)

// badFrames are frames that an endpoint must not send. Most of them cost its connection, and so the calls that are on it.
func badFrames() (all []illness) {
	ofCallsConnection := func(name string, why http2.ErrCode, sent func(stream uint32) []byte) {
		all = append(all, illness{name, true, sent, 14, "upstream_reset", ofConn, why})
	}
	ofConnection := func(name string, why http2.ErrCode, frames ...[]byte) {
		ofCallsConnection(name, why, func(uint32) []byte { return slices.Concat(frames...) })
	}
	ofCall := func(name string, why http2.ErrCode, sent func(stream uint32) []byte) {
		all = append(all, illness{name, true, sent, 13, "bad_response_framing", ofStream, why})
	}
	large := func(kind http2.FrameType) []byte { return []byte{0, 0x40, 1, byte(kind), 0, 0, 0, 0, 1} }
	push := append([]byte{0, 0, 0, 2}, block(held(relayed))...)
	const never = 9999 // a stream that framegate has not opened

	// Streams that were never opened: a server opens none, as push is off.
	ofConnection("DATA on a stream that was never opened", protocol, frame(http2.FrameData, 0, never, 'x'))
	ofConnection("HEADERS on a stream that was never opened", protocol, answers(true, testbed.ResponseFields("grpc-status", "0"))(never))
	ofConnection("RST_STREAM on a stream that was never opened", protocol, frame(http2.FrameRSTStream, 0, never, 0, 0, 0, 8))
	ofConnection("WINDOW_UPDATE on a stream that was never opened", protocol, windowUpdate(never, 1))
	ofConnection("CONTINUATION on a stream that was never opened", protocol, frame(http2.FrameContinuation, endHeaders, never))
	ofConnection("DATA on an even stream", protocol, frame(http2.FrameData, 0, 2, 'x'))
	ofConnection("HEADERS on an even stream", protocol, answers(true, testbed.ResponseFields())(2))
	ofConnection("a request of the server's", protocol, request(2, held(relayed), true))
	ofConnection("PUSH_PROMISE", protocol, frame(http2.FramePushPromise, endHeaders, 1, push...))
	ofConnection("DATA on stream 0", protocol, frame(http2.FrameData, 0, 0, 'x'))
	ofConnection("HEADERS on stream 0", protocol, answers(true, testbed.ResponseFields())(0))
	ofConnection("SETTINGS on a stream", protocol, frame(http2.FrameSettings, 0, 1))
	ofConnection("PING on a stream", protocol, frame(http2.FramePing, 0, 1, 1, 2, 3, 4, 5, 6, 7, 8))
	ofConnection("GOAWAY on a stream", protocol, frame(http2.FrameGoAway, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0))
	ofConnection("DATA within a header block", protocol, frame(http2.FrameHeaders, 0, 1, 0x88), frame(http2.FrameData, 0, 1))

	// Values.
	ofConnection("WINDOW_UPDATE of 0 on the connection", protocol, windowUpdate(0, 0))
	ofConnection("WINDOW_UPDATE over 2^31-1 on the connection", flowControl, windowUpdate(0, maxWindow))
	ofConnection("SETTINGS_INITIAL_WINDOW_SIZE 2^31", flowControl, settings(http2.SettingInitialWindowSize, 1<<31))
	ofConnection("SETTINGS_ENABLE_PUSH 1", protocol, settings(http2.SettingEnablePush, 1))
	ofConnection("SETTINGS_MAX_FRAME_SIZE 1", protocol, settings(http2.SettingMaxFrameSize, 1))
	ofConnection("padding that is too long", protocol, frame(http2.FrameData, padded, 1, 1))
	ofCallsConnection("a header block that cannot be decoded", compression, func(s uint32) []byte { return frame(http2.FrameHeaders, endHeaders|endStream, s, 0x80) })
	ofCallsConnection("a table size over the limit", compression, func(s uint32) []byte { return frame(http2.FrameHeaders, endHeaders|endStream, s, 0x3f, 0xe2, 0x1f) })

	// Sizes.
	ofConnection("DATA of 16385 bytes", frameSize, large(http2.FrameData))
	ofConnection("HEADERS of 16385 bytes", frameSize, large(http2.FrameHeaders))
	ofConnection("an unknown frame of 16385 bytes", frameSize, large(0xbe))
	ofConnection("SETTINGS of 5 bytes", frameSize, frame(http2.FrameSettings, 0, 0, 0, 4, 0, 0, 0))
	ofConnection("PING of 7 bytes", frameSize, frame(http2.FramePing, 0, 0, 1, 2, 3, 4, 5, 6, 7))
	ofConnection("WINDOW_UPDATE of 3 bytes", frameSize, frame(http2.FrameWindowUpdate, 0, 0, 0, 0, 1))
	ofConnection("RST_STREAM of 3 bytes", frameSize, frame(http2.FrameRSTStream, 0, 1, 0, 0, 8))
	ofConnection("GOAWAY of 7 bytes", frameSize, frame(http2.FrameGoAway, 0, 0, 0, 0, 0, 0, 0, 0, 0))
	ofConnection("an answer of HTTP/1", frameSize, []byte("HTTP/1.1 400 Bad Request\r\n\r\n"))

	// Of one stream.
	ofCall("WINDOW_UPDATE of 0", protocol, func(s uint32) []byte { return windowUpdate(s, 0) })
	ofCall("WINDOW_UPDATE over 2^31-1", flowControl, func(s uint32) []byte { return windowUpdate(s, maxWindow) })
	ofCall("PRIORITY of 4 bytes", frameSize, func(s uint32) []byte { return frame(http2.FramePriority, 0, s, 0, 0, 0, 0) })
	return all
}

// badFloods are too much of what an endpoint may send.
func badFloods() (all []illness) {
	flood := func(name string, times int, frame func(stream uint32) []byte) {
		all = append(all, illness{name, true, func(s uint32) []byte { return slices.Repeat(frame(s), times) }, 14, "upstream_reset", ofConn, calm})
	}
	same := func(frame []byte) func(uint32) []byte { return func(uint32) []byte { return frame } }
	half := func(s uint32) []byte { return frame(http2.FrameHeaders, 0, s, 0x88) }
	field := append([]byte("\x00\x01x\x7f\x80\x08"), make([]byte, 1151)...)
	const many = 20_000
	flood("PING", many, same(frame(http2.FramePing, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8)))
	flood("PING ACK", many, same(frame(http2.FramePing, http2.FlagPingAck, 0, 1, 6, 1, 8, 0, 3, 3, 9)))
	flood("SETTINGS", many, same(settings(http2.SettingMaxConcurrentStreams, 100)))
	flood("empty SETTINGS", many, same(frame(http2.FrameSettings, 0, 0)))
	flood("empty DATA", many, func(s uint32) []byte { return frame(http2.FrameData, 0, s) })
	flood("PRIORITY", many, func(s uint32) []byte { return frame(http2.FramePriority, 0, s, 0, 0, 0, 0, 16) })
	flood("WINDOW_UPDATE of the connection", many, same(windowUpdate(0, 1)))
	flood("WINDOW_UPDATE of the stream", many, func(s uint32) []byte { return windowUpdate(s, 1) })
	flood("frames of an unknown type", many, same(frame(0xbe, 0, 0)))
	flood("GOAWAY", many, same(frame(http2.FrameGoAway, 0, 0, 0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0)))
	flood("RST_STREAM of a call that has ended", many, same(frame(http2.FrameRSTStream, 0, 1, 0, 0, 0, 8)))
	for i, b := range []struct {
		name string
		part []byte
	}{{"CONTINUATION without end", field}, {"empty CONTINUATION", nil}} {
		all = append(all, illness{b.name, false, func(s uint32) []byte {
			return append(half(s), slices.Repeat(frame(http2.FrameContinuation, 0, s, b.part...), []int{2000, 100_000}[i])...)
		}, 14, "upstream_reset", ofConn, calm})
	}
	all = append(all, illness{"informational answers", false, func(s uint32) []byte {
		return slices.Repeat(answers(false, testbed.NewFields(":status", "103"))(s), many)
	}, 14, "upstream_reset", ofConn, calm})
	// The call ends with the first, and the connection with the others.
	all = append(all, illness{"RST_STREAM of the call, again and again", true, func(s uint32) []byte {
		return slices.Repeat(frame(http2.FrameRSTStream, 0, s, 0, 0, 0, 2), many)
	}, 13, "upstream_reset", ofConn, calm})
	return all
}
