package hostile

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"

	"github.com/framegate/framegate/test/testbed"
)

const calm = http2.ErrCodeEnhanceYourCalm

// flood is what a client sends too much of. None of its frames is forbidden, so that only their number can be an offence. It is
// short enough that framegate reads it to its end, so that the client reads the GOAWAY.
type flood struct {
	name    string
	state   state // of stream 1, before
	begin   []byte
	again   func(i uint32) []byte
	times   int
	few     int    // so many are no offence
	offence string // the debug data of the GOAWAY
}

// The debug data of GOAWAYs.
const (
	pings    = "too_many_pings"
	controls = "too_many_control_frames"
	resets   = "too_many_resets"
	provoked = "too_many_provoked_resets"
)

// controlFloods are floods of frames that are no calls.
func controlFloods() []flood {
	same := func(frame []byte) func(uint32) []byte { return func(uint32) []byte { return frame } }
	ack := func(payload ...byte) []byte { return frame(http2.FramePing, http2.FlagPingAck, 0, payload...) }
	field := append([]byte("\x00\x01x\x7f\x80\x08"), make([]byte, 1151)...) // x: 1151 bytes, which do not go into the table
	half := frame(http2.FrameHeaders, 0, 1, 0x83)                           // of a header block
	gone := frame(http2.FrameRSTStream, 0, 1, 0, 0, 0, 8)
	const many, few = 20_000, 20
	return []flood{
		{"PING", idle, nil, same(frame(http2.FramePing, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8)), many, 3, pings},
		{"PING ACKs that answer nothing", idle, nil, same(ack(0, 0, 0, 0, 0, 0, 0, 0)), many, few, "ping_flood"},
		{"PING ACKs with the payload of Kitex's own PING", idle, nil, same(ack(1, 6, 1, 8, 0, 3, 3, 9)), many, few, "ping_flood"},
		{"empty SETTINGS", idle, nil, same(frame(http2.FrameSettings, 0, 0)), many, few, "settings_flood"},
		{"SETTINGS", open, nil, func(i uint32) []byte { return settings(http2.SettingInitialWindowSize, i%65536) }, many, few, "settings_flood"},
		{"parameters of SETTINGS", open, nil, same(frame(http2.FrameSettings, 0, 0, slices.Repeat([]byte{0, 4, 0, 0, 0xff, 0xff}, maxFrame/6)...)), 8, 0, "settings_flood"},
		{"SETTINGS ACKs", idle, nil, same(frame(http2.FrameSettings, http2.FlagSettingsAck, 0)), many, few, "settings_flood"},
		{"empty DATA", open, nil, same(frame(http2.FrameData, 0, 1)), 100_000, few, "empty_data_flood"},
		{"DATA of nothing but padding", open, nil, same(frame(http2.FrameData, padded, 1, 1, 0)), many, few, "empty_data_flood"},
		{"PRIORITY", idle, nil, func(i uint32) []byte { return frame(http2.FramePriority, 0, 2*i+1, 0, 0, 0, 0, 16) }, many, few, "priority_flood"},
		{"PRIORITY of an open stream", open, nil, same(frame(http2.FramePriority, 0, 1, 0, 0, 0, 0, 16)), many, few, "priority_flood"},
		{"frames of an unknown type", idle, nil, func(i uint32) []byte { return frame(http2.FrameType(10+i%200), 0xff, i) }, many, few, "unknown_frame_flood"},
		{"GOAWAY", idle, nil, same(frame(http2.FrameGoAway, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)), many, 1, controls},
		{"WINDOW_UPDATE of the connection", idle, nil, same(windowUpdate(0, 1)), many, few, "window_update_flood"},
		{"WINDOW_UPDATE of a stream", open, nil, same(windowUpdate(1, 1)), many, few, "window_update_flood"},
		{"WINDOW_UPDATE of a stream that has ended", ended, nil, same(windowUpdate(1, 1)), many, few, "window_update_flood"},
		{"RST_STREAM of a stream that has ended", ended, nil, same(gone), many, few, controls},
		{"RST_STREAM of one stream", reset, nil, same(gone), many, few, controls},
		{"HEADERS of a stream that was reset", reset, nil, same(frame(http2.FrameHeaders, endHeaders|endStream, 1, 0x83)), many, few, controls},
		{"DATA of a stream that was reset", reset, nil, same(frame(http2.FrameData, 0, 1, 'x')), many, few, controls},
		{"CONTINUATION without end", idle, half, same(frame(http2.FrameContinuation, 0, 1, field...)), 1700, 0, "header_block_too_long"},
		{"empty CONTINUATION", idle, half, same(frame(http2.FrameContinuation, 0, 1)), 100_000, 0, "too_many_continuations"},
	}
}

// resetFloods are calls that the client resets at once (CVE-2023-44487).
func resetFloods(encode encoder, w way) []flood {
	const many, few = 20_000, 20
	then := func(request func(stream uint32) []byte) func(i uint32) []byte {
		return func(i uint32) []byte {
			stream := 2*i + 1
			return append(request(stream), frame(http2.FrameRSTStream, 0, stream, 0, 0, 0, 8)...)
		}
	}
	return []flood{
		{"HEADERS and RST_STREAM", idle, nil, then(encode(held(w), false)), many, few, resets},
		{"requests that end, and RST_STREAM", idle, nil, then(encode(held(w), true)), many, few, resets},
		{"requests of framegate's own health, and RST_STREAM", idle, nil, then(encode(to(healthMethod), false)), many, few, resets},
	}
}

