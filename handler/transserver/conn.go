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

	"github.com/framegate/framegate/pool/h2conn"
)

// connState is how far the end of a connection has come.
//
//	open --- Close, sendAway ---> ending ---> leaving ---+
//	     --- cut, or a failed write ---------------------+--> over
type connState int32

const (
	stateOpen    connState = iota
	stateEnding            // the transport writes nothing more
	stateLeaving           // our FIN is sent, and must reach the client with all before it: what it sends is thrown away
	stateOver              // closed
)

// leaveTimeout bounds how long a client may take to close a connection that we have closed, leaveBytes what it may send
// meanwhile. A socket that is closed with unread bytes is reset, and what it has sent may then be lost.
const (
	leaveTimeout = time.Second
	leaveBytes   = 4 << 20
)

// busyTimeout is how long the end of the connection waits for the write under way. A client that has not taken it by then
// is cut off.
const busyTimeout = 100 * time.Millisecond

// conn is one client connection. Kitex's transport does not notice by itself that it has ended while its reader waits
// until the queue of answers to the client's own frames (50 SETTINGS acknowledgements, say) gets shorter: so conn ends
// the transport when it is closed or cannot be written to.
type conn struct {
	net.Conn
	server *Server
	reader *h2conn.Reader
	guard  *guard

	wmu    sync.Mutex    // serializes Write; guards due, and what guard.sent says is guarded by it
	due    []byte        // whole frames that wait for mayInsert
	writes atomic.Uint32 // writes begun and done: odd while one is under way
	state  atomic.Int32  // a connState; changed with mu held

	mu         sync.Mutex     // guards the fields below
	transport  transport      // the zero value until there is one
	writerDone chan struct{}  // of the transport; nil until there is one
	crashed    bool           // a goroutine of the transport has ended with a panic
	end        func()         // ends the transport; nil until there is one
	ending     sync.WaitGroup // end, in a goroutine: who closes the connection may be whom the transport waits for

	stuck stuck // owned by the server's watch
}

func newConn(nc net.Conn, s *Server) *conn {
	maxHeader := maxHeaderBytes(s.opt.GRPCCfg)
	c := &conn{Conn: nc, server: s, guard: newGuard(s.opt.GRPCCfg.MaxStreams, maxHeader)}
	var src io.Reader = socket{c}
	if s.cfg.Refuse != nil {
		src = &blocks{c: c, Blocks: h2conn.NewBlocks(src, h2conn.BlocksConfig{
			Judge: &requests{conn: c}, MaxList: maxHeader, MaxBytes: c.guard.maxBlock, Skip: len(http2.ClientPreface),
		})}
	}
	c.reader = h2conn.NewReader(src, nil)
	return c
}

// blocks is what the Reader reads from: the requests of which the transport may see something.
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

// socket is what the client sends, as far as the guard lets it in.
type socket struct{ c *conn }

// Read comes only when the transport needs bytes beyond the last whole frame: it has handled every frame read so far.
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

// Write implements net.Conn. It is the transport's.
func (c *conn) Write(p []byte) (int, error) {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	if !c.is(stateOpen) { // written behind our FIN, it would end the socket before the client has read what is on the way
		return 0, net.ErrClosed
	}
	n, err := c.writeLocked(p)
	if len(c.due) > 0 && err == nil && c.mayInsert() {
		_, _ = c.writeLocked(c.due)
		c.due = nil
	}
	return n, err
}

// send writes whole frames of our own, as soon as they may come, unless the connection ends.
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

// mayInsert reports whether frames of our own may come next: after the transport's SETTINGS, which are the first frame of
// all (RFC 9113 §3.4), and not within a header block (§6.10). wmu is held.
func (c *conn) mayInsert() bool { return c.writes.Load() > 0 && c.guard.sent.atBoundary() }

func (c *conn) writeLocked(p []byte) (int, error) {
	c.guard.sent.follower.Follow(p) // before the client can react to it
	c.writes.Add(1)
	n, err := c.Conn.Write(p)
	c.writes.Add(1)
	if err != nil {
		c.cut()
	}
	return n, err
}

// Close tells the client that nothing more comes, and ends the transport. serve closes the socket when the client has
// closed it too, or leaveTimeout has passed. Close may be called more than once and from anywhere.
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
	return c.Conn.SetReadDeadline(time.Unix(1, 0)) // who reads hears of it
}

// endingLocked lets the transport write nothing more.
func (c *conn) endingLocked() {
	if c.is(stateOpen) {
		c.state.Store(int32(stateEnding))
	}
}

// lockWrites locks wmu when the write under way has ended. It reports false, and has not, if that takes too long: the write
// may be stuck in the middle of a frame. No other comes in between, as the transport may write no more.
func (c *conn) lockWrites() bool {
	for begin := time.Now(); !c.wmu.TryLock(); time.Sleep(time.Millisecond) {
		if time.Since(begin) > busyTimeout {
			return false
		}
	}
	return true
}

// cut closes the socket at once and ends the transport.
func (c *conn) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.endLocked()
	_ = c.cutLocked()
}

func (c *conn) cutLocked() error {
	c.state.Store(int32(stateOver))
	return c.Conn.Close()
}

