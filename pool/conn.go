package pool

import (
	"context"
	"errors"
	"math"
	"sync/atomic"
	"time"

	"github.com/framegate/framegate/pool/transport"
)

// conn is one connection to an endpoint:
//
//	dialConn -> usable -> retired (gets no new streams; its streams go on) -> shut (has no streams any more) -> closed
//
// A connection is retired when its transport says so (transport.Owner), and when it is idle for too long, too old or no longer
// wanted.
type conn struct {
	endpoint *endpoint
	tr       transport.Conn
	lost     chan struct{} // closed by Ended

	born     time.Time    // when its dial ended
	used     atomic.Int32 // how many streams were opened or are being opened; wraps around
	inflight atomic.Int32 // slots in use; below zero if the connection is shut
	lastUsed atomic.Int64 // when the last stream ended, or else the dial, in Unix nanoseconds
	dead     atomic.Bool  // the transport takes no new streams any more
	retired  atomic.Bool  // the connection closes when it has no streams

	// Guarded by the endpoint's mu:
	aged     bool        // it has reached Config.MaxAge, and is to be replaced
	age      *time.Timer // calls endpoint.replace; nil without MaxAge
	failures int         // consecutive failed dials before the one that made this connection
}

var _ transport.Owner = (*conn)(nil)

// shutMark is the value of inflight when the connection is shut.
const shutMark = math.MinInt32

// dialConn makes a connection to e. The error is a *DialError.
func dialConn(ctx context.Context, e *endpoint) (*conn, error) {
	p := e.group.pool
	c := &conn{endpoint: e, lost: make(chan struct{})}
	p.wg.Add(1) // for the goroutines of the connection, until Ended
	tr, err := p.dialer.Dial(ctx, e.addr, &e.group.cfg, c)
	if err != nil {
		p.wg.Done()
		return nil, &DialError{Address: e.addr, Err: err}
	}
	c.tr, c.born = tr, time.Now()
	c.lastUsed.Store(c.born.UnixNano())
	e.conns.Store(c, nil) // not before tr is set, which other goroutines read
	select {
	case <-c.lost:
		e.conns.Delete(c) // Ended ran before the Store
	default:
	}
	p.log.Debug("connected", "endpoint", e.addr, "local", tr.LocalAddr())
	return c, nil
}

// LimitChanged implements transport.Owner.
func (c *conn) LimitChanged() { c.endpoint.limitChanged(c) }

// Retire implements transport.Owner.
func (c *conn) Retire() {
	c.dead.Store(true)
	c.endpoint.retire(c)
}

// Ended implements transport.Owner.
func (c *conn) Ended(err error) {
	e := c.endpoint
	close(c.lost)
	e.conns.Delete(c)
	e.forgetIfLeft()
	e.group.pool.log.Debug("connection ended", "endpoint", e.addr, "error", err)
	e.group.pool.wg.Done()
}

// youth is the age under which the end of a connection without a stream counts as a failed dial.
const youth = time.Second

// diedYoung reports whether a connection that has ended counts as a failed dial, because another dial at once would bring
// another connection that ends soon.
func (c *conn) diedYoung() bool { return c.used.Load() == 0 && time.Since(c.born) < youth }

// room returns how many streams the connection may have: Config.StreamsPerConnection, or fewer if the peer allows fewer.
func (c *conn) room() int32 {
	return int32(min(uint32(min(c.endpoint.group.cfg.StreamsPerConnection, math.MaxInt32)), c.tr.MaxStreams()))
}

// takesStreams reports whether the peer allows any stream: its MAX_CONCURRENT_STREAMS is not 0.
func (c *conn) takesStreams() bool { return c.tr.MaxStreams() > 0 }

// take takes a slot for a stream, or reports false if there is none or the connection is shut. The caller passes the slot to
// open, or gives it back with Release.
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

// open opens a stream in a slot that take took. It does not wait. If it fails, it has given back the slot, and the stream's
// HEADERS were not sent.
func (c *conn) open(ctx context.Context, hdr *transport.Header) (transport.Stream, error) {
	c.used.Add(1)
	s, err := c.tr.Open(ctx, hdr)
	if err == nil {
		return s, nil
	}
	c.used.Add(-1)
	c.Release()
	if ctx.Err() == nil && err != transport.ErrOverLimit && !errors.As(err, new(*transport.HeaderError)) {
		c.endpoint.retire(c)
	}
	return nil, err
}

// Release implements transport.Owner: it gives back a slot. It closes a retired connection without streams, and serves calls
// that wait.
func (c *conn) Release() {
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

// Streams implements transport.Owner: it returns the number of streams, including those that are being opened.
func (c *conn) Streams() int {
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

// closeWhenIdle closes a retired connection if it has no streams. Otherwise Release calls it again after the last one.
func (c *conn) closeWhenIdle() {
	if c.shut() {
		c.tr.Close()
	}
}
