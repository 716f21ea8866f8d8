package transserver

import (
	"bytes"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"
)

// slowWrites is a listener whose connections take their time to write.
type slowWrites struct{ net.Listener }

func (l slowWrites) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return slowConn{nc.(*net.TCPConn)}, nil
}

type slowConn struct{ *net.TCPConn }

func (c slowConn) Write(p []byte) (int, error) {
	time.Sleep(busyTimeout / 4)
	return c.TCPConn.Write(p)
}

// Who is sent away hears why, also if something is being written to it just then.
func TestConn_SaysGoodbyeAfterTheWriteUnderWay(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	r := startOn(t, slowWrites{ln}, Config{Refuse: func(*Refusal) Answer { return Answer{} }})
	for name, offend := range map[string]struct {
		write func(fr *http2.Framer) error
		code  http2.ErrCode
	}{
		"a PING ACK that nobody asked for": {func(fr *http2.Framer) error { return fr.WritePing(true, [8]byte{1}) }, http2.ErrCodeProtocol},
		"an undecodable header block": {func(fr *http2.Framer) error {
			return fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte{0xff, 0xff, 0xff}, EndHeaders: true})
		}, http2.ErrCodeCompression},
	} {
		t.Run(name, func(t *testing.T) {
			nc, err := net.Dial("tcp", r.addr)
			require.NoError(t, err)
			defer nc.Close()
			require.NoError(t, nc.SetDeadline(time.Now().Add(waitLimit)))
			var out bytes.Buffer
			out.WriteString(http2.ClientPreface)
			fr := http2.NewFramer(&out, nc)
			require.NoError(t, fr.WriteSettings())
			flush := func() {
				_, err := out.WriteTo(nc)
				require.NoError(t, err)
			}
			flush()
			f, err := fr.ReadFrame()
			require.NoError(t, err)
			require.IsType(t, &http2.SettingsFrame{}, f)
			for range 5 { // each of which is acknowledged
				require.NoError(t, fr.WriteSettings())
			}
			flush()
			time.Sleep(busyTimeout / 8)
			require.NoError(t, offend.write(fr))
			flush()
			for {
				f, err := fr.ReadFrame()
				require.NoError(t, err, "before a GOAWAY")
				if g, ok := f.(*http2.GoAwayFrame); ok {
					require.Equal(t, offend.code, g.ErrCode)
					return
				}
			}
		})
	}
}
