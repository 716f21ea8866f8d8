package pool

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"sync/atomic"
	"time"

	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/codes"
	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/grpc"
	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/status"

	"github.com/framegate/framegate/pool/dial"
	"github.com/framegate/framegate/pool/h2conn"
)

// conn is one connection. It goes through
//
//	dialConn -> usable -> retired (no new streams; those it has go on) -> shut (it has none any more) -> closed
//
// usable ends with GOAWAY, when the connection is idle or old or not wanted, when stream identifiers run out, or with
// the end of the connection.
type conn struct {
	endpoint *endpoint
	tr       grpc.ClientTransport
	h2       *h2conn.Conn
	lost     chan struct{} // closed by the transport when the connection has ended
	lostErr  error         // why; set before lost is closed

	born     time.Time    // when its dial ended
	used     atomic.Int32 // streams opened, or being opened; it wraps around
	inflight atomic.Int32 // streams, or below zero: shut
	lastUsed atomic.Int64 // Unix nanoseconds of the last release, at first of the dial's end
	retired  atomic.Bool  // its last stream closes it

	// Guarded by the endpoint's mu:
	aged     bool        // it has reached its age, and is to be replaced
	age      *time.Timer // calls endpoint.replace; nil without MaxAge
	failures int         // of dials before the one that made it
}

// shutMark as inflight says that the connection is shut.
const shutMark = math.MinInt32

// wornStreamID is the stream identifier after which a connection takes no new streams. RFC 9113 §5.1.1: identifiers are
// used once, and a client that has none left makes another connection; Kitex breaks the connection instead. What
// is left suffices for the streams that are being opened meanwhile.
const wornStreamID = 1<<31 - 1<<20

// dialConn connects, and waits until the peer has shown with its SETTINGS that it speaks HTTP/2.
func dialConn(ctx context.Context, e *endpoint) (*conn, error) {
	cfg := &e.group.cfg
	dialCtx, cancel := context.WithTimeout(ctx, cfg.ConnectTimeout)
	defer cancel()
	nc, err := e.group.pool.dialNet(dialCtx, e.addr)
	if err != nil {
		return nil, &DialError{Address: e.addr, Err: err}
	}
	c := &conn{endpoint: e, lost: make(chan struct{})}
	c.h2 = h2conn.New(nc, cfg.MaxHeaderBytes, func() { e.limitChanged(c) })
	maxHeader := cfg.MaxHeaderBytes
	c.tr, err = grpc.NewClientTransportWithConfig(ctx, c.h2, grpc.ConnectOptions{
		InitialWindowSize:     cfg.StreamWindow,
		InitialConnWindowSize: cfg.ConnectionWindow,
		MaxHeaderListSize:     &maxHeader,
	}, grpc.ClientConfig{
		RemoteService: c.h2.Name(),
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
	case <-c.h2.Crashed():
		c.closeNow(errCrashed)
		return nil, &DialError{Address: e.addr, Err: fmt.Errorf("no HTTP/2 connection: %w", errCrashed)}
	case <-dialCtx.Done():
		c.closeNow(context.Cause(dialCtx))
		return nil, &DialError{Address: e.addr, Err: fmt.Errorf("no HTTP/2 SETTINGS in %s", cfg.ConnectTimeout)}
	}
	c.born = time.Now()
	c.lastUsed.Store(c.born.UnixNano())
	e.group.pool.wg.Go(c.watch)
	e.group.pool.log.Debug("connected", "endpoint", e.addr, "local", nc.LocalAddr())
	return c, nil
}

// tcpKeepAlive finds a peer that is gone from the network, also while no call is made; the servers' limits on HTTP/2
// pings do not count it.
var tcpKeepAlive = net.KeepAliveConfig{Enable: true, Idle: 30 * time.Second, Interval: 10 * time.Second, Count: 3}

func dialNet(ctx context.Context, addr string) (net.Conn, error) {
	return dial.Endpoint(ctx, &net.Dialer{KeepAliveConfig: tcpKeepAlive}, addr)
}

// errCrashed ends the calls of a connection whose transport has crashed.
var errCrashed = grpc.ConnectionError{Desc: "its transport has failed"}

// overGrace is how long the transport may take to read what came before the connection's end, and to close itself.
const overGrace = time.Second

// watch probes the connection until it is over, and makes sure that its transport is closed then.
func (c *conn) watch() {
	err := c.h2.RunKeepalive(c.h2.Over(), h2conn.Keepalive(c.endpoint.group.cfg.Keepalive), c.streams)
	if err == nil {
		c.endpoint.retire(c)
		grace := time.NewTimer(overGrace)
		defer grace.Stop()
		select {
		case <-c.h2.Crashed():
			err = errCrashed
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
	c.endpoint.forgetIfLeft()
	c.endpoint.group.pool.log.Debug("connection ended", "endpoint", c.endpoint.addr, "error", err)
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

// youth is the age below which the end of a connection that was not used counts as a failed dial.
const youth = time.Second

// diedYoung reports, of a connection that has ended, whether dialling again would only bring the same.
func (c *conn) diedYoung() bool { return c.used.Load() == 0 && time.Since(c.born) < youth }

// room is how many streams the connection may have.
func (c *conn) room() int32 {
	return int32(min(uint32(min(c.endpoint.group.cfg.StreamsPerConnection, math.MaxInt32)), c.h2.MaxStreams()))
}

// takesStreams reports whether the peer allows any stream.
func (c *conn) takesStreams() bool { return c.h2.MaxStreams() > 0 }

// take takes a slot if there is room. The caller opens a stream with open, which keeps the slot, or gives it back with
// release.
func (c *conn) take() bool {
	for {
		n := c.inflight.Load()
		if n < 0 || n >= c.room() {
			return false
		}
		if c.inflight.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// open opens a stream in a slot that take took; on an error the slot is given back. It does not wait: the transport has
// room (see h2conn.Conn.Reserve). Whatever the error, the stream's HEADERS have not been sent.
func (c *conn) open(ctx context.Context, hdr *grpc.CallHdr) (*Stream, error) {
	c.h2.Reserve()
	if uint32(c.inflight.Load()) > c.h2.MaxStreams() {
		c.h2.Unreserve()
		c.release()
		return nil, errOverLimit
	}
	c.used.Add(1)
	heard := c.h2.Heard()
	s, err := c.tr.NewStream(ctx, hdr)
	c.h2.Unreserve()
	if err == nil {
		if streamID(s) >= wornStreamID {
			c.endpoint.retire(c)
		}
		return &Stream{Stream: s, conn: c, heard: heard}, nil
	}
	c.used.Add(-1)
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
		if c.retired.Load() {
			c.closeWhenIdle()
		}
	}
	if c.endpoint.waiting.Load() > 0 {
		c.endpoint.serve(c)
	}
}

// streams is less than 0 only if a slot was given back twice.
func (c *conn) streams() int {
	if n := c.inflight.Load(); n != shutMark {
		return int(n)
	}
	return 0
}

func (c *conn) idleSince(t time.Time) bool {
	return c.inflight.Load() == 0 && c.lastUsed.Load() < t.UnixNano()
}

// shut lets no further stream in if there is none now, and reports whether there is none.
func (c *conn) shut() bool { return c.inflight.CompareAndSwap(0, shutMark) || c.inflight.Load() < 0 }

// closeWhenIdle closes a retired connection if it has no stream; its last one does otherwise.
func (c *conn) closeWhenIdle() {
	if c.shut() {
		c.tr.GracefulClose()
	}
}

func (c *conn) closeNow(err error) { _ = c.tr.Close(err) }
