package hostile

import (
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"

	"github.com/framegate/framegate/test/testbed"
)

// madeReset is a way to open a stream so that the server must reset it ("made you reset", CVE-2025-8671).
type madeReset struct {
	name string
	call func(stream uint32) []byte // the request and the mistake
	code http2.ErrCode
}

func madeResets(encode encoder, w way) []madeReset {
	open, whole, malformed := encode(held(w), false), encode(held(w), true), encode(held(w, "connection", "close"), false)
	long, none := encode(held(w, "content-length", "5"), false), encode(held(w, "content-length", "5"), true)
	again := requests(testbed.NewFields(":method", "POST"), true)
	trailers := requests(testbed.NewFields(":path", "/a.B/C"), true)
	overflow := func(s uint32) []byte { return windowUpdate(s, maxWindow) }
	zero := func(s uint32) []byte { return windowUpdate(s, 0) }
	send := func(kind http2.FrameType, flags http2.Flags, payload ...byte) func(s uint32) []byte {
		return func(s uint32) []byte { return frame(kind, flags, s, payload...) }
	}
	itself := func(s uint32) []byte { return frame(http2.FramePriority, 0, s, 0, 0, byte(s>>8), byte(s), 16) }
	then := func(request, mistake func(s uint32) []byte) func(s uint32) []byte {
		return func(s uint32) []byte { return append(request(s), mistake(s)...) }
	}
	return []madeReset{
		{"window overflow", then(open, overflow), flowControl},
		{"window overflow of a request that has ended", then(whole, overflow), flowControl},
		{"increment of 0", then(open, zero), protocol},
		{"DATA after END_STREAM", then(whole, send(http2.FrameData, 0, 'x')), streamClosed},
		{"HEADERS after END_STREAM", then(whole, again), streamClosed},
		{"HEADERS without END_STREAM twice", then(open, send(http2.FrameHeaders, endHeaders, 0x83)), protocol},
		{"PRIORITY of 4 bytes", then(open, send(http2.FramePriority, 0, 0, 0, 0, 0)), frameSize},
		{"PRIORITY on itself", then(open, itself), protocol},
		{"content-length without DATA", none, protocol},
		{"more DATA than content-length", then(long, send(http2.FrameData, 0, 1, 2, 3, 4, 5, 6)), protocol},
		{"less DATA than content-length", then(long, send(http2.FrameData, endStream, 0)), protocol},
		{"a malformed request", malformed, protocol},
		{"malformed trailers", then(open, trailers), protocol},
	}
}

// resetAttacks opens streams only to have them reset. A few cost themselves, and many cost the connection.
func resetAttacks(t *testing.T, w *world, way way) {
	const few, many = 20, 10_000
	for _, m := range madeResets(requests, way) {
		w.attack(t, "a few made resets: "+m.name, func(t *testing.T) {
			c := testbed.DialH2(t, w.proxy.Addr)
			for range few {
				s := c.NewStream(t)
				require.NoError(t, c.WriteBytes(m.call(s.ID)))
				wantStreamError(t, s, m.code)
			}
		})
	}
	for _, m := range madeResets(indexed, way) {
		f := flood{"made resets: " + m.name, idle, nil, func(i uint32) []byte { return m.call(2*i + 1) }, many, 0, provoked}
		w.attack(t, f.name, func(t *testing.T) { f.run(t, w.proxy.Addr) })
	}
}
