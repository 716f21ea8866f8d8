package relay

import (
	"math"
	"net"
	"sync/atomic"

	"golang.org/x/net/http2"

	"github.com/framegate/framegate/handler/acceptor"
	"github.com/framegate/framegate/pool/policy"
	"github.com/framegate/framegate/pool/transport"
	"github.com/framegate/framegate/relay/h2"
)

// upstreamConn is a connection to an endpoint: a transport.Conn, whose pool is the shard's.
//
//	connecting -> settled (SETTINGS have come) -> leaving (GOAWAY, worn out) -> ended
type upstreamConn struct {
	*socket
	address    string
	pooled     transport.Owner
	keepalive  keepalive
	limits     *h2.Limits
	offences   *acceptor.Offences // counts what the endpoint does; nil if nobody does
	settled    chan *h2.ConnError // gets nil, or why there is no connection; capacity 1
	isSettled  bool               // settled got nil
	abandoned  bool               // it is never settled: whoever made it has given up
	maxStreams atomic.Uint32      // of the peer
	busy       atomic.Bool        // it gets no further streams, because the endpoint is slow to read
}

var _ transport.Conn = (*upstreamConn)(nil)

// wornIDs is how many stream identifiers are left when a connection is retired (RFC 9113 §5.1.1). They are for streams that are
// being opened at that moment.
const wornIDs = 1 << 16

// isBusy reports whether so much waits for an endpoint that reads slowly that its connection gets no more calls for a while: it would
// fail. Headers and trailers are under no flow control.
func (u *upstreamConn) isBusy() bool { return u.h2.IsBusy() }

// opened is called when a stream was opened: it notes when, and that the connection is busy, and retires it when its stream
// identifiers run out.
func (u *upstreamConn) opened() {
	u.h2.OpenedAt(u.shard.now)
	if u.isBusy() {
		u.busy.Store(true)
	}
	if u.h2.IDsLeft() == wornIDs {
		u.pooled.Retire()
	}
}

// wrote implements owner: it notes that the connection is busy no longer.
func (u *upstreamConn) wrote() {
	if u.busy.Load() && u.h2.IsBusyNoMore() {
		u.busy.Store(false)
		u.pooled.LimitChanged()
	}
}

// portion implements owner.
func (u *upstreamConn) portion(int) int { return maxPortion }

// Opened implements h2.Events. A server opens no streams.
func (u *upstreamConn) Opened() *h2.Stream { return nil }

// Refused implements h2.Events.
func (u *upstreamConn) Refused() {}

// Head implements h2.Events.
func (u *upstreamConn) Head(s *h2.Stream, h *h2.Head) {
	if c, ok := s.Owner.(*call); ok {
		c.answer(h)
		return
	}
	s.Owner.(*endpointStream).head(h)
}

// Data implements h2.Events.
func (u *upstreamConn) Data(s *h2.Stream, p []byte, end bool) {
	if c, ok := s.Owner.(*call); ok {
		c.toClient(p, end)
		return
	}
	s.Owner.(*endpointStream).data(p, end)
}

// Sent implements h2.Events.
func (u *upstreamConn) Sent(s *h2.Stream, p []byte) {
	if c, ok := s.Owner.(*call); ok {
		c.sentToEndpoint(len(p))
		return
	}
	s.Owner.(*endpointStream).moved.Broadcast()
}

// Done implements h2.Events.
func (u *upstreamConn) Done(s *h2.Stream) {
	if c, ok := s.Owner.(*call); ok {
		c.releaseSlot()
	}
}

// Reset implements h2.Events.
func (u *upstreamConn) Reset(s *h2.Stream, r *h2.Reset) {
	if c, ok := s.Owner.(*call); ok {
		c.upstreamReset(r)
		return
	}
	s.Owner.(*endpointStream).resetBy(r)
}

