package transserver

import (
	"bytes"
	"context"
	"io"
	"net"
	"runtime/debug"
	"sync"
	"time"

	"github.com/cloudwego/kitex/pkg/klog"
	"github.com/cloudwego/kitex/pkg/remote"
	"github.com/cloudwego/netpoll"
	"golang.org/x/net/http2"

	"github.com/framegate/framegate/pool/h2conn"
)

// conn is one client connection. Kitex's transport does not notice by itself that it has ended while its reader waits
// until the queue of answers to the client's own frames (50 SETTINGS acknowledgements, say) gets shorter: so conn ends the
// transport when it is closed or cannot be written to.
type conn struct {
	net.Conn
	reader *h2conn.Reader

	mu     sync.Mutex     // guards the fields below
	closed bool           // Close was called or a write failed
	end    func()         // ends the transport; nil until there is one
	ending sync.WaitGroup // end, in a goroutine: who closes the connection may be whom the transport waits for
}

func newConn(nc net.Conn) *conn {
	return &conn{Conn: nc, reader: h2conn.NewReader(nc, nil)}
}

// Write implements net.Conn.
func (c *conn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	if err != nil {
		_ = c.Close()
	}
	return n, err
}

// Close closes the connection and ends the transport above it. It may be called more than once and from anywhere.
func (c *conn) Close() error {
	err := c.Conn.Close()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	c.endLocked()
	return err
}

// onClose sets what ends the transport; it is done at once if the connection is closed already.
func (c *conn) onClose(end func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.end = end
	if c.closed {
		c.endLocked()
	}
}

func (c *conn) endLocked() {
	if end := c.end; end != nil {
		c.end = nil
		c.ending.Go(end)
	}
}

// Reader gives Kitex its reader (it asks for it by this name).
func (c *conn) Reader() netpoll.Reader { return c.reader }

// Read implements net.Conn over the same buffer as Reader.
func (c *conn) Read(p []byte) (int, error) { return c.reader.Read(p) }

// SetReadDeadline does nothing: Kitex would take away the deadline of the preface. Its keepalive watches over the rest.
func (c *conn) SetReadDeadline(time.Time) error { return nil }

// serve serves the connection until it ends. The client has prefaceTimeout to show that it speaks HTTP/2, and may have
// maxStreams calls open at once.
func (c *conn) serve(handler remote.ServerTransHandler, prefaceTimeout time.Duration, maxStreams uint32) {
	defer func() {
		if p := recover(); p != nil {
			klog.Errorf("framegate: panic in the connection of %s: %v\n%s", c.RemoteAddr(), p, debug.Stack())
		}
	}()
	_ = c.Conn.SetReadDeadline(time.Now().Add(prefaceTimeout))
	if !c.isHTTP2() {
		return
	}
	ctx, err := handler.OnActive(context.Background(), c) // reads the preface and the first SETTINGS
	if err != nil {
		return
	}
	_ = c.Conn.SetReadDeadline(time.Time{})
	if err := limitStreams(ctx, maxStreams); err != nil {
		klog.Errorf("framegate: this build does not fit its Kitex: %v", err)
	}
	c.onClose(func() { handler.OnInactive(ctx, c) })
	_ = handler.OnRead(ctx, c) // returns, with nil, when the connection has ended
	_ = c.Close()
	c.ending.Wait()
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
