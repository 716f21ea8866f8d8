package h2

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/net/http2"
)

// spend charges one of a kind, and reports whether the connection goes on.
func (c *Conn) spend(k kind) bool {
	if c.budget.spend(k, c.now) {
		return true
	}
	c.fail(http2.ErrCodeEnhanceYourCalm, floods[k], "over the limit of the connection: "+string(floods[k]))
	return false
}

// wantLen reports whether a frame has the length that its type demands, and fails the connection otherwise.
func (c *Conn) wantLen(f *frame, n int) bool {
	if len(f.payload) == n {
		return true
	}
	c.fail(http2.ErrCodeFrameSize, BadProtocol, fmt.Sprintf("%s of %d bytes, want %d", f.typ, len(f.payload), n))
	return false
}

// wantConn reports whether a frame is on stream 0, and fails the connection otherwise.
func (c *Conn) wantConn(f *frame) bool {
	if f.stream == 0 {
		return true
	}
	c.fail(http2.ErrCodeProtocol, BadProtocol, fmt.Sprintf("%s on stream %d, want 0", f.typ, f.stream))
	return false
}

// receiveSettings takes a SETTINGS frame (RFC 9113 §6.5).
func (c *Conn) receiveSettings(f *frame) {
	if !c.wantConn(f) || !c.spend(settingsFrames) {
		return
	}
	if f.has(flagAck) {
		if c.wantLen(f, 0) && !c.acked {
			c.acked = true
			c.decoder.SetTableSize(c.cfg.HeaderTable)
		}
		return
	}
	if len(f.payload)%6 != 0 {
		c.fail(http2.ErrCodeFrameSize, BadProtocol, fmt.Sprintf("SETTINGS of %d bytes, want a multiple of 6", len(f.payload)))
		return
	}
	for p := f.payload; len(p) > 0; p = p[6:] {
		// Each one is charged: SETTINGS_INITIAL_WINDOW_SIZE changes all streams, and a frame has room for 2,730 of them.
		if !c.spend(settingsFrames) || !c.applySetting(http2.SettingID(binary.BigEndian.Uint16(p)), binary.BigEndian.Uint32(p[2:])) {
			return
		}
	}
	c.out = appendHeader(c.out, 0, http2.FrameSettings, flagAck, 0)
	if !c.settled {
		c.settled = true
		c.state = running
	}
	c.wake()
	c.sendReady()
	c.events.SettingsChanged()
}

// applySetting applies one of the peer's settings (RFC 9113 §6.5.2), and reports whether the connection goes on.
func (c *Conn) applySetting(id http2.SettingID, v uint32) bool {
	switch id {
	case http2.SettingHeaderTableSize:
		c.encoder.SetMaxTableSize(v)
	case http2.SettingEnablePush:
		if v > 1 || v == 1 && !c.server {
			c.fail(http2.ErrCodeProtocol, BadProtocol, fmt.Sprintf("SETTINGS_ENABLE_PUSH: %d", v))
			return false
		}
	case http2.SettingMaxConcurrentStreams:
		c.maxStreams = min(v, noLimit)
	case http2.SettingInitialWindowSize:
		return c.setInitialWindow(v)
	case http2.SettingMaxFrameSize:
		if v < maxFrameLen || v >= 1<<24 {
			c.fail(http2.ErrCodeProtocol, BadProtocol, fmt.Sprintf("SETTINGS_MAX_FRAME_SIZE: %d, want 16384 to 16777215", v))
			return false
		}
	}
	return true
}

