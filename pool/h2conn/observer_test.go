package h2conn

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"
)

// recorded is an events that writes down what it hears.
type recorded struct{ list []string }

func (r *recorded) add(format string, args ...any) {
	r.list = append(r.list, fmt.Sprintf(format, args...))
}

func (r *recorded) onSettings(maxStreams uint32, set bool) {
	if !set {
		maxStreams = 0 // means nothing
	}
	r.add("settings %d %t", maxStreams, set)
}
func (r *recorded) onSettingsAck()                            { r.add("settings ack") }
func (r *recorded) onPong(data [8]byte)                       { r.add("pong %x", data) }
func (r *recorded) onReset(stream uint32, code http2.ErrCode) { r.add("reset %d %d", stream, code) }
func (r *recorded) onBareEnd(stream uint32)                   { r.add("bare end %d", stream) }
func (r *recorded) onCall()                                   { r.add("call") }

// observed returns the events of bytes that come in the given pieces.
func observed(pieces ...[]byte) []string {
	var rec recorded
	o := observer{to: &rec}
	for _, p := range pieces {
		o.observe(p[:len(p):len(p)]) // so that reading beyond p panics
	}
	return rec.list
}

// expected is what an observer must say of b, told simply: whole frames at once, RFC 9113 §4.1 and §6.
func expected(b []byte) []string {
	var rec recorded
	for len(b) >= frameHeaderLen {
		length := int(b[0])<<16 | int(b[1])<<8 | int(b[2])
		typ, flags := http2.FrameType(b[3]), http2.Flags(b[4])
		stream := binary.BigEndian.Uint32(b[5:]) & 0x7fffffff
		b = b[frameHeaderLen:]
		switch typ { // these need no payload
		case http2.FrameData:
			rec.onCall()
			if flags.Has(http2.FlagDataEndStream) {
				rec.onBareEnd(stream)
			}
		case http2.FrameHeaders:
			rec.onCall()
		}
		if len(b) < length {
			break
		}
		payload := b[:length]
		b = b[length:]
		switch typ {
		case http2.FrameSettings:
			if flags.Has(http2.FlagSettingsAck) {
				rec.onSettingsAck()
				continue
			}
			var value uint32
			var set bool
			for ; len(payload) >= 6; payload = payload[6:] {
				if binary.BigEndian.Uint16(payload) == uint16(http2.SettingMaxConcurrentStreams) {
					value, set = binary.BigEndian.Uint32(payload[2:]), true
				}
			}
			rec.onSettings(value, set)
		case http2.FramePing:
			if flags.Has(http2.FlagPingAck) && length >= 8 {
				rec.onPong([8]byte(payload))
			}
		case http2.FrameRSTStream:
			if length >= 4 {
				rec.onReset(stream, http2.ErrCode(binary.BigEndian.Uint32(payload)))
			}
		}
	}
	return rec.list
}

// frame returns a frame's bytes.
func frame(typ http2.FrameType, flags http2.Flags, stream uint32, payload []byte) []byte {
	n := len(payload)
	b := []byte{byte(n >> 16), byte(n >> 8), byte(n), byte(typ), byte(flags), 0, 0, 0, 0}
	binary.BigEndian.PutUint32(b[5:], stream)
	return append(b, payload...)
}

func settingsPayload(settings ...http2.Setting) []byte {
	var b []byte
	for _, s := range settings {
		b = binary.BigEndian.AppendUint16(b, uint16(s.ID))
		b = binary.BigEndian.AppendUint32(b, s.Val)
	}
	return b
}

// randomFrame is any frame that a peer may send, well-formed or not.
func randomFrame(rnd *rand.Rand) []byte {
	typ := http2.FrameType(rnd.IntN(12))
	n := []int{0, 1, 4, 5, 6, 8, 9, 12, rnd.IntN(40), rnd.IntN(17000)}[rnd.IntN(10)]
	payload := randomBytes(rnd, n)
	if typ == http2.FrameSettings && rnd.IntN(2) == 0 {
		payload = nil
		for range rnd.IntN(6) {
			payload = append(payload, settingsPayload(http2.Setting{ID: http2.SettingID(rnd.IntN(7)), Val: rnd.Uint32()})...)
		}
		payload = append(payload, make([]byte, rnd.IntN(2)*rnd.IntN(6))...) // a broken entry
	}
	return frame(typ, http2.Flags(rnd.Uint32()), rnd.Uint32(), payload)
}

// split cuts b at random places.
func split(rnd *rand.Rand, b []byte, max int) [][]byte {
	var pieces [][]byte
	for len(b) > 0 {
		n := min(len(b), 1+rnd.IntN(max))
		pieces = append(pieces, b[:n])
		b = b[n:]
	}
	return pieces
}

func TestObserver_SaysTheSameHoweverTheBytesCome(t *testing.T) {
	for seed := range uint64(100) {
		rnd := rand.New(rand.NewPCG(seed, 2))
		var b []byte
		for range rnd.IntN(40) {
			b = append(b, randomFrame(rnd)...)
		}
		b = b[:len(b)-rnd.IntN(min(len(b), 10)+1)] // perhaps cut short
		before := bytes.Clone(b)
		want := expected(b)
		for _, max := range []int{len(b) + 1, 3000, 20, 1} {
			if got := observed(split(rnd, b, max)...); !equal(got, want) {
				t.Fatalf("seed %d, pieces of up to %d bytes:\ngot  %v\nwant %v", seed, max, got, want)
			}
		}
		require.Equal(t, before, b, "seed %d: the bytes must stay as they are", seed)
	}
}