// SettingsChanged implements h2.Events.
func (u *upstreamConn) SettingsChanged() {
	limit := u.h2.MaxStreams()
	if limit == math.MaxInt32 {
		limit = math.MaxUint32
	}
	changed := u.maxStreams.Swap(limit) != limit
	switch {
	case u.abandoned:
	case !u.isSettled:
		u.isSettled = true
		u.settled <- nil
	case changed:
		u.pooled.LimitChanged()
	}
}

// GoingAway implements h2.Events.
func (u *upstreamConn) GoingAway(http2.ErrCode, string) { u.pooled.Retire() }

// Pong implements h2.Events.
func (u *upstreamConn) Pong() { u.keepalive.sent = 0 }

// Wake implements h2.Events.
func (u *upstreamConn) Wake() { u.shard.mark(u.socket) }

// abandon gives the connection up before it is settled, or reports false if it is.
func (u *upstreamConn) abandon() bool {
	u.shard.lock()
	defer u.shard.unlock()
	u.abandoned = !u.isSettled
	return u.abandoned
}

// failed implements owner.
func (u *upstreamConn) failed() {
	if u.isSettled {
		u.pooled.Retire()
	}
}

// ended implements owner.
func (u *upstreamConn) ended(why *h2.ConnError) {
	u.shard.endpoints.remove(u.socket)
	if why.Offence != "" && !why.Peer && u.offences != nil {
		u.offences.Note(u.address, string(why.Offence))
	}
	if !u.isSettled {
		u.settled <- why
		return
	}
	u.pooled.Retire()
}

// closed is called when the socket's goroutine is about to end, without the shard's mu.
func (u *upstreamConn) closed(why *h2.ConnError) {
	if u.isSettled {
		u.pooled.Ended(why)
	}
}

// MaxStreams implements transport.Conn. A busy connection has room for one stream, so that it is known as one that takes streams.
func (u *upstreamConn) MaxStreams() uint32 {
	if u.busy.Load() {
		return min(u.maxStreams.Load(), 1)
	}
	return u.maxStreams.Load()
}

// LocalAddr implements transport.Conn.
func (u *upstreamConn) LocalAddr() net.Addr { return u.nc.LocalAddr() }

// Close implements transport.Conn. It may be called with the shard's mu held, so another goroutine does it.
func (u *upstreamConn) Close() {
	u.shard.wg.Go(func() {
		u.shard.lock()
		defer u.shard.unlock()
		u.h2.GoAway()
		u.flush()
		u.kill()
	})
}

// CloseNow implements transport.Conn. It may be called with the shard's mu held, so another goroutine does it.
func (u *upstreamConn) CloseNow(err error) {
	u.closeFor(&h2.ConnError{Code: http2.ErrCodeCancel, Text: err.Error()})
}

// closeFor is CloseNow with the reason.
func (u *upstreamConn) closeFor(why *h2.ConnError) {
	u.shard.wg.Go(func() {
		u.shard.lock()
		defer u.shard.unlock()
		u.h2.Close(why)
		u.kill()
	})
}

// keepalive probes an endpoint that says nothing while there are streams.
type keepalive struct {
	policy policy.Keepalive
	sent   int64 // when the PING was sent that has no answer; 0 for none
}

// tick implements owner. It sends a PING if it is time for one, and closes the connection of an endpoint that has not answered one,
// or takes nothing of what it is sent.
func (u *upstreamConn) tick(now int64) {
	k := &u.keepalive
	switch {
	case u.tooSlow(now, u.limits.WriteTimeout):
	case k.policy.Time <= 0:
	case k.sent != 0 && now-k.sent > int64(k.policy.Timeout):
		u.h2.Close(&h2.ConnError{Code: http2.ErrCodeNo, Text: "no answer to a keepalive ping in " + k.policy.Timeout.String()})
		u.kill()
	case k.sent == 0 && u.h2.Streams() > 0 && now-u.h2.Heard() > int64(k.policy.Time):
		k.sent = now
		u.h2.Ping(keepalivePing)
	}
}
