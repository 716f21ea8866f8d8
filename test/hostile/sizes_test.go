package hostile

import (
	"fmt"

	"golang.org/x/net/http2"
)

// maxFrame is the payload that framegate takes (RFC 9113 §4.2).
const maxFrame = 1 << 14

// sizeMistakes are frames of a wrong size.
func sizeMistakes() []mistake {
	wrong := []mistake{
		{"PRIORITY of 4 bytes", open, frame(http2.FramePriority, 0, 1, 0, 0, 0, 3), ofStream, frameSize}, // RFC 9113 §6.3
		{"PRIORITY of 6 bytes", open, frame(http2.FramePriority, 0, 1, 0, 0, 0, 3, 16, 0), ofStream, frameSize},
		{"RST_STREAM of 3 bytes", open, frame(http2.FrameRSTStream, 0, 1, 0, 0, 8), ofConn, frameSize},
		{"RST_STREAM of 5 bytes", open, frame(http2.FrameRSTStream, 0, 1, 0, 0, 0, 8, 0), ofConn, frameSize},
		{"SETTINGS of 5 bytes", idle, frame(http2.FrameSettings, 0, 0, 0, 4, 0, 0, 0), ofConn, frameSize},
		{"SETTINGS of 7 bytes", idle, frame(http2.FrameSettings, 0, 0, 0, 4, 0, 0, 0, 1, 0), ofConn, frameSize},
		{"an ACK of SETTINGS with a parameter", idle, frame(http2.FrameSettings, http2.FlagSettingsAck, 0, 0, 4, 0, 0, 0, 1), ofConn, frameSize},
		{"PING of 7 bytes", idle, frame(http2.FramePing, 0, 0, 1, 2, 3, 4, 5, 6, 7), ofConn, frameSize},
		{"PING of 9 bytes", idle, frame(http2.FramePing, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9), ofConn, frameSize},
		{"an ACK of PING of no bytes", idle, frame(http2.FramePing, http2.FlagPingAck, 0), ofConn, frameSize},
		{"GOAWAY of 7 bytes", idle, frame(http2.FrameGoAway, 0, 0, 0, 0, 0, 0, 0, 0, 0), ofConn, frameSize},
		{"WINDOW_UPDATE of 3 bytes", idle, frame(http2.FrameWindowUpdate, 0, 0, 0, 0, 1), ofConn, frameSize},
		{"WINDOW_UPDATE of 5 bytes on a stream", open, frame(http2.FrameWindowUpdate, 0, 1, 0, 0, 0, 1, 0), ofConn, frameSize},
		{"HEADERS too short for their priority", idle, frame(http2.FrameHeaders, priority|endHeaders, 1, 0, 0, 0, 3), ofConn, frameSize},
		{"HEADERS too short for their padding", idle, frame(http2.FrameHeaders, padded|endHeaders, 1), ofConn, frameSize},
	}
	for kind := http2.FrameData; kind <= http2.FrameContinuation+1; kind++ { // the last is unknown
		stream := uint32(1)
		if kind == http2.FrameSettings || kind == http2.FramePing || kind == http2.FrameGoAway {
			stream = 0
		}
		for _, n := range []int{maxFrame + 1, 1<<24 - 1} {
			header := []byte{byte(n >> 16), byte(n >> 8), byte(n), byte(kind), 0, 0, 0, 0, byte(stream)}
			wrong = append(wrong, mistake{fmt.Sprintf("type %#x of %d bytes", byte(kind), n), open, header, ofConn, frameSize})
		}
	}
	return wrong
}
