package transserver

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cloudwego/kitex/pkg/klog"
	"github.com/cloudwego/netpoll"
	"golang.org/x/net/http2"

	"github.com/framegate/framegate/handler/acceptor"
	"github.com/framegate/framegate/pool/h2conn"
)

// connState is the state of a connection:
//
//	open --- Close, sendAway ---> ending ---> leaving ---+
//	     --- cut, or a failed write ---------------------+--> over
type connState int32

const (
	stateOpen    connState = iota
	stateEnding            // the transport may write nothing more
	stateLeaving           // our FIN is sent; what the client still sends is read and dropped, so that the FIN and all before it reach it
	stateOver              // the socket is closed
)

// leaveTimeout bounds how long a client may take to close its side of a connection after our FIN, and leaveBytes bounds what
// it may send meanwhile. The server reads that, because a socket that is closed with unread bytes sends a reset, and the
// client may then lose what was sent before.
const (
	leaveTimeout = time.Second
	leaveBytes   = 4 << 20
)

// busyTimeout is how long closing a connection waits for the write that is under way. If the client has not read it by then,
// the socket is closed at once.
const busyTimeout = 100 * time.Millisecond

// conn is one client connection. It ends Kitex's transport when it is closed or a write fails: the transport would not
// notice that by itself while its reader waits for room in the queue of answers to the client's frames, such as SETTINGS
// acknowledgements.
type conn struct {
	net.Conn
	plane  *Plane
	server *acceptor.Server
	reader *h2conn.Reader
	guard  *guard

	wmu    sync.Mutex    // serializes writes; guards due, and the fields of guard.sent that say so
	due    []byte        // whole frames of our own that wait until mayInsert
	writes atomic.Uint32 // number of writes begun plus number of writes done: odd while one is under way
	state  atomic.Int32  // a connState; changed with mu held

	mu         sync.Mutex     // guards the fields below
	transport  transport      // the zero value until there is one
	writerDone chan struct{}  // the transport's; see transport.writer; nil until there is a transport
	crashed    bool           // a goroutine of the transport has ended with a panic
	end        func()         // ends the transport; nil until there is one, and after endLocked
	ending     sync.WaitGroup // the goroutine that runs end: end waits for goroutines of the transport, one of which may call Close

	stuck stuck // owned by Plane.cutStuck
}

// blocks is the source of conn.reader: the client's frames, without the requests that were refused.
type blocks struct {
	*h2conn.Blocks
	c *conn
}

// Read implements io.Reader.
func (b *blocks) Read(p []byte) (int, error) {
	n, err := b.Blocks.Read(p)
	var blockErr *h2conn.BlockError
	if n == 0 && errors.As(err, &blockErr) {
		b.c.sendAway(BadHeaders, blockErr.Code)
		err = io.EOF
	}
	return n, err
}

// socket reads from the client's socket, until the guard finds an offence.
type socket struct{ c *conn }

// Read implements io.Reader. It is called only when the transport needs bytes behind the last whole frame, so that the
// transport has handled all frames read before; see guard.handled.
func (s socket) Read(p []byte) (int, error) {
	c := s.c
	n, err := c.Conn.Read(p)
	if !c.is(stateOpen) {
		return 0, io.EOF
	}
	if n > 0 {
		if o := c.guard.read(p[:n], int(c.writes.Load())); o != nil {
			c.sendAway(o, o.code)
			return 0, io.EOF
		}
	}
	return n, err
}

func (c *conn) is(st connState) bool { return connState(c.state.Load()) == st }

// Write implements net.Conn, for the transport. It also writes the frames in due, as soon as they may come.
func (c *conn) Write(p []byte) (int, error) {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	if !c.is(stateOpen) { // a write after our FIN would fail and cut the socket, before the client has read what is on the way
		return 0, net.ErrClosed
	}
	n, err := c.writeLocked(p)
	if len(c.due) > 0 && err == nil && c.mayInsert() {
		_, _ = c.writeLocked(c.due)
		c.due = nil
	}
	return n, err
}

// send writes whole frames of our own between those of the transport: at once, or with the next Write if they may not come
// yet. It does nothing if the connection ends.
func (c *conn) send(frames []byte) {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	if !c.is(stateOpen) {
		return
	}
	if !c.mayInsert() {
		c.due = append(c.due, frames...)
		return
	}
	_, _ = c.writeLocked(frames)
}

