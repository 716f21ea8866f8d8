package h2conn

import (
	"encoding/binary"

	"golang.org/x/net/http2"
)

const frameHeaderLen = 9 // RFC 9113 §4.1

// payloadLen is the length of a frame's payload, from its header.
func payloadLen(h []byte) int { return int(h[0])<<16 | int(h[1])<<8 | int(h[2]) }

// events receives what an observer sees. All calls come from the reading goroutine.
type events interface {
	onSettings(maxStreams uint32, set bool) // the end of a SETTINGS frame without ACK, and its MAX_CONCURRENT_STREAMS if it has one
	onSettingsAck()
	onPong(data [8]byte) // a PING with ACK
	onReset(stream uint32, code http2.ErrCode)
	onBareEnd(stream uint32) // DATA with END_STREAM, which ends a stream without trailers
	onCall()                 // DATA or HEADERS
}

// observer follows the frames of one direction of a connection without changing or keeping them. It costs a few
// nanoseconds a frame: only SETTINGS, PING and RST_STREAM payloads are looked at.
type observer struct {
	to events

	header  [frameHeaderLen]byte
	nheader int // bytes of header so far

	// Of the frame whose payload is being read:
	left    int // payload bytes to come
	typ     http2.FrameType
	flags   http2.Flags
	stream  uint32
	payload [8]byte // the start of the payload, or the setting being read
	npay    int

	maxStreams    uint32 // of the SETTINGS frame being read
	maxStreamsSet bool
}

// observe takes the next bytes of the connection.
func (o *observer) observe(b []byte) {
	for len(b) > 0 {
		if o.left > 0 {
			b = o.observePayload(b)
			continue
		}
		if o.nheader == 0 && len(b) >= frameHeaderLen {
			o.begin(b[:frameHeaderLen])
			b = b[frameHeaderLen:]
			continue
		}
		n := copy(o.header[o.nheader:], b)
		o.nheader += n
		b = b[n:]
		if o.nheader == frameHeaderLen {
			o.nheader = 0
			o.begin(o.header[:])
		}
	}
}

func (o *observer) begin(h []byte) {
	o.left = payloadLen(h)
	o.typ, o.flags = http2.FrameType(h[3]), http2.Flags(h[4])
	o.stream = binary.BigEndian.Uint32(h[5:]) & (1<<31 - 1)
	o.npay, o.maxStreamsSet = 0, false
	if o.typ == http2.FrameData || o.typ == http2.FrameHeaders {
		o.to.onCall()
		if o.typ == http2.FrameData && o.flags.Has(http2.FlagDataEndStream) {
			o.to.onBareEnd(o.stream)
		}
	}
	if o.left == 0 {
		o.end()
	}
}

func (o *observer) observePayload(b []byte) (rest []byte) {
	n := min(o.left, len(b))
	switch o.typ {
	case http2.FrameSettings:
		o.observeSettings(b[:n])
	case http2.FramePing, http2.FrameRSTStream:
		if o.npay < len(o.payload) {
			o.npay += copy(o.payload[o.npay:], b[:n])
		}
	}
	o.left -= n
	if o.left == 0 {
		o.end()
	}
	return b[n:]
}

// observeSettings reads entries of six bytes: a 16-bit identifier and a 32-bit value (RFC 9113 §6.5.1).
func (o *observer) observeSettings(b []byte) {
	const entryLen = 6
	for len(b) > 0 {
		n := copy(o.payload[o.npay:entryLen], b)
		o.npay += n
		b = b[n:]
		if o.npay == entryLen {
			o.npay = 0
			if http2.SettingID(binary.BigEndian.Uint16(o.payload[:])) == http2.SettingMaxConcurrentStreams {
				o.maxStreams, o.maxStreamsSet = binary.BigEndian.Uint32(o.payload[2:]), true
			}
		}
	}
}

func (o *observer) end() {
	const ack = 0x1 // of SETTINGS and of PING
	switch {
	case o.typ == http2.FrameSettings && o.flags&ack != 0:
		o.to.onSettingsAck()
	case o.typ == http2.FrameSettings:
		o.to.onSettings(o.maxStreams, o.maxStreamsSet)
	case o.typ == http2.FramePing && o.flags&ack != 0 && o.npay == 8:
		o.to.onPong(o.payload)
	case o.typ == http2.FrameRSTStream && o.npay >= 4:
		o.to.onReset(o.stream, http2.ErrCode(binary.BigEndian.Uint32(o.payload[:])))
	}
}
