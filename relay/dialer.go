package relay

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"golang.org/x/net/http2"

	"github.com/framegate/framegate/handler/acceptor"
	"github.com/framegate/framegate/pool/dial"
	"github.com/framegate/framegate/pool/policy"
	"github.com/framegate/framegate/pool/transport"
	"github.com/framegate/framegate/relay/h2"
)

// dialer makes the connections of a shard to endpoints: it is a transport.Dialer.
type dialer struct {
	shard    *shard
	limits   h2.Limits
	offences *acceptor.Offences // of endpoints; nil if nobody counts them
}

// tcpKeepAlive detects a peer that is gone from the network, also while there are no calls.
var tcpKeepAlive = net.KeepAliveConfig{Enable: true, Idle: 30 * time.Second, Interval: 10 * time.Second, Count: 3}

// Dial implements transport.Dialer. It waits for the peer's SETTINGS, which show that it speaks HTTP/2.
func (d dialer) Dial(ctx context.Context, address string, p *policy.Policy, o transport.Owner) (transport.Conn, error) {
	dialCtx, cancel := context.WithTimeout(ctx, p.ConnectTimeout)
	defer cancel()
	nc, err := dial.Endpoint(dialCtx, &net.Dialer{KeepAliveConfig: tcpKeepAlive}, address)
	if err != nil {
		return nil, err
	}
	s := d.shard
	k, err := newSocket(s, nc)
	if err != nil {
		_ = nc.Close()
		return nil, err
	}
	cfg := d.config(p)
	u := &upstreamConn{
		socket: k, address: address, pooled: o, keepalive: keepalive{policy: p.Keepalive}, limits: &cfg.Limits, offences: d.offences, settled: make(chan *h2.ConnError, 1),
	}
	k.owner = u
	s.lock()
	k.h2 = h2.NewClient(&cfg, u, s.memory, s.fields, s.now)
	s.sockets[k] = struct{}{}
	s.endpoints.add(k)
	s.mark(k)
	s.unlock()
	s.wg.Go(k.serve)
	select {
	case failed := <-u.settled:
		if failed != nil {
			return nil, fmt.Errorf("no HTTP/2 connection: %w", failed)
		}
		return u, nil
	case <-dialCtx.Done():
		if !u.abandon() {
			return u, nil // it was settled just now; if its pool has ended, it closes the connection
		}
		if ctx.Err() != nil {
			u.CloseNow(context.Cause(dialCtx))
			return nil, ctx.Err()
		}
		text := fmt.Sprintf("no HTTP/2 SETTINGS in %s", p.ConnectTimeout)
		u.closeFor(&h2.ConnError{Code: http2.ErrCodeSettingsTimeout, Offence: h2.HandshakeTooSlow, Text: text})
		return nil, errors.New(text)
	}
}

// config returns what a connection of that policy announces and allows.
func (d dialer) config(p *policy.Policy) h2.Config {
	c := h2.Config{StreamWindow: p.StreamWindow, ConnWindow: p.ConnectionWindow, MaxHeaderList: p.MaxHeaderBytes, Limits: d.limits}
	l := &c.Limits
	l.HandshakeTimeout = cmp.Or(l.HandshakeTimeout, max(h2.DefaultLimits().HandshakeTimeout, p.ConnectTimeout))
	l.HeaderBlockBytes = cmp.Or(l.HeaderBlockBytes, 32*int(min(p.MaxHeaderBytes, 1<<20)))
	l.HeaderBlockBytes = max(l.HeaderBlockBytes, int(p.MaxHeaderBytes)) // a route's policy may allow longer headers
	if p.Keepalive.Time > 0 {
		l.WriteTimeout = cmp.Or(l.WriteTimeout, p.Keepalive.Time+p.Keepalive.Timeout)
	}
	return c.WithDefaults()
}