// mayInsert reports whether frames of our own may come next: after the transport's SETTINGS, which must be the first frame
// (RFC 9113 §3.4), and not within a frame or a header block (§6.10). The caller holds wmu.
func (c *conn) mayInsert() bool { return c.writes.Load() > 0 && c.guard.sent.atBoundary() }

func (c *conn) writeLocked(p []byte) (int, error) {
	c.guard.sent.follower.Follow(p) // before the write: the client may answer before it returns
	c.writes.Add(1)
	n, err := c.Conn.Write(p)
	c.writes.Add(1)
	if err != nil {
		c.Cut()
	}
	return n, err
}

// Close sends a FIN to the client and ends the transport. Serve closes the socket when the client has closed its side, or
// after leaveTimeout. Close may be called more than once and by any goroutine.
func (c *conn) Close() error {
	c.mu.Lock()
	c.endLocked()
	c.endingLocked()
	c.mu.Unlock()
	locked := c.lockWrites()
	if locked {
		defer c.wmu.Unlock()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.is(stateEnding) {
		return nil
	}
	half, ok := c.Conn.(interface{ CloseWrite() error })
	if !ok || !locked || half.CloseWrite() != nil {
		return c.cutLocked()
	}
	c.state.Store(int32(stateLeaving))
	return c.Conn.SetReadDeadline(time.Unix(1, 0)) // ends a read that is under way
}

// endingLocked moves an open connection to stateEnding. mu is held.
func (c *conn) endingLocked() {
	if c.is(stateOpen) {
		c.state.Store(int32(stateEnding))
	}
}

// lockWrites waits for the write under way, locks wmu and reports true. It reports false, without the lock, if that takes
// longer than busyTimeout: the write may be stuck within a frame. The connection is no longer open, so that no further write
// begins.
func (c *conn) lockWrites() bool {
	for begin := time.Now(); !c.wmu.TryLock(); time.Sleep(time.Millisecond) {
		if time.Since(begin) > busyTimeout {
			return false
		}
	}
	return true
}

// Cut closes the socket at once, and ends the transport. It may be called more than once and by any goroutine.
func (c *conn) Cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.endLocked()
	_ = c.cutLocked()
}

func (c *conn) cutLocked() error {
	c.state.Store(int32(stateOver))
	return c.Conn.Close()
}

// leave reads and drops what the client sends after our FIN, within the bounds of leaveTimeout and leaveBytes, and closes
// the socket. No other goroutine reads any more.
func (c *conn) leave() {
	if c.is(stateLeaving) && c.Conn.SetReadDeadline(time.Now().Add(leaveTimeout)) == nil {
		_, _ = io.CopyN(io.Discard, c.Conn, leaveBytes)
	}
	c.Cut()
}

// sendAway ends the connection of a client for an offence. It sends a GOAWAY with code and the offence's name, unless a
// write to the client is stuck.
func (c *conn) sendAway(o *Offence, code http2.ErrCode) {
	c.server.SentAway(c.RemoteAddr(), o.Name)
	c.mu.Lock()
	c.endingLocked()
	c.mu.Unlock()
	if !c.lockWrites() {
		c.Cut()
		return
	}
	if c.guard.sent.atBoundary() {
		_ = c.SetWriteDeadline(time.Now().Add(leaveTimeout))
		var p []byte
		if c.writes.Load() == 0 {
			p = h2conn.AppendFrameHeader(p, h2conn.FrameHeader{Type: http2.FrameSettings}) // the first frame (RFC 9113 §3.4)
		}
		_, _ = c.Conn.Write(append(p, goAwayFrame(c.guard.handled, o.Name, code)...))
	}
	c.wmu.Unlock()
	_ = c.Close()
}

// goAwayFrame returns a GOAWAY frame (RFC 9113 §6.8). last is the highest stream that may have been processed.
func goAwayFrame(last uint32, debug string, code http2.ErrCode) []byte {
	b := h2conn.AppendFrameHeader(nil, h2conn.FrameHeader{Length: 8 + len(debug), Type: http2.FrameGoAway})
	b = binary.BigEndian.AppendUint32(b, last)
	b = binary.BigEndian.AppendUint32(b, uint32(code))
	return append(b, debug...)
}

// begin sets the transport of the connection and the function that ends it, and removes the deadline of the preface. It
// reports false if the connection is closed already; then it has ended the transport.
func (c *conn) begin(t transport, writerDone chan struct{}, end func()) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.transport, c.writerDone, c.end = t, writerDone, end
	if c.crashed { // crash ran before there was a writerDone
		close(writerDone)
	}
	if !c.is(stateOpen) {
		c.endLocked()
		return false
	}
	return c.Conn.SetReadDeadline(time.Time{}) == nil
}

