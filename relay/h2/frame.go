package h2

import (
	"encoding/binary"

	"golang.org/x/net/http2"
)

const (
	// frameHeaderLen is the length of a frame's header (RFC 9113 §4.1).
	frameHeaderLen = 9

	// maxFrameLen is the payload that this end takes and sends: the initial value of SETTINGS_MAX_FRAME_SIZE, which is never
	// raised. A peer that allows longer frames gets none, so that a frame is never longer on one side of a proxy than on the
	// other.
	maxFrameLen = 16384
)

// The flags of frames (RFC 9113 §6). endStream and ack are the same bit.
const (
	flagEndStream  = 0x1
	flagAck        = 0x1
	flagEndHeaders = 0x4
	flagPadded     = 0x8
	flagPriority   = 0x20
)

// frame is one frame that was received. Its payload is the receiver's only until the frame was handled.
type frame struct {
	typ     http2.FrameType
	flags   byte
	stream  uint32
	payload []byte
}

func (f *frame) has(flag byte) bool { return f.flags&flag != 0 }

// payloadLen returns the payload's length that a frame's header announces.
func payloadLen(header []byte) int {
	return int(header[0])<<16 | int(header[1])<<8 | int(header[2])
}

// parseFrame returns the frame that b holds, header and all.
func parseFrame(b []byte) frame {
	return frame{typ: http2.FrameType(b[3]), flags: b[4], stream: binary.BigEndian.Uint32(b[5:]) & (1<<31 - 1), payload: b[frameHeaderLen:]}
}

// unpadded returns the payload of a DATA or HEADERS frame without its padding, and false if the padding is longer than the
// frame (RFC 9113 §6.1).
func (f *frame) unpadded() ([]byte, bool) {
	if !f.has(flagPadded) {
		return f.payload, true
	}
	if len(f.payload) == 0 || int(f.payload[0]) >= len(f.payload) {
		return nil, false
	}
	return f.payload[1 : len(f.payload)-int(f.payload[0])], true
}

// appendHeader appends the header of a frame with n bytes of payload.
func appendHeader(b []byte, n int, typ http2.FrameType, flags byte, stream uint32) []byte {
	return append(b, byte(n>>16), byte(n>>8), byte(n), byte(typ), flags, byte(stream>>24), byte(stream>>16), byte(stream>>8), byte(stream))
}

func appendWindowUpdate(b []byte, stream, n uint32) []byte {
	return binary.BigEndian.AppendUint32(appendHeader(b, 4, http2.FrameWindowUpdate, 0, stream), n)
}

func appendReset(b []byte, stream uint32, code http2.ErrCode) []byte {
	return binary.BigEndian.AppendUint32(appendHeader(b, 4, http2.FrameRSTStream, 0, stream), uint32(code))
}

func appendPing(b []byte, flags byte, data [8]byte) []byte {
	return append(appendHeader(b, 8, http2.FramePing, flags, 0), data[:]...)
}

// maxDebug bounds the debug data of a GOAWAY that is sent.
const maxDebug = 128

func appendGoAway(b []byte, last uint32, code http2.ErrCode, debug string) []byte {
	debug = debug[:min(len(debug), maxDebug)]
	b = appendHeader(b, 8+len(debug), http2.FrameGoAway, 0, 0)
	b = binary.BigEndian.AppendUint32(b, last)
	b = binary.BigEndian.AppendUint32(b, uint32(code))
	return append(b, debug...)
}

func appendSetting(b []byte, id http2.SettingID, v uint32) []byte {
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint16(b, uint16(id)), v)
}
