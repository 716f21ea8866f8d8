package relay

import (
	"bytes"
	"net"
	"sync/atomic"

	"golang.org/x/net/http2"

	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/codes"

	"github.com/framegate/framegate/handler/acceptor"
	"github.com/framegate/framegate/handler/local"
	"github.com/framegate/framegate/relay/h2"
)

// clientConn is a client's connection: an acceptor.Conn.
type clientConn struct {
	*socket
	plane  *Plane
	server *acceptor.Server
	peer   net.Addr
	calls  atomic.Int32

	builtin *upstreamConn // to the Kitex server; nil before the first call that needs it

	excess   int64 // when a call was last refused because there were too many; 0 for long ago
	fresh    int   // calls that the last read has brought
	pinged   int64 // when the PING was sent that has no answer; 0 for none
	draining bool  // a PING follows the first GOAWAY
}

// notHTTP2 is the answer to a client that speaks HTTP/1.
const notHTTP2 = "HTTP/1.1 505 HTTP Version Not Supported\r\nContent-Type: text/plain\r\nContent-Length: 43\r\nConnection: close\r\n\r\n" +
	"this port speaks gRPC, which needs HTTP/2.\n"

// greet returns notHTTP2 if the first bytes of a connection are HTTP/1.
func greet(first []byte) string {
	for _, method := range []string{"GET ", "HEAD ", "POST ", "PUT ", "DELETE ", "OPTIONS ", "PATCH ", "CONNECT ", "TRACE "} {
		if bytes.HasPrefix(first, []byte(method)) {
			return notHTTP2
		}
	}
	return ""
}

// Serve implements acceptor.Conn.
func (c *clientConn) Serve() { c.serve() }

// RemoteAddr implements acceptor.Conn.
func (c *clientConn) RemoteAddr() net.Addr { return c.peer }

// Calls implements acceptor.Conn.
func (c *clientConn) Calls() int { return int(c.calls.Load()) }

// enter counts a call, which counts in Calls already, or reports false if there are too many.
func (c *clientConn) enter() bool {
	return c.plane.cfg.Calls.Enter(c, c.Calls() > int(c.plane.cfg.HTTP2.MaxConcurrentStreams))
}

// drainPing is the payload of the PING after which the client has read the first GOAWAY.
var drainPing = [8]byte{'d', 'r', 'a', 'i', 'n'}

// Drain implements acceptor.Conn. Streams that the client opens before it has read the first GOAWAY are served; its answer to
// the PING tells that it has (RFC 9113 §6.8).
func (c *clientConn) Drain() {
	c.shard.lock()
	defer c.shard.unlock()
	c.draining = true
	c.h2.AnnounceGoAway()
	c.h2.Ping(drainPing)
}

// Cut implements acceptor.Conn.
func (c *clientConn) Cut() {
	c.shard.lock()
	defer c.shard.unlock()
	c.kill()
}

// Opened implements h2.Events.
func (c *clientConn) Opened() *h2.Stream {
	c.calls.Add(1)
	c.fresh++
	return &c.shard.newCall(c).client
}

// Refused implements h2.Events.
func (c *clientConn) Refused() { c.plane.cfg.Calls.Refused() }

// Head implements h2.Events.
func (c *clientConn) Head(s *h2.Stream, h *h2.Head) {
	k := s.Owner.(*call)
	switch {
	case h != nil && h.Trailer:
		k.trailersToEndpoint(h)
	case k.begun: // trailers that are too long
		k.fail(errTooLarge)
		if k.down != nil {
			k.down.reset(&h2.Reset{Code: http2.ErrCodeEnhanceYourCalm, Text: "the trailers are longer than max_header_bytes"})
		}
	default:
		k.begun = true
		k.begin(h)
	}
}

// Data implements h2.Events.
func (c *clientConn) Data(s *h2.Stream, p []byte, end bool) { s.Owner.(*call).toEndpoint(p, end) }

// Sent implements h2.Events.
func (c *clientConn) Sent(s *h2.Stream, p []byte) { s.Owner.(*call).sentToClient(p) }

// Done implements h2.Events.
func (c *clientConn) Done(s *h2.Stream) {
	if k := s.Owner.(*call); k.down == nil { // else the handler has not returned
		k.end()
	}
}

// Reset implements h2.Events.
func (c *clientConn) Reset(s *h2.Stream, r *h2.Reset) {
	k := s.Owner.(*call)
	if k.down != nil {
		k.down.reset(r)
		return
	}
	if k.settled { // it has ended before
		k.end()
		return
	}
	k.ended.code, k.ended.reason = codes.Canceled, local.ReasonCanceled
	if k.nearlyLate() { // the client's timer for the same deadline is the earlier one
		k.ended.code, k.ended.reason = codes.DeadlineExceeded, local.ReasonTimeout
	}
	if r.Peer && r.Conn == nil {
		k.upstream.Reset(r.Code)
	}
	k.end()
}

// SettingsChanged implements h2.Events.
func (c *clientConn) SettingsChanged() {}

// GoingAway implements h2.Events.
func (c *clientConn) GoingAway(http2.ErrCode, string) {}

// Pong implements h2.Events.
func (c *clientConn) Pong() {
	c.pinged = 0
	if c.draining {
		c.h2.GoAway()
	}
}

// Wake implements h2.Events.
func (c *clientConn) Wake() { c.shard.mark(c.socket) }

// tick implements owner. It ends a connection whose client takes nothing of what it is sent, or does not answer a PING.
func (c *clientConn) tick(now int64) {
	cfg := &c.plane.cfg
	switch {
	case c.tooSlow(now, cfg.HTTP2.Limits.WriteTimeout):
	case c.pinged != 0 && now-c.pinged > int64(cfg.Keepalive.Timeout):
		c.h2.Close(&h2.ConnError{Code: http2.ErrCodeNo, Text: "no answer to a keepalive ping in " + cfg.Keepalive.Timeout.String()})
		c.kill()
	case cfg.Keepalive.Time > 0 && c.pinged == 0 && c.h2.Settled() && now-c.h2.Heard() > int64(cfg.Keepalive.Time):
		c.pinged = now
		c.h2.Ping(keepalivePing)
	}
}

// keepalivePing is the payload of the PINGs that find peers which are gone.
var keepalivePing = [8]byte{'k', 'e', 'e', 'p'}

// wrote implements owner.
func (c *clientConn) wrote() {}

// failed implements owner.
func (c *clientConn) failed() {}

// ended implements owner.
func (c *clientConn) ended(why *h2.ConnError) {
	if c.builtin != nil {
		c.builtin.kill()
	}
	if why.Offence != "" && !why.Peer {
		c.server.SentAway(c.peer, string(why.Offence))
	}
}

// closed implements owner.
func (c *clientConn) closed(*h2.ConnError) {}