// endLocked ends the transport, if there is one, in a goroutine; c.ending waits for it. mu is held. It may be called more
// than once.
func (c *conn) endLocked() {
	if end := c.end; end != nil {
		c.end = nil
		c.ending.Go(end)
	}
}

// Drain tells the client to open no more streams. If there is no transport yet, it does nothing: Serve drains the transport
// that it makes while the server drains.
func (c *conn) Drain() {
	if t, ok := c.begun(); ok {
		t.drain()
	}
}

// Calls returns how many calls have a handler that has not returned.
func (c *conn) Calls() int {
	if t, ok := c.begun(); ok {
		return t.running()
	}
	return 0
}

// begun returns the transport, or false if there is none yet.
func (c *conn) begun() (t transport, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.transport, c.transport.kitex != nil
}

// Reader returns the connection's reader. Kitex looks for a method of this name.
func (c *conn) Reader() netpoll.Reader { return c.reader }

// Read implements net.Conn over the same buffer as Reader.
func (c *conn) Read(p []byte) (int, error) { return c.reader.Read(p) }

// SetReadDeadline does nothing, because Kitex would remove the deadline of the preface. After the preface, keepalive and
// cutStuck find connections whose client is gone.
func (c *conn) SetReadDeadline(time.Time) error { return nil }

// Serve serves the connection until it ends.
func (c *conn) Serve() {
	defer c.cutOnCrash()()
	defer c.ending.Wait()
	defer c.leave()
	defer func() {
		if p := recover(); p != nil {
			klog.Errorf("framegate: panic in the connection of %s: %v\n%s", c.RemoteAddr(), p, debug.Stack())
		}
	}()
	opt, handler := c.server.Kitex()
	_ = c.Conn.SetReadDeadline(time.Now().Add(c.plane.cfg.prefaceTimeout))
	if !c.isHTTP2() {
		return
	}
	ctx, err := handler.OnActive(context.Background(), c) // makes the transport, which reads the preface and the first SETTINGS
	if err != nil {
		return
	}
	t, err := transportOf(ctx)
	var writerDone chan struct{}
	if err == nil {
		writerDone, err = t.writer()
	}
	if err == nil {
		err = t.limitStreams(opt.GRPCCfg.MaxStreams)
	}
	if err != nil {
		klog.Errorf("framegate: this build does not fit its Kitex: %v", err)
		handler.OnInactive(ctx, c)
		return
	}
	t.gate(c.plane.cfg.Gate, opt.GRPCCfg.MaxStreams)
	c.guard.running = t.running
	if c.begin(t, writerDone, func() { handler.OnInactive(ctx, c) }) {
		if c.server.Draining() {
			t.drain() // Shutdown may not have seen the transport
		}
		_ = handler.OnRead(ctx, c) // returns, with nil, when the connection has ended
	}
	_ = c.Close()
	c.ending.Wait() // before leave closes the socket
}

// notHTTP2 is the answer to a client that speaks HTTP/1.
const notHTTP2 = "HTTP/1.1 505 HTTP Version Not Supported\r\nContent-Type: text/plain\r\nContent-Length: 43\r\nConnection: close\r\n\r\n" +
	"this port speaks gRPC, which needs HTTP/2.\n"

// isHTTP2 reports whether the first bytes of the connection are those of HTTP/2's client preface (RFC 9113 §3.4). If they
// are HTTP/1, it sends notHTTP2 and closes the connection.
func (c *conn) isHTTP2() bool {
	const startLen = len("PRI * HTTP")
	start, err := c.reader.Peek(startLen)
	if err != nil {
		return false
	}
	if string(start) == http2.ClientPreface[:startLen] {
		return true
	}
	if isHTTP1(start) {
		_ = c.SetWriteDeadline(time.Now().Add(time.Second))
		_, _ = io.WriteString(c.Conn, notHTTP2)
		_ = c.Close()
	}
	return false
}

func isHTTP1(start []byte) bool {
	for _, method := range []string{"GET ", "HEAD ", "POST ", "PUT ", "DELETE ", "OPTIONS ", "PATCH ", "CONNECT ", "TRACE "} {
		if bytes.HasPrefix(start, []byte(method)) {
			return true
		}
	}
	return false
}
