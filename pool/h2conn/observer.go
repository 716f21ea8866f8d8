package h2conn

import (
	"encoding/binary"

	"golang.org/x/net/http2"
)

// events receives the events that an observer finds. Its methods are called by the goroutine that reads.
type events interface {
	onSettings(maxStreams uint32, set bool)    // a SETTINGS without ACK; maxStreams is its MAX_CONCURRENT_STREAMS if set
	onSettingsAck()                            // a SETTINGS with ACK
	onPong(data [8]byte)                       // a PING with ACK
	onReset(stream uint32, code http2.ErrCode) // a RST_STREAM
	onBareEnd(stream uint32)                   // DATA with END_STREAM, which ends a stream without trailers
	onCall()                                   // DATA or HEADERS
}

// observer follows the frames that the peer sends, and reports events. It takes a few nanoseconds a frame, because it reads
// only the payloads of SETTINGS, PING and RST_STREAM.
type observer struct {
	to       events
	follower Follower

	// Of the frame that is being read:
	header  FrameHeader
	payload [8]byte // the start of the payload; of SETTINGS, the current entry
	npay    int     // bytes of payload that are set

	maxStreams    uint32 // MAX_CONCURRENT_STREAMS of the SETTINGS frame that is being read
	maxStreamsSet bool
}

// observe processes the next bytes of the connection.
func (o *observer) observe(b []byte) {
	if o.follower.To == nil {
		o.follower.To = o
	}
	o.follower.Follow(b)
}

// Begin implements Frames.
func (o *observer) Begin(h FrameHeader) (wantPayload bool) {
	o.header = h
	o.npay, o.maxStreamsSet = 0, false
	switch h.Type {
	case http2.FrameData:
		o.to.onCall()
		if h.Flags.Has(http2.FlagDataEndStream) {
			o.to.onBareEnd(h.Stream)
		}
	case http2.FrameHeaders:
		o.to.onCall()
	case http2.FrameSettings, http2.FramePing, http2.FrameRSTStream:
		return true
	}
	return false
}

// Payload implements Frames.
func (o *observer) Payload(b []byte) {
	if o.header.Type == http2.FrameSettings {
		o.observeSettings(b)
	} else if o.npay < len(o.payload) {
		o.npay += copy(o.payload[o.npay:], b)
	}
}

// observeSettings reads the entries of a SETTINGS frame, each with a 16-bit identifier and a 32-bit value (RFC 9113 §6.5.1).
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

// End implements Frames.
func (o *observer) End() {
	const ack = 0x1 // of SETTINGS and of PING
	switch h := o.header; {
	case h.Type == http2.FrameSettings && h.Flags&ack != 0:
		o.to.onSettingsAck()
	case h.Type == http2.FrameSettings:
		o.to.onSettings(o.maxStreams, o.maxStreamsSet)
	case h.Type == http2.FramePing && h.Flags&ack != 0 && o.npay == 8:
		o.to.onPong(o.payload)
	case h.Type == http2.FrameRSTStream && o.npay >= 4:
		o.to.onReset(h.Stream, http2.ErrCode(binary.BigEndian.Uint32(o.payload[:])))
	}
}
