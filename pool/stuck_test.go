package pool

import (
	"math"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"
)

// stuffed is a connection whose server has stopped reading, so that Kitex's writer is blocked in its socket.
type stuffed struct {
	c      *serverConn
	big    *Stream       // the stream that filled the socket
	resume chan struct{} // closed to make the server read on
	resets []*Stream     // streams that were opened since; their HEADERS are in Kitex's queue
}

func stuff(t *testing.T, p *Pool) *stuffed {
	t.Helper()
	st := &stuffed{resume: make(chan struct{})}
	server := startServer(t, func(s *server) {
		s.begin = func(c *serverConn) {
			c.settings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: math.MaxInt32})
			c.write(func(fr *http2.Framer) error { return fr.WriteWindowUpdate(0, math.MaxInt32-65535) })
		}
		s.onHeaders = func(_ *serverConn, stream uint32) {
			if stream == 1 {
				<-st.resume
			}
		}
	})
	t.Cleanup(func() { // before the server's own
		select {
		case <-st.resume:
		default:
			close(st.resume)
		}
	})
	st.big = open(t, p, server.addr)
	st.c = receive(t, "a connection", server.accepted)
	receive(t, "a stream", st.c.streams)
	eventually(t, "the settings", func() bool { return st.big.conn.tr.MaxStreams() == math.MaxUint32 })
	wrote := make(chan struct{}, 1<<16)
	go func() {
		for st.big.Write(make([]byte, 64<<10, 64<<10+8)) == nil {
			wrote <- struct{}{}
		}
	}()
	for full := false; !full; { // nothing goes out any more
		select {
		case <-wrote:
		case <-time.After(500 * time.Millisecond): // long enough on a busy machine
			full = true
		}
	}
	for range 100 {
		st.resets = append(st.resets, open(t, p, server.addr))
	}
	return st
}

// throttleReader makes Kitex's reader wait for its writer: it does when 50 answers to the peer are in the queue.
func (st *stuffed) throttleReader(t *testing.T) {
	t.Helper()
	for _, s := range st.resets {
		s.Close()
	}
	st.c.write(func(fr *http2.Framer) error { return fr.WritePing(false, [8]byte{}) }) // it looks only between two frames
	stacks := make([]byte, 4<<20)
	eventually(t, "Kitex's reader to wait", func() bool {
		return strings.Contains(string(stacks[:runtime.Stack(stacks, true)]), "controlBuffer).throttle")
	})
}

// Kitex's writer ends a connection that was told to go away with its last stream, even if resets of other streams are in
// its queue; its reader then waits for them to be sent, for ever, and the transport is never closed.
func TestConnection_ThatGoesAwayWithAFullQueueIsForgotten(t *testing.T) {
	t.Parallel()
	p := newPool(t, func(c *Config) { c.Connections.Max = 1 })
	st := stuff(t, p)
	st.c.goAway(math.MaxInt32)
	usable(t, p, st.big.Address(), 0)
	st.big.Close()
	st.throttleReader(t)
	close(st.resume)
	receive(t, "the end of the connection", st.c.ended)
	eventually(t, "nothing but the endpoint", func() bool { return p.Stats() == Stats{Endpoints: 1} })
}

// The same after a failed write, which Kitex leaves to its reader.
func TestConnection_ThatBreaksWithAFullQueueIsForgotten(t *testing.T) {
	t.Parallel()
	p := newPool(t, func(c *Config) { c.Connections.Max = 1 })
	st := stuff(t, p)
	st.throttleReader(t)
	st.c.kill()
	require.Error(t, ends(t, st.big))
	st.big.Close()
	eventually(t, "nothing but the endpoint", func() bool { return p.Stats() == Stats{Endpoints: 1} })
	open(t, p, st.big.Address()).Close() // on a new connection
}
