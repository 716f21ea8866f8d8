package hostile

import (
	"io"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"

	"github.com/framegate/framegate/test/testbed"
)

// What comes in the place of the preface and its SETTINGS (RFC 9113 §3.4) is an error of the connection, PROTOCOL_ERROR.
func badPrefaces(t *testing.T, w *world) {
	settings := string(frame(http2.FrameSettings, 0, 0))
	for name, sent := range inOrder(map[string]string{
		"its first byte is wrong":        "p" + http2.ClientPreface[1:] + settings,
		"its last byte is wrong":         http2.ClientPreface[:len(http2.ClientPreface)-1] + "\r" + settings,
		"frames without it":              settings,
		"TLS":                            "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + strings.Repeat("\x00", 64),
		"zeros":                          strings.Repeat("\x00", 1<<16),
		"a PING in place of SETTINGS":    http2.ClientPreface + string(frame(http2.FramePing, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8)),
		"HEADERS in place of SETTINGS":   http2.ClientPreface + string(request(1, held(relayed), false)),
		"an ACK in place of SETTINGS":    http2.ClientPreface + string(frame(http2.FrameSettings, http2.FlagSettingsAck, 0)),
		"another behind it":              http2.ClientPreface + http2.ClientPreface,
		"another behind SETTINGS":        http2.ClientPreface + settings + http2.ClientPreface,
		"an unknown frame before them":   http2.ClientPreface + string(frame(0xbe, 0, 0)),
		"a WINDOW_UPDATE before them":    http2.ClientPreface + string(windowUpdate(0, 1)),
		"SETTINGS of a stream":           http2.ClientPreface + string(frame(http2.FrameSettings, 0, 1)),
		"half of it, and then a mistake": http2.ClientPreface[:12] + "*",
	}) {
		w.attack(t, "the preface: "+name, func(t *testing.T) {
			for _, step := range []int{len(sent), 1 + len(sent)/3} { // at once, and in pieces
				nc := dial(t, w.proxy.Addr)
				for rest := sent; rest != ""; {
					n := min(step, len(rest))
					if write(nc, []byte(rest[:n])) != nil {
						break // it was told already
					}
					rest = rest[n:]
				}
				g := lastWords(t, nc, testbed.Patience)
				require.NotNil(t, g, "a GOAWAY")
				if strings.HasPrefix(name, "another") { // its first three bytes, "PRI", are the length of a frame
					require.Equal(t, frameSize, g.Code)
					continue
				}
				require.Equal(t, protocol, g.Code)
			}
		})
	}
	w.attack(t, "the preface: HTTP/1", func(t *testing.T) {
		nc := dial(t, w.proxy.Addr)
		require.NoError(t, write(nc, []byte("GET / HTTP/1.1\r\nHost: a\r\n\r\n")))
		require.NoError(t, nc.SetReadDeadline(time.Now().Add(testbed.Patience)))
		answer, err := io.ReadAll(nc)
		require.NoError(t, err)
		require.Regexp(t, `^HTTP/1\.1 505 .*\r\n`, string(answer), "which a client of HTTP/1 can read")
	})
	w.attack(t, "the preface: half of it, and then the end", func(t *testing.T) {
		nc := dial(t, w.proxy.Addr)
		require.NoError(t, write(nc, []byte(http2.ClientPreface[:11])))
		require.NoError(t, nc.CloseWrite())
		lastWords(t, nc, testbed.Patience)
	})
}