func equal(a, b []string) bool { return fmt.Sprint(a) == fmt.Sprint(b) }

func TestObserver_Frames(t *testing.T) {
	maxStreams := func(v uint32) http2.Setting {
		return http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: v}
	}
	window := http2.Setting{ID: http2.SettingInitialWindowSize, Val: 3}
	for name, tc := range map[string]struct {
		frame []byte
		want  string
	}{
		"settings, empty":             {frame(http2.FrameSettings, 0, 0, nil), "[settings 0 false]"},
		"settings without max":        {frame(http2.FrameSettings, 0, 0, settingsPayload(window)), "[settings 0 false]"},
		"settings with max":           {frame(http2.FrameSettings, 0, 0, settingsPayload(window, maxStreams(7))), "[settings 7 true]"},
		"settings, the last counts":   {frame(http2.FrameSettings, 0, 0, settingsPayload(maxStreams(7), maxStreams(9))), "[settings 9 true]"},
		"settings ack":                {frame(http2.FrameSettings, http2.FlagSettingsAck, 0, nil), "[settings ack]"},
		"ping":                        {frame(http2.FramePing, 0, 0, []byte("12345678")), "[]"},
		"ping ack":                    {frame(http2.FramePing, http2.FlagPingAck, 0, []byte("12345678")), "[pong 3132333435363738]"},
		"ping ack, short":             {frame(http2.FramePing, http2.FlagPingAck, 0, []byte("1234567")), "[]"},
		"reset":                       {frame(http2.FrameRSTStream, 0, 5, []byte{0, 0, 0, 8}), "[reset 5 8]"},
		"reset, short":                {frame(http2.FrameRSTStream, 0, 5, []byte{0, 0, 8}), "[]"},
		"data":                        {frame(http2.FrameData, 0, 5, []byte("x")), "[call]"},
		"data, end":                   {frame(http2.FrameData, http2.FlagDataEndStream, 5, nil), "[call bare end 5]"},
		"headers, end":                {frame(http2.FrameHeaders, http2.FlagHeadersEndStream, 5, []byte("x")), "[call]"},
		"the reserved bit is ignored": {frame(http2.FrameRSTStream, 0, 1<<31|5, []byte{0, 0, 0, 8}), "[reset 5 8]"},
		"window update, go away":      {append(frame(http2.FrameWindowUpdate, 0, 5, make([]byte, 4)), frame(http2.FrameGoAway, 0, 0, make([]byte, 8))...), "[]"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := fmt.Sprint(observed(tc.frame)); got != tc.want {
				t.Errorf("got %s, want %s", got, tc.want)
			}
		})
	}
}

// counting is an events that costs nothing.
type counting struct{ n int }

func (c *counting) onSettings(uint32, bool)       { c.n++ }
func (c *counting) onSettingsAck()                { c.n++ }
func (c *counting) onPong([8]byte)                { c.n++ }
func (c *counting) onReset(uint32, http2.ErrCode) { c.n++ }
func (c *counting) onBareEnd(uint32)              { c.n++ }
func (c *counting) onCall()                       { c.n++ }

// busyFrames is what a busy connection brings, with a bit of everything.
func busyFrames() []byte {
	var b []byte
	for i := range uint32(50) {
		b = append(b, frame(http2.FrameHeaders, http2.FlagHeadersEndHeaders, 2*i+1, make([]byte, 30))...)
		b = append(b, frame(http2.FrameData, 0, 2*i+1, make([]byte, 1000))...)
		b = append(b, frame(http2.FrameHeaders, http2.FlagHeadersEndStream, 2*i+1, make([]byte, 20))...)
		b = append(b, frame(http2.FrameRSTStream, 0, 2*i+1, make([]byte, 4))...)
		b = append(b, frame(http2.FrameSettings, 0, 0, settingsPayload(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 9}))...)
		b = append(b, frame(http2.FramePing, http2.FlagPingAck, 0, make([]byte, 8))...)
	}
	return b
}

func TestObserver_AllocatesNothing(t *testing.T) {
	b := busyFrames()
	o := observer{to: &counting{}}
	if got := testing.AllocsPerRun(100, func() {
		for p := b; len(p) > 0; {
			n := min(len(p), 1001)
			o.observe(p[:n])
			p = p[n:]
		}
	}); got != 0 {
		t.Errorf("got %v allocations for 300 frames, want 0", got)
	}
}

func BenchmarkObserver_300Frames(b *testing.B) {
	b.ReportAllocs()
	frames := busyFrames()
	o := observer{to: &counting{}}
	for b.Loop() {
		o.observe(frames)
	}
}

// FuzzObserver feeds a peer's bytes whole and cut into pieces (cuts holds their lengths, in turn) and wants the same
// events, those of the simple reading.
func FuzzObserver(f *testing.F) {
	f.Fuzz(func(t *testing.T, b, cuts []byte) {
		want := expected(b)
		if got := observed(b); !equal(got, want) {
			t.Errorf("whole: got %v, want %v", got, want)
		}
		var pieces [][]byte
		for i, rest := 0, b; len(rest) > 0; i++ {
			n := 1
			if len(cuts) > 0 {
				n = min(len(rest), int(cuts[i%len(cuts)]))
			}
			pieces = append(pieces, rest[:n])
			rest = rest[n:]
			if i > 2*len(b) {
				pieces = append(pieces, rest)
				break
			}
		}
		if got := observed(pieces...); !equal(got, want) {
			t.Errorf("cut by %v: got %v, want %v", cuts, got, want)
		}
	})
}
