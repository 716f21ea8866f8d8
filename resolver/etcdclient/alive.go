package etcdclient

import (
	"context"
	"encoding/binary"
	"net"
	"sync"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/grpc/credentials"
)

// How soon a connection is closed to a member of etcd that was stopped, or whose machine is gone. gRPC's keepalive would take
// 15 s or more, which is longer than many leases last.
const (
	// aliveSilence is how long a peer may be silent after it was sent a frame that it must answer.
	aliveSilence = 1200 * time.Millisecond
	// aliveLooks is the number of looks in that time. With a single one, a process that was itself stopped for a while would
	// close good connections when it goes on; with several, only one look falls due then.
	aliveLooks = 4
)

// aliveCredentials are transport credentials that wrap each connection in an aliveConn, which is closed when its peer has
// stopped. The requests under way then fail at once, and the client goes on at another member.
type aliveCredentials struct {
	credentials.TransportCredentials
	silence time.Duration
	silent  func(address string) // see Config
}

// ClientHandshake implements credentials.TransportCredentials.
func (c aliveCredentials) ClientHandshake(ctx context.Context, authority string, raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	conn, info, err := c.TransportCredentials.ClientHandshake(ctx, authority, raw)
	if err != nil {
		return nil, nil, err
	}
	return newAliveConn(conn, c.silence, c.silent), info, nil
}

// Clone implements credentials.TransportCredentials.
func (c aliveCredentials) Clone() credentials.TransportCredentials {
	return aliveCredentials{c.TransportCredentials.Clone(), c.silence, c.silent}
}

// aliveConn is the client's side of an HTTP/2 connection. If the peer stays silent after a frame that it must answer,
// aliveConn sends a probe, and after further silence it closes the connection:
//
//	quiet ──frame that wants an answer──> waiting ──half of silence──> probed ──the other half──> closed
//	  ^                                      │                           │
//	  └──────────── anything read ───────────┴───────────────────────────┘
//
// It sends nothing on an idle connection. The probe is a SETTINGS frame without settings, which the peer acknowledges at once
// (RFC 9113 §6.5.3), however long it takes over a request. A PING would be acknowledged too, but gRPC servers close a
// connection after the third PING within a few seconds in which they sent nothing else. gRPC's reader ignores the
// acknowledgement of a SETTINGS frame.
type aliveConn struct {
	net.Conn
	every  time.Duration        // between looks
	silent func(address string) // see Config

	writing sync.Mutex // held during a write; taken before mu
	frames  frameCutter

	mu     sync.Mutex // guards what follows
	looks  int        // looks since a frame was sent that the peer must answer, without anything read; -1 if it need not answer
	timer  *time.Timer
	closed bool
}

func newAliveConn(conn net.Conn, silence time.Duration, silent func(address string)) *aliveConn {
	return &aliveConn{Conn: conn, every: silence / aliveLooks, silent: silent, looks: -1, frames: frameCutter{skip: len(http2.ClientPreface)}}
}

// Read implements net.Conn.
func (c *aliveConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n > 0 {
		c.mu.Lock()
		c.looks = -1
		c.mu.Unlock()
	}
	return n, err
}

// Write implements net.Conn.
func (c *aliveConn) Write(p []byte) (int, error) {
	c.writing.Lock()
	defer c.writing.Unlock()
	if c.frames.wantAnswer(p) {
		c.wait()
	}
	return c.Conn.Write(p)
}

// wait begins the looks whether the peer answers, unless they are under way.
func (c *aliveConn) wait() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.looks >= 0 || c.closed {
		return
	}
	c.looks = 0
	if c.timer == nil {
		c.timer = time.AfterFunc(c.every, c.look)
	} else {
		c.timer.Reset(c.every)
	}
}

// look is called by the timer. It counts a look, and probes or closes the connection if it is time for that.
func (c *aliveConn) look() {
	c.mu.Lock()
	if c.looks < 0 || c.closed {
		c.mu.Unlock()
		return
	}
	c.looks++
	looks := c.looks
	if looks < aliveLooks {
		c.timer.Reset(c.every)
	}
	c.mu.Unlock()
	switch {
	case looks >= aliveLooks:
		_ = c.Close()
		if c.silent != nil {
			c.silent(c.RemoteAddr().String())
		}
	case looks == aliveLooks/2:
		c.probe()
	}
}

// probeFrame is a SETTINGS frame without a setting.
var probeFrame = []byte{0, 0, 0, byte(http2.FrameSettings), 0, 0, 0, 0, 0}

// probe sends probeFrame, unless a write is under way or a frame is half written. It is not needed then: a living peer reads
// that frame and answers it.
func (c *aliveConn) probe() {
	if !c.writing.TryLock() {
		return
	}
	defer c.writing.Unlock()
	if c.frames.between() {
		_ = c.SetWriteDeadline(time.Now().Add(c.every))
		_, _ = c.Conn.Write(probeFrame)
		_ = c.SetWriteDeadline(time.Time{})
	}
}

// Close implements net.Conn.
func (c *aliveConn) Close() error {
	c.mu.Lock()
	c.closed = true
	if c.timer != nil {
		c.timer.Stop()
	}
	c.mu.Unlock()
	return c.Conn.Close()
}

// frameCutter finds the frames in the bytes that are written to an HTTP/2 connection, however they are cut into writes.
type frameCutter struct {
	skip   int // bytes of the preface or of a frame's payload that are still to come
	header [9]byte
	have   int // bytes of header that have come
}

// between reports whether the last frame is complete.
func (f *frameCutter) between() bool { return f.skip == 0 && f.have == 0 }

// wantAnswer takes the bytes of the next write, and reports whether a frame begins in them that a peer must answer.
func (f *frameCutter) wantAnswer(p []byte) (want bool) {
	for len(p) > 0 {
		if f.skip > 0 {
			n := min(f.skip, len(p))
			f.skip -= n
			p = p[n:]
			continue
		}
		n := copy(f.header[f.have:], p)
		f.have += n
		p = p[n:]
		if f.have < len(f.header) {
			break
		}
		f.have = 0
		f.skip = int(binary.BigEndian.Uint32(f.header[:4]) >> 8)
		ack := http2.Flags(f.header[4]).Has(http2.FlagPingAck) // SETTINGS has the same bit
		switch http2.FrameType(f.header[3]) {
		case http2.FrameHeaders, http2.FrameData:
			want = true
		case http2.FrameSettings, http2.FramePing:
			want = want || !ack
		}
	}
	return want
}
