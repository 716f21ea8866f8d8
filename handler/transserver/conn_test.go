package transserver

import (
	"bytes"
	"net"
	"testing"
	"time"

	"github.com/cloudwego/kitex/pkg/remote"
	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"

	"github.com/framegate/framegate/handler/acceptor"
	"github.com/framegate/framegate/pool/h2conn"
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

// pair returns a client and the conn that serves it, of which nobody reads and writes but the test.
func pair(t *testing.T) (client net.Conn, c *conn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer ln.Close()
	client, err = net.Dial("tcp", ln.Addr().String())
	require.NoError(t, err)
	t.Cleanup(func() { _ = client.Close() })
	require.NoError(t, client.SetDeadline(time.Now().Add(waitLimit)))
	nc, err := ln.Accept()
	require.NoError(t, err)
	p := New(Config{})
	s := acceptor.New(acceptor.Config{}, p).NewTransServer(&remote.ServerOption{}, nil).(*acceptor.Server)
	c = &conn{Conn: nc, guard: newGuard(10, 1<<16), plane: p, server: s}
	t.Cleanup(c.Cut)
	_, err = c.Write(h2conn.AppendFrameHeader(nil, h2conn.FrameHeader{Type: http2.FrameSettings}))
	require.NoError(t, err)
	return client, c
}

// data is a DATA frame.
var data = append(h2conn.AppendFrameHeader(nil, h2conn.FrameHeader{Length: 16384, Type: http2.FrameData, Stream: 1}), make([]byte, 16384)...)

func awaitGoAway(t *testing.T, client net.Conn) {
	t.Helper()
	for fr := http2.NewFramer(nil, client); ; {
		f, err := fr.ReadFrame()
		require.NoError(t, err, "before a GOAWAY")
		if g, ok := f.(*http2.GoAwayFrame); ok {
			require.Equal(t, http2.ErrCodeEnhanceYourCalm, g.ErrCode)
			return
		}
	}
}

// What the transport, which has not heard of the end yet, writes behind our FIN would reset the socket, and take from the
// client what it has not read yet.
func TestConn_WriteBehindTheGoodbyeCostsNothing(t *testing.T) {
	t.Parallel()
	client, c := pair(t)
	for range 4 { // the kernel takes it, the client does not yet
		_, err := c.Write(data)
		require.NoError(t, err)
	}
	_, err := client.Write(make([]byte, 100)) // which the server does not read any more
	require.NoError(t, err)
	c.sendAway(TooManyControls, http2.ErrCodeEnhanceYourCalm)
	_, err = c.Write(data)
	require.ErrorIs(t, err, net.ErrClosed)
	c.send(data)
	left := make(chan struct{})
	go func() { defer close(left); c.leave() }()
	awaitGoAway(t, client)
	require.NoError(t, client.Close())
	<-left
}

// A client to which much is sent hears why it is sent away, too.
func TestConn_SaysGoodbyeBetweenWrites(t *testing.T) {
	t.Parallel()
	client, c := pair(t)
	written := make(chan struct{})
	go func() {
		defer close(written)
		for {
			if _, err := c.Write(data); err != nil {
				return
			}
		}
	}()
	go func() {
		time.Sleep(10 * time.Millisecond)
		c.sendAway(TooManyControls, http2.ErrCodeEnhanceYourCalm)
	}()
	awaitGoAway(t, client)
	<-written
}

// A client that takes nothing is cut off.
func TestConn_CutsOffAClientThatTakesNothing(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(*conn){
		"sent away": func(c *conn) { c.sendAway(TooManyControls, http2.ErrCodeEnhanceYourCalm) },
		"closed":    func(c *conn) { _ = c.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			_, c := pair(t)
			ended := make(chan struct{})
			c.end = func() { close(ended) }
			written := make(chan error)
			go func() {
				for {
					if _, err := c.Write(data); err != nil {
						written <- err
						return
					}
				}
			}()
			for before := uint32(0); before != c.writes.Load() || before%2 == 0; time.Sleep(100 * time.Millisecond) { // until it is stuck
				before = c.writes.Load()
			}
			end(c)
			require.Error(t, <-written)
			<-ended
			require.True(t, c.is(stateOver))
		})
	}
}

// Who is sent away hears why, also if something is being written to it just then.
func TestConn_SaysGoodbyeAfterTheWriteUnderWay(t *testing.T) {
	t.Parallel()
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
