package h2

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"
)

// What a server makes of a connection's first bytes.
func TestServer_Handshake(t *testing.T) {
	t.Parallel()
	preface := []byte(http2.ClientPreface)
	for name, x := range map[string]struct {
		in  []byte
		out []string
	}{
		"HTTP/1.1":             {[]byte("GET / HTTP/1.1\r\n\r\n"), fails("0", "PROTOCOL_ERROR", "protocol")},
		"one wrong byte":       {[]byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\rX"), fails("0", "PROTOCOL_ERROR", "protocol")},
		"TLS":                  {[]byte{0x16, 3, 1}, fails("0", "PROTOCOL_ERROR", "protocol")},
		"nothing":              {nil, nil},
		"half a preface":       {preface[:10], nil},
		"the preface":          {preface, nil},
		"PING first":           {cat(preface, raw(http2.FramePing, 0, 0, make([]byte, 8)...)), fails("0", "PROTOCOL_ERROR", "protocol")},
		"HEADERS first":        {cat(preface, request(0, 1, "/")), fails("0", "PROTOCOL_ERROR", "protocol")},
		"unknown frame first":  {cat(preface, raw(99, 0, 0)), fails("0", "PROTOCOL_ERROR", "protocol")},
		"SETTINGS ACK first":   {cat(preface, settingsAck()), fails("0", "PROTOCOL_ERROR", "protocol")},
		"SETTINGS on a stream": {cat(preface, raw(http2.FrameSettings, 0, 1)), fails("0", "PROTOCOL_ERROR", "protocol")},
		"SETTINGS first":       {cat(preface, settings()), frames("SETTINGS ACK")},
		"a long first frame":   {cat(preface, appendHeader(nil, 1<<20, http2.FrameSettings, 0, 0)), fails("0", "FRAME_SIZE_ERROR", "protocol")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			whole, bytewise := newPeer(t, Config{}, false), newPeer(t, Config{}, false)
			for _, p := range []*peer{whole, bytewise} {
				require.Equal(t, frames("SETTINGS", "WINDOW_UPDATE 0 4128769"), p.output())
			}
			whole.send(x.in)
			require.Equal(t, x.out, whole.output())
			for _, b := range x.in {
				bytewise.send([]byte{b})
			}
			require.Equal(t, x.out, bytewise.output())
		})
	}
}

func TestClient_Handshake(t *testing.T) {
	t.Parallel()
	p := newPeer(t, Config{ConnWindow: 65535, StreamWindow: 65535}, true)
	s := p.open(true) // before the server's SETTINGS
	require.Equal(t, frames("SETTINGS", "HEADERS 1 :method=POST :scheme=http :path=/ :authority=a END"), p.output())
	require.False(t, p.conn.Settled())
	require.EqualValues(t, 1<<31-1, p.conn.MaxStreams())
	p.send(settings(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 3}), settingsAck(), answer(flagEndStream, 1))
	require.Equal(t, frames("SETTINGS ACK"), p.output())
	require.Equal(t, []string{"settings", "head 1 200 END", "done 1"}, p.events.take())
	require.EqualValues(t, 3, p.conn.MaxStreams())
	require.False(t, s.IsOpen())

	p = newPeer(t, Config{}, true)
	p.output()
	p.send([]byte("HTTP/1.1 400 Bad Request\r\n"))
	require.Equal(t, fails("0", "FRAME_SIZE_ERROR", "protocol"), p.output())
}

