package pool

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"strings"
	"sync/atomic"
	"time"

	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/codes"
	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/grpc"
	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/status"

	"github.com/framegate/framegate/pool/h2conn"
)

// conn is one connection. It goes through
//
//	dialConn -> usable -> shut (no new streams; those it has go on) -> closed
//
// usable ends with GOAWAY, with the sweeper's shut, when stream identifiers run out, or with the end of the connection.
type conn struct {
	endpoint *endpoint
	tr       grpc.ClientTransport
	h2       *h2conn.Conn
	lost     chan struct{} // closed by the transport when the connection has ended
	lostErr  error         // why; set before lost is closed

	inflight atomic.Int32 // streams, or below zero: shut
	lastUsed atomic.Int64 // Unix nanoseconds of the last release, at first of the dial's end
	wornOut  atomic.Bool  // retired for want of stream identifiers: its last stream closes it
}

// shutMark makes inflight negative for good, whatever take adds to it.
const shutMark = math.MinInt32 / 2

// wornStreamID is the stream identifier after which a connection takes no new streams. RFC 9113 §5.1.1: identifiers are
// used once, and a client that has none left makes another connection; Kitex breaks the connection instead. What
// is left suffices for the streams that are being opened meanwhile.
const wornStreamID = 1<<31 - 1<<20

// dialConn connects, and waits until the peer has shown with its SETTINGS that it speaks HTTP/2.
func dialConn(ctx context.Context, e *endpoint) (*conn, error) {
	cfg := e.pool.cfg
	dialCtx, cancel := context.WithTimeout(ctx, cfg.ConnectTimeout)
	defer cancel()
	nc, err := dialNet(dialCtx, e.addr)
	if err != nil {
		return nil, &DialError{Address: e.addr, Err: err}
	}
	c := &conn{endpoint: e, h2: h2conn.New(nc, e.wakeWaiting), lost: make(chan struct{})}
	maxHeader := cfg.MaxHeaderBytes
	c.tr, err = grpc.NewClientTransportWithConfig(ctx, c.h2, grpc.ConnectOptions{
		InitialWindowSize:     cfg.StreamWindow,
		InitialConnWindowSize: cfg.ConnectionWindow,
		MaxHeaderListSize:     &maxHeader,
	}, grpc.ClientConfig{
		RemoteService: e.addr,
		OnGoAway:      func(context.Context, grpc.ClientTransport, grpc.GoAwayReason) { c.onGoAway() },
		OnClose:       func(_ context.Context, _ grpc.ClientTransport, err error) { c.onClose(err) },
	})
	if err != nil {
		_ = c.h2.Close()
		if c.isLost() {
			err = c.lostErr // it says why nothing could be written
		}
		return nil, &DialError{Address: e.addr, Err: fmt.Errorf("no HTTP/2 connection: %w", err)}
	}
	e.conns.Store(c, nil) // for others only now that tr is set
	if c.isLost() {
		e.conns.Delete(c) // onClose was there before
	}
	select {
	case <-c.h2.Settings():
	case <-c.lost:
		return nil, &DialError{Address: e.addr, Err: fmt.Errorf("no HTTP/2 connection: %w", c.lostErr)}
	case <-dialCtx.Done():
		c.closeNow(context.Cause(dialCtx))
		return nil, &DialError{Address: e.addr, Err: fmt.Errorf("no HTTP/2 SETTINGS in %s", cfg.ConnectTimeout)}
	}
	c.lastUsed.Store(time.Now().UnixNano())
	e.pool.wg.Go(c.watch)
	e.pool.log.Debug("connected", "endpoint", e.addr, "local", nc.LocalAddr())
	return c, nil
}

// tcpKeepAlive finds a peer that is gone from the network, also while no call is made; the servers' limits on HTTP/2
// pings do not count it.
var tcpKeepAlive = net.KeepAliveConfig{Enable: true, Idle: 30 * time.Second, Interval: 10 * time.Second, Count: 3}