// write calls w with the flood, in parts, until that fails.
func (f *flood) write(w func(b []byte) error) {
	const part = 256 << 10
	b := slices.Clone(f.begin)
	for i := range f.times {
		b = append(b, f.again(uint32(i))...)
		if len(b) < part && i < f.times-1 {
			continue
		}
		if w(b) != nil {
			return
		}
		b = b[:0]
	}
}

// run floods a connection, and wants it to end with the offence.
func (f *flood) run(t *testing.T, addr string) {
	t.Helper()
	c := testbed.DialH2(t, addr)
	f.state.enter(t, c, relayed)
	f.write(c.WriteBytes)
	g := wantConnError(t, c, calm)
	require.Equal(t, f.offence, g.Debug)
}

// floodAttacks sends too much of what is allowed. That ends the connection, and costs nobody else anything.
func floodAttacks(t *testing.T, w *world) {
	for _, f := range append(controlFloods(), resetFloods(indexed, relayed)...) {
		w.attack(t, f.name, func(t *testing.T) { f.run(t, w.proxy.Addr) })
	}
	w.attack(t, "health checks that many reset", func(t *testing.T) {
		const attackers = 8
		health := resetFloods(indexed, relayed)[2]
		for range attackers {
			health.run(t, w.proxy.Addr)
		}
		for range 2 * shards {
			wantHealthy(t, testbed.DialH2(t, w.proxy.Addr))
		}
	})
	w.attack(t, "health watches of many", func(t *testing.T) {
		const each = 600 // fewer than a client may have
		watch, message := requests(to(watchMethod), false), testbed.Frame(nil)
		for range 2 * shards {
			c := testbed.DialH2(t, w.proxy.Addr)
			var b []byte
			for i := range uint32(each) {
				b = append(append(b, watch(2*i+1)...), frame(http2.FrameData, endStream, 2*i+1, message...)...)
			}
			require.NoError(t, c.WriteBytes(b))
		}
		for range 2 * shards {
			wantHealthy(t, testbed.DialH2(t, w.proxy.Addr))
		}
	})
	unreadFloods(t, w)
	fewOfEach(t, w)
	streamsOverTheLimit(t, w)
}

// The methods of the service that framegate itself has.
const (
	healthMethod = "/grpc.health.v1.Health/Check"
	watchMethod  = "/grpc.health.v1.Health/Watch"
)

func wantHealthy(t *testing.T, c *testbed.H2Conn) {
	t.Helper()
	s := c.Open(t, to(healthMethod))
	s.SendEnd(testbed.Frame(nil))
	o := s.Outcome()
	require.Equal(t, 0, o.Code(), "%s", o)
	require.Equal(t, testbed.Frame([]byte{8, 1}), o.Body) // SERVING
}

// unreadFloods are floods of clients that read nothing of what they cause.
func unreadFloods(t *testing.T, w *world) {
	for _, f := range append(controlFloods(), resetFloods(indexed, relayed)...) {
		if f.state != idle && f.state != open {
			continue // what a client that reads nothing does not know of
		}
		w.attack(t, "while not reading: "+f.name, func(t *testing.T) {
			nc := dial(t, w.proxy.Addr)
			require.NoError(t, nc.SetReadBuffer(4<<10))
			require.NoError(t, write(nc, greeting))
			if f.state == open {
				require.NoError(t, write(nc, request(1, held(relayed), false)))
			}
			f.write(func(b []byte) error { return write(nc, b) })
			if g := lastWords(t, nc, testbed.Patience); g != nil { // it comes behind all that was not read, and may be lost with that
				require.Equal(t, calm, g.Code)
			}
		})
	}
}

// fewOfEach sends so few of each that it is no offence: the connection goes on.
func fewOfEach(t *testing.T, w *world) {
	for _, f := range append(controlFloods(), resetFloods(requests, relayed)...) {
		if f.few == 0 {
			continue
		}
		w.attack(t, "a few: "+f.name, func(t *testing.T) {
			c := testbed.DialH2(t, w.proxy.Addr)
			f.state.enter(t, c, relayed)
			for i := range f.few {
				if f.offence == resets {
					c.NewStream(t) // its identifier is used
				}
				require.NoError(t, c.WriteBytes(f.again(uint32(i))))
			}
			wantGood(t, c)
		})
	}
}

// streamsOverTheLimit opens more streams than framegate has announced (RFC 9113 §5.1.2).
func streamsOverTheLimit(t *testing.T, w *world) {
	w.attack(t, "streams over the limit", func(t *testing.T) {
		const announced, more = 1024, 50
		c := testbed.DialH2(t, w.proxy.Addr)
		var b []byte
		streams := make([]*testbed.H2Stream, announced+more)
		for i := range streams {
			streams[i] = c.NewStream(t)
			b = append(b, request(streams[i].ID, held(relayed), false)...)
		}
		require.NoError(t, c.WriteBytes(b))
		for _, s := range streams[announced:] {
			code, _ := s.AwaitReset()
			require.Equal(t, http2.ErrCodeRefusedStream, code)
		}
		streams[0].Reset(http2.ErrCodeCancel) // makes room
		wantGood(t, c)
		for _, s := range streams[1:announced] {
			require.Equal(t, "[]", s.History(), "stream %d", s.ID)
		}
	})
}
