package pool

import (
	"context"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/framegate/framegate/pool/kitexconn"
	"github.com/framegate/framegate/pool/transport"
)

// crasher is a connection that makes the goroutine of the transport panic that reads or writes it.
type crasher struct {
	net.Conn
	onRead, onWrite atomic.Bool
}

func (c *crasher) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if c.onRead.Load() {
		panic("the reader has a fault")
	}
	return n, err
}

func (c *crasher) Write(p []byte) (int, error) {
	if c.onWrite.Load() {
		panic("the writer has a fault")
	}
	return c.Conn.Write(p)
}

// crashed is the error of a connection whose transport has crashed.
var crashed = transport.ConnectionError{Reason: "its transport has failed"}

// newCrashPool returns a pool whose connections are crashers, and those that it makes.
func newCrashPool(t *testing.T, first func(*crasher)) (*Pool, <-chan *crasher) {
	p := newPool(t, func(c *Config) { c.ConnectTimeout = patience })
	made := make(chan *crasher, 16)
	p.dialer = dialer{kitexconn.Dialer{DialNet: func(ctx context.Context, addr string) (net.Conn, error) {
		nc, err := kitexconn.DialNet(ctx, addr)
		if err != nil {
			return nil, err
		}
		c := &crasher{Conn: nc}
		if first != nil {
			first(c)
			first = nil
		}
		made <- c
		return c, nil
	}}}
	return p, made
}

// A fault of Kitex's that ends a transport's reader or writer leaves a connection that looks well and brings nothing any
// more. Its calls must end, and the next ones go elsewhere.
func TestConnection_CrashedTransportEndsItsStreamsAndIsReplaced(t *testing.T) {
	t.Parallel()
	for name, crash := range map[string]func(t *testing.T, c *crasher, old *serverConn, s *Stream){
		"reader": func(_ *testing.T, c *crasher, old *serverConn, _ *Stream) {
			c.onRead.Store(true)
			old.headers(1) // something to read
		},
		"writer": func(t *testing.T, c *crasher, _ *serverConn, s *Stream) {
			c.onWrite.Store(true)
			require.NoError(t, s.Write(make([]byte, 1, 16)))
		},
	} {
		t.Run(name, func(t *testing.T) {
			server := startServer(t, nil)
			p, made := newCrashPool(t, nil)
			streams := []*Stream{open(t, p, server.addr), open(t, p, server.addr)}
			old := receive(t, "a connection", server.accepted)
			for range streams {
				receive(t, "a stream", old.streams)
			}
			start := time.Now()
			crash(t, receive(t, "the client's end", made), old, streams[0])
			for _, s := range streams {
				var connErr transport.ConnectionError
				require.ErrorAs(t, ends(t, s), &connErr)
				require.Equal(t, crashed, connErr)
				require.False(t, s.Unprocessed(), "the endpoint may have processed it")
				s.Close()
			}
			require.Less(t, time.Since(start), slack, "it is to be noticed at once, and not by a keepalive")
			eventually(t, "nothing but the endpoint", func() bool { return p.Stats() == Stats{Endpoints: 1} })
			receive(t, "the end of the old connection", old.ended)
			s := open(t, p, server.addr)
			notEnded(t, "the new stream", s.Done())
			s.Close()
			require.EqualValues(t, 2, server.accepts.Load())
		})
	}
}

// A transport that crashes before it has the peer's SETTINGS must not cost the call its whole connect timeout.
func TestConnection_CrashInADialFailsIt(t *testing.T) {
	t.Parallel()
	server := startServer(t, nil)
	p, _ := newCrashPool(t, func(c *crasher) { c.onRead.Store(true) })
	start := time.Now()
	_, err := p.Default().Open(t.Context(), server.addr, hdr, OpenOptions{})
	var dial *DialError
	require.ErrorAs(t, err, &dial)
	require.ErrorIs(t, dial, crashed)
	require.Less(t, time.Since(start), patience/2)
}