func dialNet(ctx context.Context, addr string) (net.Conn, error) {
	d := net.Dialer{KeepAliveConfig: tcpKeepAlive}
	if path, ok := strings.CutPrefix(addr, "unix:"); ok {
		return d.DialContext(ctx, "unix", path)
	}
	return d.DialContext(ctx, "tcp", addr)
}

// overGrace is how long the transport may take to read what came before the connection's end, and to close itself.
const overGrace = time.Second

// watch probes the connection until it is over, and makes sure that its transport is closed then.
func (c *conn) watch() {
	err := c.h2.RunKeepalive(c.h2.Over(), c.endpoint.pool.cfg.Keepalive, c.streams)
	if err == nil {
		c.endpoint.retire(c)
		grace := time.NewTimer(overGrace)
		defer grace.Stop()
		select {
		case <-c.lost:
			return
		case <-grace.C:
			err = grpc.ErrConnClosing
		}
	}
	c.closeNow(err)
}

func (c *conn) onGoAway() {
	c.endpoint.retire(c)
}

func (c *conn) onClose(err error) {
	c.lostErr = err
	close(c.lost)
	c.endpoint.retire(c)
	c.endpoint.conns.Delete(c)
	c.endpoint.pool.log.Debug("connection ended", "endpoint", c.endpoint.addr, "error", err)
}

func (c *conn) isLost() bool {
	select {
	case <-c.lost:
		return true
	default:
		return false
	}
}

// isDead reports whether the connection has ended or was told to go away.
func (c *conn) isDead() bool {
	select {
	case <-c.tr.GoAway():
		return true
	default:
		return c.isLost()
	}
}

// hasRoom reports whether the peer allows a stream beside n others.
func (c *conn) hasRoom(n int32) bool { return uint32(n) < c.h2.MaxStreams() && n < math.MaxInt32/2 }

// take takes a slot if there is room. The caller opens a stream with open, which keeps the slot, or gives it back.
func (c *conn) take() bool {
	c.h2.Reserve()
	if n := c.inflight.Add(1) - 1; n < 0 || !c.hasRoom(n) {
		c.inflight.Add(-1)
		c.h2.Unreserve()
		return false
	}
	return true
}

// open opens a stream in a slot that take took; on an error the slot is given back. It does not wait: the transport has
// room (see h2conn.Conn.Reserve).
func (c *conn) open(ctx context.Context, hdr *grpc.CallHdr) (*Stream, error) {
	s, err := c.tr.NewStream(ctx, hdr)
	c.h2.Unreserve()
	if err == nil {
		if streamID(s) >= wornStreamID {
			c.wornOut.Store(true)
			c.endpoint.retire(c)
		}
		return &Stream{Stream: s, conn: c}, nil
	}
	c.release()
	if ctxErr := ctx.Err(); ctxErr != nil {
		return nil, ctxErr
	}
	var st *status.Error
	if errors.As(err, &st) && st.GRPCStatus().Code() == codes.Internal {
		return nil, &HeaderError{Err: errors.New(st.GRPCStatus().Message())}
	}
	c.endpoint.retire(c) // closing or told to go away
	return nil, err
}

// release gives a slot back.
func (c *conn) release() {
	if c.inflight.Add(-1) == 0 {
		c.lastUsed.Store(time.Now().UnixNano())
		if c.wornOut.Load() && c.shut() {
			c.closeWhenIdle()
		}
	}
	c.endpoint.wakeWaiting()
}

func (c *conn) streams() int { return max(0, int(c.inflight.Load())) }

func (c *conn) idleSince(t time.Time) bool {
	return c.inflight.Load() == 0 && c.lastUsed.Load() < t.UnixNano()
}

// shut lets no further stream in if there is none now, and reports whether it did.
func (c *conn) shut() bool { return c.inflight.CompareAndSwap(0, shutMark) }

func (c *conn) closeWhenIdle() { c.tr.GracefulClose() }

func (c *conn) closeNow(err error) { _ = c.tr.Close(err) }
