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

// conn is one connection to an endpoint:
//
//	dialConn -> usable -> retired (gets no new streams; its streams go on) -> shut (has no streams any more) -> closed
//
// A connection is retired when the peer sends a GOAWAY, when it is idle for too long, too old or no longer wanted, when its
// stream identifiers run out, and when it ends.
type conn struct {
	endpoint *endpoint
	tr       grpc.ClientTransport
	h2       *h2conn.Conn
	lost     chan struct{} // closed by onClose, when the transport has closed itself
	lostErr  error         // why the connection ended; set before lost is closed

	born     time.Time    // when its dial ended
	used     atomic.Int32 // how many streams were opened or are being opened; wraps around
	inflight atomic.Int32 // slots in use; below zero if the connection is shut
	lastUsed atomic.Int64 // when the last stream ended, or else the dial, in Unix nanoseconds
	retired  atomic.Bool  // the connection closes when it has no streams

	// Guarded by the endpoint's mu:
	aged     bool        // it has reached Config.MaxAge, and is to be replaced
	age      *time.Timer // calls endpoint.replace; nil without MaxAge
	failures int         // consecutive failed dials before the one that made this connection
}

// shutMark is the value of inflight when the connection is shut.
const shutMark = math.MinInt32

// wornStreamID is the stream identifier from which on a connection is retired. Identifiers are used once, and a client that
// has none left must make another connection (RFC 9113 §5.1.1), but Kitex breaks the connection. The identifiers above
// wornStreamID are left for streams that are being opened at that moment.
const wornStreamID = 1<<31 - 1<<20

// dialConn makes a connection to e, and waits for the peer's SETTINGS, which show that it speaks HTTP/2. The error is a
// *DialError.
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
			err = c.lostErr // says why the preface could not be written
		}
		return nil, &DialError{Address: e.addr, Err: fmt.Errorf("no HTTP/2 connection: %w", err)}
	}
	e.conns.Store(c, nil) // not before tr is set, which other goroutines read
	if c.isLost() {
		e.conns.Delete(c) // onClose ran before the Store
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
	e.group.pool.wg.Go(c.monitor)
	e.group.pool.log.Debug("connected", "endpoint", e.addr, "local", nc.LocalAddr())
	return c, nil
}

// tcpKeepAlive detects a peer that is gone from the network, also while there are no calls. It does not count for the limits
// that servers have on HTTP/2 pings.
var tcpKeepAlive = net.KeepAliveConfig{Enable: true, Idle: 30 * time.Second, Interval: 10 * time.Second, Count: 3}

func dialNet(ctx context.Context, addr string) (net.Conn, error) {
	return dial.Endpoint(ctx, &net.Dialer{KeepAliveConfig: tcpKeepAlive}, addr)
}

// errCrashed is the error of calls on a connection whose transport has crashed: one of its goroutines has panicked.
var errCrashed = grpc.ConnectionError{Desc: "its transport has failed"}

// overGrace is how long the transport of a connection that is over may take to read what the peer sent before, and to close
// itself.
const overGrace = time.Second

// monitor is a goroutine of the connection. It runs the keepalive until the connection is over or a ping is not answered,
// and then makes sure that the transport is closed.
func (c *conn) monitor() {
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

// isDead reports whether the connection has ended or the peer has sent a GOAWAY.
func (c *conn) isDead() bool {
	select {
	case <-c.tr.GoAway():
		return true
	default:
		return c.isLost()
	}
}

// youth is the age under which the end of a connection without a stream counts as a failed dial.
const youth = time.Second

// diedYoung reports whether a connection that has ended counts as a failed dial, because another dial at once would bring
// another connection that ends soon.
func (c *conn) diedYoung() bool { return c.used.Load() == 0 && time.Since(c.born) < youth }

// room returns how many streams the connection may have: Config.StreamsPerConnection, or fewer if the peer allows fewer.
func (c *conn) room() int32 {
	return int32(min(uint32(min(c.endpoint.group.cfg.StreamsPerConnection, math.MaxInt32)), c.h2.MaxStreams()))
}

// takesStreams reports whether the peer allows any stream: its MAX_CONCURRENT_STREAMS is not 0.
func (c *conn) takesStreams() bool { return c.h2.MaxStreams() > 0 }

// take takes a slot for a stream, or reports false if there is none or the connection is shut. The caller passes the slot to
// open, or gives it back with release.
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

// open opens a stream in a slot that take took. It does not wait, because the transport has room for the stream (see
// h2conn.Conn.Reserve). If it fails, it has given back the slot, and the stream's HEADERS were not sent.
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
	c.endpoint.retire(c) // the transport is closing, or has got a GOAWAY
	return nil, err
}

// release gives back a slot. It closes a retired connection without streams, and serves calls that wait.
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

// streams returns the number of streams, including those that are being opened.
func (c *conn) streams() int {
	if n := c.inflight.Load(); n != shutMark {
		return int(n)
	}
	return 0
}

// idleSince reports whether the connection has had no stream since t.
func (c *conn) idleSince(t time.Time) bool {
	return c.inflight.Load() == 0 && c.lastUsed.Load() < t.UnixNano()
}

// shut makes the connection shut if it has no streams, so that take takes no slot any more. It reports whether the
// connection is shut.
func (c *conn) shut() bool { return c.inflight.CompareAndSwap(0, shutMark) || c.inflight.Load() < 0 }

// closeWhenIdle closes a retired connection if it has no streams. Otherwise release calls it again after the last one.
func (c *conn) closeWhenIdle() {
	if c.shut() {
		c.tr.GracefulClose()
	}
}

// closeNow closes the connection. Its streams fail with err.
func (c *conn) closeNow(err error) { _ = c.tr.Close(err) }