// SETTINGS are applied in their order, and each of them has its bounds (RFC 9113 §6.5.2).
func TestServer_Settings(t *testing.T) {
	t.Parallel()
	one := func(id http2.SettingID, v uint32) []byte { return settings(http2.Setting{ID: id, Val: v}) }
	ack, changed := frames("SETTINGS ACK"), []string{"settings"}
	runExchanges(t, newServerPeer, []exchange{
		{name: "none", in: settings(), out: ack, events: changed},
		{name: "an unknown one", in: one(0x7f00, 1<<32-1), out: ack, events: changed},
		{name: "INITIAL_WINDOW_SIZE 2^31-1", in: one(http2.SettingInitialWindowSize, 1<<31-1), out: ack, events: changed},
		{name: "INITIAL_WINDOW_SIZE 2^31", in: one(http2.SettingInitialWindowSize, 1<<31), out: fails("0", "FLOW_CONTROL_ERROR", "window_overflow")},
		{name: "MAX_FRAME_SIZE 16383", in: one(http2.SettingMaxFrameSize, 16383), out: fails("0", "PROTOCOL_ERROR", "protocol")},
		{name: "MAX_FRAME_SIZE 16384", in: one(http2.SettingMaxFrameSize, 16384), out: ack, events: changed},
		{name: "MAX_FRAME_SIZE 2^24-1", in: one(http2.SettingMaxFrameSize, 1<<24-1), out: ack, events: changed},
		{name: "MAX_FRAME_SIZE 2^24", in: one(http2.SettingMaxFrameSize, 1<<24), out: fails("0", "PROTOCOL_ERROR", "protocol")},
		{name: "ENABLE_PUSH 0", in: one(http2.SettingEnablePush, 0), out: ack, events: changed},
		{name: "ENABLE_PUSH 1", in: one(http2.SettingEnablePush, 1), out: ack, events: changed},
		{name: "ENABLE_PUSH 2", in: one(http2.SettingEnablePush, 2), out: fails("0", "PROTOCOL_ERROR", "protocol")},
		{name: "HEADER_TABLE_SIZE 0", in: one(http2.SettingHeaderTableSize, 0), out: ack, events: changed},
		{name: "HEADER_TABLE_SIZE 2^32-1", in: one(http2.SettingHeaderTableSize, 1<<32-1), out: ack, events: changed},
		{name: "a good one, then a bad one", in: settings(http2.Setting{ID: http2.SettingEnablePush}, http2.Setting{ID: http2.SettingMaxFrameSize}), out: fails("0", "PROTOCOL_ERROR", "protocol")},
		{name: "a window over 2^31-1", before: first(request(0, 1, "/"), update(1, 1)), in: one(http2.SettingInitialWindowSize, 1<<31-1),
			out: fails("1", "FLOW_CONTROL_ERROR", "window_overflow"), events: []string{"reset 1 FLOW_CONTROL_ERROR conn"}},
	})
}

// The peer may use a table of 4,096 bytes until it has seen that it is to be smaller (RFC 9113 §6.5.2, RFC 7541 §4.2).
func TestServer_SmallHeaderTable(t *testing.T) {
	t.Parallel()
	p := newPeer(t, Config{HeaderTable: 100}, false)
	p.send([]byte(http2.ClientPreface), settings(), raw(http2.FrameHeaders, flagEndHeaders, 1, cat(encode(":method=POST", ":scheme=http", ":path=/"), indexingField("x", 100))...))
	p.send(raw(http2.FrameHeaders, flagEndHeaders, 3, append(encode(":method=POST", ":scheme=http", ":path=/"), 0xbe)...)) // the entry
	require.Equal(t, []string{"settings", "head 1", "head 3"}, p.events.take())
	p.send(settingsAck())
	update := []byte{0x3f, 100 - 31}
	p.send(raw(http2.FrameHeaders, flagEndHeaders, 5, cat(update, encode(":method=POST", ":scheme=http", ":path=/"))...))
	require.Equal(t, []string{"head 5"}, p.events.take())
	p.output()
	p.send(raw(http2.FrameHeaders, flagEndHeaders, 7, 0x3f, 101-31))
	require.Equal(t, fails("5", "COMPRESSION_ERROR", "bad_header_block"), p.output())
}

// The table is the peer's: a shorter one is announced with the next block, before the SETTINGS are acknowledged.
func TestServer_PeersHeaderTable(t *testing.T) {
	t.Parallel()
	p := newServerPeer(t, Config{})
	p.send(settings(http2.Setting{ID: http2.SettingHeaderTableSize, Val: 0}))
	p.framer.ReadMetaHeaders.SetAllowedMaxDynamicTableSize(0)
	for id := uint32(1); id < 9; id += 2 {
		p.send(request(flagEndStream, id, "/answer"))
	}
	require.Len(t, p.output(), 5)
}

// A peer has a time to begin with preface and SETTINGS, and to acknowledge ours.
func TestTick_Handshake(t *testing.T) {
	t.Parallel()
	limit := 10 * time.Second
	for name, x := range map[string]struct {
		client bool
		in     []byte
		fails  bool
	}{
		"no preface":      {false, nil, true},
		"half a preface":  {false, []byte("PRI"), true},
		"no SETTINGS":     {false, []byte(http2.ClientPreface), true},
		"no SETTINGS ACK": {false, cat([]byte(http2.ClientPreface), settings()), true},
		"all":             {false, cat([]byte(http2.ClientPreface), settings(), settingsAck()), false},
		"a silent server": {true, nil, true},
		"a server":        {true, cat(settings(), settingsAck()), false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPeer(t, Config{}, x.client)
			p.send(x.in)
			p.output()
			p.conn.Tick(int64(limit))
			require.Empty(t, p.output())
			p.conn.Tick(int64(limit) + 1)
			if !x.fails {
				require.Empty(t, p.output())
				return
			}
			require.Equal(t, fails("0", "SETTINGS_TIMEOUT", "handshake_timeout"), p.output())
		})
	}
}