// setInitialWindow changes the windows of all streams (RFC 9113 §6.9.2).
func (c *Conn) setInitialWindow(v uint32) bool {
	if v > maxWindow {
		c.fail(http2.ErrCodeFlowControl, BadFlowControl, fmt.Sprintf("SETTINGS_INITIAL_WINDOW_SIZE: %d, want at most 2^31-1", v))
		return false
	}
	change := int64(v) - int64(c.initialWindow)
	c.initialWindow = int32(v)
	for _, s := range c.streams.slots {
		if s == nil {
			continue
		}
		window := int64(s.sendWindow) + change
		if window > maxWindow {
			c.fail(http2.ErrCodeFlowControl, BadFlowControl, "SETTINGS_INITIAL_WINDOW_SIZE takes a stream's window over 2^31-1")
			return false
		}
		s.sendWindow = int32(window)
		if s.sendWindow <= 0 {
			c.ready.remove(s)
		} else if s.queue.n > 0 {
			c.ready.push(s)
		}
	}
	return true
}

// receiveWindowUpdate takes a WINDOW_UPDATE frame (RFC 9113 §6.9).
func (c *Conn) receiveWindowUpdate(f *frame) {
	if !c.wantLen(f, 4) || !c.spend(windowUpdates) {
		return
	}
	n := int64(binary.BigEndian.Uint32(f.payload) & maxWindow)
	if f.stream == 0 {
		switch {
		case n == 0:
			c.fail(http2.ErrCodeProtocol, BadProtocol, "WINDOW_UPDATE of 0 on the connection")
		case c.sendWindow+n > maxWindow:
			c.fail(http2.ErrCodeFlowControl, BadFlowControl, "WINDOW_UPDATE takes the connection's window over 2^31-1")
		default:
			c.sendWindow += n
			c.sendReady()
		}
		return
	}
	s := c.streams.get(f.stream)
	if s == nil {
		if c.isIdle(f.stream) {
			c.fail(http2.ErrCodeProtocol, BadProtocol, fmt.Sprintf("WINDOW_UPDATE on stream %d, which was never opened", f.stream))
		}
		return
	}
	switch {
	case n == 0:
		c.streamError(s, http2.ErrCodeProtocol, "WINDOW_UPDATE of 0")
	case int64(s.sendWindow)+n > maxWindow:
		c.streamError(s, http2.ErrCodeFlowControl, "WINDOW_UPDATE takes the stream's window over 2^31-1")
	default:
		s.sendWindow += int32(n)
		if s.queue.n > 0 {
			c.ready.push(s)
			c.sendReady()
		}
	}
}

// receiveReset takes a RST_STREAM frame (RFC 9113 §6.4).
func (c *Conn) receiveReset(f *frame) {
	if !c.wantLen(f, 4) || !c.spend(otherFrames) {
		return
	}
	if f.stream == 0 || c.isIdle(f.stream) {
		c.fail(http2.ErrCodeProtocol, BadProtocol, fmt.Sprintf("RST_STREAM on stream %d, which was never opened", f.stream))
		return
	}
	s := c.streams.get(f.stream)
	if s == nil {
		return
	}
	r := Reset{Code: http2.ErrCode(binary.BigEndian.Uint32(f.payload)), Peer: true}
	r.Unprocessed = !c.server && r.Code == http2.ErrCodeRefusedStream && s.in == headers
	// A server that has answered may reset a stream whose request goes on (RFC 9113 §8.1), and one that is full refuses streams.
	rapid := (c.server || s.in != ended && !r.Unprocessed) && c.now-s.opened < int64(c.cfg.Limits.RapidResets.Within)
	c.recent.add(s.id, peerReset)
	c.forget(s)
	c.events.Reset(s, &r)
	if rapid {
		c.spend(rapidResets)
	}
}

// receivePing takes a PING frame (RFC 9113 §6.7).
func (c *Conn) receivePing(f *frame) {
	if !c.wantConn(f) || !c.wantLen(f, 8) {
		return
	}
	if !f.has(flagAck) {
		switch {
		case !c.spend(pings):
		case c.server && !c.budget.ping(c.now):
			c.fail(http2.ErrCodeEnhanceYourCalm, TooManyPings, "a PING sooner than "+c.cfg.MinPing.String()+" after the one before")
		default:
			c.out = appendPing(c.out, flagAck, [8]byte(f.payload))
			c.wake()
		}
		return
	}
	if c.pings == 0 {
		c.spend(pings) // an answer to no PING is no error in RFC 9113, and worth nothing
		return
	}
	c.pings--
	c.events.Pong()
}

