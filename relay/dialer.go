package relay

import (
	"context"
	"fmt"
	"net"
	"time"

	"github.com/framegate/framegate/pool/dial"
	"github.com/framegate/framegate/pool/policy"
	"github.com/framegate/framegate/pool/transport"
	"github.com/framegate/framegate/relay/h2"
)

// dialer makes the connections of a shard to endpoints: it is a transport.Dialer.
type dialer struct{ shard *shard }

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
	u := &upstreamConn{socket: k, address: address, pooled: o, keepalive: keepalive{policy: p.Keepalive}, settled: make(chan *h2.ConnError, 1)}
	k.owner = u
	cfg := h2.Config{
		StreamWindow: p.StreamWindow, ConnWindow: p.ConnectionWindow, MaxHeaderList: p.MaxHeaderBytes,
		Limits: h2.Limits{Handshake: p.ConnectTimeout, BlockBytes: 32 * int(min(p.MaxHeaderBytes, 1<<20))},
	}.WithDefaults()
	s.lock()
	k.h2 = h2.NewClient(&cfg, u, s.memory, s.fields, s.now)
	s.sockets[k] = struct{}{}
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
		u.CloseNow(context.Cause(dialCtx))
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, fmt.Errorf("no HTTP/2 SETTINGS in %s", p.ConnectTimeout)
	}
}