// leave reads what the client still sends, for a while, and closes the socket. Nobody else reads.
func (c *conn) leave() {
	if c.is(stateLeaving) && c.Conn.SetReadDeadline(time.Now().Add(leaveTimeout)) == nil {
		_, _ = io.CopyN(io.Discard, c.Conn, leaveBytes)
	}
	c.cut()
}

// sendAway closes the connection of a client that has done what no honest one does. It hears why, unless it does not take
// what is being written to it; code is that of the GOAWAY.
func (c *conn) sendAway(o *Offence, code http2.ErrCode) {
	c.server.offended(c, o)
	c.mu.Lock()
	c.endingLocked()
	c.mu.Unlock()
	if !c.lockWrites() {
		c.cut()
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

// goAwayFrame is a GOAWAY (RFC 9113 §6.8).
func goAwayFrame(last uint32, debug string, code http2.ErrCode) []byte {
	b := h2conn.AppendFrameHeader(nil, h2conn.FrameHeader{Length: 8 + len(debug), Type: http2.FrameGoAway})
	b = binary.BigEndian.AppendUint32(b, last)
	b = binary.BigEndian.AppendUint32(b, uint32(code))
	return append(b, debug...)
}

// begin takes the transport and what ends it, and takes the deadline of the preface away. It reports whether there is
// anything to serve: if the connection is closed already, the transport is ended.
func (c *conn) begin(t transport, writerDone chan struct{}, end func()) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.transport, c.writerDone, c.end = t, writerDone, end
	if c.crashed { // before there was a writer to speak for
		close(writerDone)
	}
	if !c.is(stateOpen) {
		c.endLocked()
		return false
	}
	return c.Conn.SetReadDeadline(time.Time{}) == nil
}

func (c *conn) endLocked() {
	if end := c.end; end != nil {
		c.end = nil
		c.ending.Go(end)
	}
}

// drain tells the client to open no more streams, if the connection is so far; serve does it if it comes there later.
func (c *conn) drain() {
	if t, ok := c.begun(); ok {
		t.drain()
	}
}

// running returns how many calls have a handler that has not returned.
func (c *conn) running() int {
	if t, ok := c.begun(); ok {
		return t.running()
	}
	return 0
}

// begun returns the transport, if the connection is so far.
func (c *conn) begun() (t transport, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.transport, c.transport.kitex != nil
}

// Reader gives Kitex its reader (it asks for it by this name).
func (c *conn) Reader() netpoll.Reader { return c.reader }

// Read implements net.Conn over the same buffer as Reader.
func (c *conn) Read(p []byte) (int, error) { return c.reader.Read(p) }

// SetReadDeadline does nothing: Kitex would take away the deadline of the preface. Its keepalive watches over the rest.
func (c *conn) SetReadDeadline(time.Time) error { return nil }

// serve serves the connection until it ends.
func (c *conn) serve() {
	defer c.watchCrashes()()
	defer c.ending.Wait()
	defer c.leave()
	defer func() {
		if p := recover(); p != nil {
			klog.Errorf("framegate: panic in the connection of %s: %v\n%s", c.RemoteAddr(), p, debug.Stack())
		}
	}()
	s := c.server
	_ = c.Conn.SetReadDeadline(time.Now().Add(s.cfg.prefaceTimeout))
	if !c.isHTTP2() {
		return
	}
	ctx, err := s.handler.OnActive(context.Background(), c) // reads the preface and the first SETTINGS
	if err != nil {
		return
	}
	t, err := transportOf(ctx)
	var writerDone chan struct{}
	if err == nil {
		writerDone, err = t.writer()
	}
	if err == nil {
		err = t.limitStreams(s.opt.GRPCCfg.MaxStreams)
	}
	if err != nil {
		klog.Errorf("framegate: this build does not fit its Kitex: %v", err)
		s.handler.OnInactive(ctx, c)
		return
	}
	t.gate(s.cfg.Gate, s.opt.GRPCCfg.MaxStreams)
	c.guard.running = t.running
	if c.begin(t, writerDone, func() { s.handler.OnInactive(ctx, c) }) {
		if s.is(phaseDraining) {
			t.drain() // Shutdown may not have seen the transport
		}
		_ = s.handler.OnRead(ctx, c) // returns, with nil, when the connection has ended
	}
	_ = c.Close()
	c.ending.Wait() // before leave: what it writes must reach the client
}

// notHTTP2 is what a client that speaks HTTP/1 is told.
const notHTTP2 = "HTTP/1.1 505 HTTP Version Not Supported\r\nContent-Type: text/plain\r\nContent-Length: 43\r\nConnection: close\r\n\r\n" +
	"this port speaks gRPC, which needs HTTP/2.\n"

// isHTTP2 looks at the start of the client's preface (RFC 9113 §3.4). What is no HTTP/2 gets an answer if it is HTTP/1.
func (c *conn) isHTTP2() bool {
	const look = len("PRI * HTTP")
	start, err := c.reader.Peek(look)
	if err != nil {
		return false
	}
	if string(start) == http2.ClientPreface[:look] {
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