// Ping sends a PING with that payload. Events.Pong tells of the answer.
func (c *Conn) Ping(data [8]byte) {
	if c.state >= ending {
		return
	}
	c.pings++
	c.out = appendPing(c.out, 0, data)
	c.wake()
}

// receiveGoAway takes a GOAWAY frame (RFC 9113 §6.8).
func (c *Conn) receiveGoAway(f *frame) {
	if !c.wantConn(f) || !c.spend(otherFrames) {
		return
	}
	if len(f.payload) < 8 {
		c.fail(http2.ErrCodeFrameSize, BadProtocol, fmt.Sprintf("GOAWAY of %d bytes, want at least 8", len(f.payload)))
		return
	}
	last := binary.BigEndian.Uint32(f.payload) & maxWindow
	code := http2.ErrCode(binary.BigEndian.Uint32(f.payload[4:]))
	c.peerGone = true
	if !c.server {
		for _, s := range c.streams.all() {
			if s.conn == c && s.in != closed && s.id > last {
				c.recent.add(s.id, wasReset)
				c.forget(s)
				c.events.Reset(s, &Reset{Code: code, Peer: true, Text: "GOAWAY", Unprocessed: true})
			}
		}
	}
	c.events.GoingAway(code, clip(string(f.payload[8:])))
}

// IsLeaving reports whether either end has sent a GOAWAY, so that no stream is to be opened any more.
func (c *Conn) IsLeaving() bool { return c.peerGone || c.leaving || c.state >= ending }

// AnnounceGoAway tells the peer that it is to open no more streams, and takes those that are under way all the same (RFC 9113
// §6.8). GoAway follows, when the peer has answered a Ping. It is for servers.
func (c *Conn) AnnounceGoAway() {
	if c.state < ending && !c.leaving {
		c.out = appendGoAway(c.out, maxWindow, http2.ErrCodeNo, "")
		c.wake()
	}
}

// GoAway tells the peer which streams of its are served, and that there will be no further ones.
func (c *Conn) GoAway() {
	if c.state >= ending || c.leaving {
		return
	}
	c.leaving, c.leaveID = true, c.lastID
	c.out = appendGoAway(c.out, c.lastServed(), http2.ErrCodeNo, "")
	c.wake()
}

// receivePriority takes a PRIORITY frame, which does nothing (RFC 9113 §5.3.2), but must be well formed.
func (c *Conn) receivePriority(f *frame) {
	if f.stream == 0 {
		c.fail(http2.ErrCodeProtocol, BadProtocol, "PRIORITY on stream 0")
		return
	}
	if !c.spend(priorities) {
		return
	}
	problem := http2.ErrCodeNo
	switch {
	case len(f.payload) != 5:
		problem = http2.ErrCodeFrameSize // RFC 9113 §6.3: an error of the stream
	case dependsOn(f.payload) == f.stream:
		problem = http2.ErrCodeProtocol // RFC 7540 §5.3.1
	default:
		return
	}
	if s := c.streams.get(f.stream); s != nil {
		c.streamError(s, problem, "a PRIORITY that is malformed")
		return
	}
	if c.isIdle(f.stream) { // a stream that was never opened cannot be reset
		c.fail(problem, BadProtocol, "a PRIORITY that is malformed")
		return
	}
	c.out = appendReset(c.out, f.stream, problem)
	c.wake()
}

// dependsOn returns the stream that a priority names. Its length must be at least 5.
func dependsOn(p []byte) uint32 { return binary.BigEndian.Uint32(p) & maxWindow }
