package main

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"io"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// window is a flow-control window, in bytes, that no call or connection of a measurement uses up.
const window = 1 << 30

// appendFrame appends a frame to b.
func appendFrame(b []byte, kind http2.FrameType, flags http2.Flags, stream uint32, payload []byte) []byte {
	n := len(payload)
	b = append(b, byte(n>>16), byte(n>>8), byte(n), byte(kind), byte(flags))
	b = binary.BigEndian.AppendUint32(b, stream)
	return append(b, payload...)
}

// greeting returns the first frames of either side: SETTINGS, and WINDOW_UPDATE for the connection.
func greeting() []byte {
	settings := binary.BigEndian.AppendUint16(nil, uint16(http2.SettingInitialWindowSize))
	settings = binary.BigEndian.AppendUint32(settings, window)
	settings = binary.BigEndian.AppendUint16(settings, uint16(http2.SettingMaxConcurrentStreams))
	settings = binary.BigEndian.AppendUint32(settings, 1<<20)
	b := appendFrame(nil, http2.FrameSettings, 0, 0, settings)
	return appendFrame(b, http2.FrameWindowUpdate, 0, 0, binary.BigEndian.AppendUint32(nil, window))
}

// block returns a header block (HPACK, RFC 7541) of names and values in turn. It does not use the dynamic table, so it is
// valid at any point of any connection.
func block(fields ...string) []byte {
	var b bytes.Buffer
	e := hpack.NewEncoder(&b)
	e.SetMaxDynamicTableSize(0)
	for i := 0; i < len(fields); i += 2 {
		_ = e.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]}) // a bytes.Buffer never fails
	}
	return b.Bytes()
}

// message returns a gRPC message of 100 bytes with its prefix.
func message() []byte {
	b := make([]byte, 105)
	b[4] = 100
	return b
}

// header is the header of a frame.
type header struct {
	length int
	kind   http2.FrameType
	flags  http2.Flags
	stream uint32
}

// next reads a frame and returns its header, with the payload of PING, RST_STREAM and GOAWAY only.
func next(r *bufio.Reader) (h header, payload []byte, err error) {
	var b [9]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return h, nil, err
	}
	h = header{int(b[0])<<16 | int(b[1])<<8 | int(b[2]), http2.FrameType(b[3]), http2.Flags(b[4]), binary.BigEndian.Uint32(b[5:])}
	if h.kind == http2.FramePing || h.kind == http2.FrameRSTStream || h.kind == http2.FrameGoAway {
		payload = make([]byte, h.length) // its length is trusted: the peer is framegate
		_, err = io.ReadFull(r, payload)
		return h, payload, err
	}
	_, err = r.Discard(h.length)
	return h, nil, err
}

// ack returns the frame that acknowledges SETTINGS or PING; nil if the frame wants none.
func (h header) ack(payload []byte) []byte {
	if (h.kind == http2.FrameSettings || h.kind == http2.FramePing) && !h.flags.Has(http2.FlagSettingsAck) {
		return appendFrame(nil, h.kind, http2.FlagSettingsAck, 0, payload)
	}
	return nil
}

// ended reports whether the frame ends its stream's direction.
func (h header) ended() bool {
	return (h.kind == http2.FrameHeaders || h.kind == http2.FrameData) && h.flags.Has(http2.FlagDataEndStream)
}
