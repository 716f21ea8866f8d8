package hostile

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/framegate/framegate/test/chaos"
	"github.com/framegate/framegate/test/testbed"
)

// to returns the fields of a request for a method, and then the fields made of pairs.
func to(method string, pairs ...string) testbed.Fields {
	return testbed.RequestFields(pairs...).Replace(":path", method)
}

// heldMethod is of calls that go to the hole.
const heldMethod = "/hostile.Held/Call"

// held returns the fields of a request that is never answered, and then the fields made of pairs.
func held(w way, pairs ...string) testbed.Fields { return to(w.of(heldMethod), pairs...) }

// wantGood wants a call on the connection to be answered as if nothing had happened.
func wantGood(t *testing.T, c *testbed.H2Conn) {
	t.Helper()
	s := c.Open(t, to(chaos.UnaryMethod))
	s.SendEnd(testbed.Frame(nil))
	o := s.Outcome()
	require.Equal(t, 0, o.Code(), "a call on the same connection: %s", o)
	require.Equal(t, testbed.Frame(nil), o.Body)
}

// wantConnError wants the connection to end with a GOAWAY of that code.
func wantConnError(t *testing.T, c *testbed.H2Conn, code http2.ErrCode) testbed.GoAway {
	t.Helper()
	g := c.AwaitGoAway(t)
	require.Equal(t, code, g.Code, "of the GOAWAY %+v", g)
	c.AwaitClosed(t)
	return g
}

// wantStreamError wants the stream to be reset with that code, and the connection to go on.
func wantStreamError(t *testing.T, s *testbed.H2Stream, code http2.ErrCode) {
	t.Helper()
	got, _ := s.AwaitReset()
	require.Equal(t, code, got, "of the RST_STREAM; all: %s", s.History())
	wantGood(t, s.Conn())
}

// wantLocal wants that framegate itself has answered.
func wantLocal(t *testing.T, o testbed.Outcome, code int, reason string) {
	t.Helper()
	require.Equal(t, code, o.Code(), "%s", o)
	require.Equal(t, reason, o.Reason(), "%s", o)
}

// block encodes fields so that the table of whoever decodes it stays as it is: it is valid at any point of any connection.
func block(fields testbed.Fields) []byte {
	var b bytes.Buffer
	enc := hpack.NewEncoder(&b)
	for _, f := range fields {
		f.Sensitive = true // RFC 7541 §6.2.3: never indexed
		_ = enc.WriteField(f)
	}
	return b.Bytes()
}

// frameHeader is the length of a frame's header (RFC 9113 §4.1).
const frameHeader = 9

// frame returns a frame, which may be illegal.
func frame(kind http2.FrameType, flags http2.Flags, stream uint32, payload ...byte) []byte {
	return appendFrame(make([]byte, 0, frameHeader+len(payload)), kind, flags, stream, payload)
}

// appendFrame appends a frame to b.
func appendFrame(b []byte, kind http2.FrameType, flags http2.Flags, stream uint32, payload []byte) []byte {
	n := len(payload)
	b = append(b, byte(n>>16), byte(n>>8), byte(n), byte(kind), byte(flags), byte(stream>>24), byte(stream>>16), byte(stream>>8), byte(stream))
	return append(b, payload...)
}

// request returns the HEADERS of a request, whose block is no longer than a frame.
func request(stream uint32, fields testbed.Fields, end bool) []byte {
	return requests(fields, end)(stream)
}

// requests is request for many streams.
func requests(fields testbed.Fields, end bool) func(stream uint32) []byte {
	flags, block := http2.FlagHeadersEndHeaders, block(fields)
	if end {
		flags |= http2.FlagHeadersEndStream
	}
	return func(stream uint32) []byte { return frame(http2.FrameHeaders, flags, stream, block...) }
}

// encoder returns what returns the HEADERS of a request of a stream: requests or indexed.
type encoder func(fields testbed.Fields, end bool) func(stream uint32) []byte

// indexed is requests for a connection that sends nothing else. Stream 1 puts the fields into the table, and the others cost their
// sender only a few bytes (RFC 7541 §6.1).
func indexed(fields testbed.Fields, end bool) func(stream uint32) []byte {
	flags := http2.FlagHeadersEndHeaders
	if end {
		flags |= http2.FlagHeadersEndStream
	}
	var first, later bytes.Buffer
	var out bytes.Buffer
	enc := hpack.NewEncoder(&out)
	for _, to := range []*bytes.Buffer{&first, &later} {
		for _, f := range fields {
			_ = enc.WriteField(f)
		}
		_, _ = to.ReadFrom(&out)
	}
	return func(stream uint32) []byte {
		if stream == 1 {
			return frame(http2.FrameHeaders, flags, stream, first.Bytes()...)
		}
		return frame(http2.FrameHeaders, flags, stream, later.Bytes()...)
	}
}

// settings returns SETTINGS with one parameter.
func settings(id http2.SettingID, value uint32) []byte {
	return frame(http2.FrameSettings, 0, 0, binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint16(nil, uint16(id)), value)...)
}

// windowUpdate returns a WINDOW_UPDATE.
func windowUpdate(stream, increment uint32) []byte {
	return frame(http2.FrameWindowUpdate, 0, stream, binary.BigEndian.AppendUint32(nil, increment)...)
}

// dial opens a connection that sends nothing by itself, and is read by nobody.
func dial(t testing.TB, addr string) *net.TCPConn {
	t.Helper()
	nc, err := net.DialTimeout("tcp", addr, testbed.Patience)
	require.NoError(t, err)
	t.Cleanup(func() { _ = nc.Close() })
	return nc.(*net.TCPConn)
}

// write writes to a connection of dial, whose peer has Patience to take it.
func write(nc net.Conn, b []byte) error {
	if err := nc.SetWriteDeadline(time.Now().Add(testbed.Patience)); err != nil {
		return err
	}
	_, err := nc.Write(b)
	return err
}

// greeting is the client preface and empty SETTINGS, and the acknowledgement of the server's, which need not have come.
var greeting = slices.Concat([]byte(http2.ClientPreface), frame(http2.FrameSettings, 0, 0), frame(http2.FrameSettings, http2.FlagSettingsAck, 0))

// lastWords reads a connection of dial to its end, which must come within a time, and returns its GOAWAY; nil if there was none.
func lastWords(t testing.TB, nc net.Conn, within time.Duration) *testbed.GoAway {
	t.Helper()
	g, err := readToEnd(nc, within)
	require.NoError(t, err)
	return g
}

// readToEnd is lastWords for any goroutine.
func readToEnd(nc net.Conn, within time.Duration) (last *testbed.GoAway, err error) {
	if err := nc.SetReadDeadline(time.Now().Add(within)); err != nil {
		return nil, err
	}
	for fr := http2.NewFramer(io.Discard, nc); ; {
		f, err := fr.ReadFrame()
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return last, fmt.Errorf("the connection is still open after %s", within)
		}
		if err != nil {
			return last, nil
		}
		if g, ok := f.(*http2.GoAwayFrame); ok {
			last = &testbed.GoAway{LastStreamID: g.LastStreamID, Code: g.ErrCode, Debug: string(g.DebugData())}
		}
	}
}
