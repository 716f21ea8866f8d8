// Package kitexconn makes the connections of package pool with Kitex's HTTP/2 client (nphttp2), over the connections of
// package h2conn, which work around what that client cannot do.
//
// Enter at Dialer.Dial; then conn.go (a connection's life) and stream.go (one stream). layout.go checks a type of Kitex's that
// the package reads by offsets: a binary must call CheckLayout before it serves.
package kitexconn

import (
	"context"
	"fmt"
	"net"
	"time"

	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/grpc"

	"github.com/framegate/framegate/pool/dial"
	"github.com/framegate/framegate/pool/h2conn"
	"github.com/framegate/framegate/pool/policy"
	"github.com/framegate/framegate/pool/transport"
)

// Dialer implements transport.Dialer. The zero Dialer is ready.
type Dialer struct {
	// DialNet makes the connection below HTTP/2; nil means TCP or a Unix socket, see dial.Endpoint.
	DialNet func(ctx context.Context, address string) (net.Conn, error)
}

// Dial implements transport.Dialer. It waits for the peer's SETTINGS, which show that it speaks HTTP/2.
func (d Dialer) Dial(ctx context.Context, address string, p *policy.Policy, o transport.Owner) (transport.Conn, error) {
	dialCtx, cancel := context.WithTimeout(ctx, p.ConnectTimeout)
	defer cancel()
	dialNet := d.DialNet
	if dialNet == nil {
		dialNet = DialNet
	}
	nc, err := dialNet(dialCtx, address)
	if err != nil {
		return nil, err
	}
	c := &Conn{owner: o, address: address, lost: make(chan struct{})}
	c.h2 = h2conn.New(nc, p.MaxHeaderBytes, o.LimitChanged)
	maxHeader := p.MaxHeaderBytes
	c.tr, err = grpc.NewClientTransportWithConfig(ctx, c.h2, grpc.ConnectOptions{
		InitialWindowSize:     p.StreamWindow,
		InitialConnWindowSize: p.ConnectionWindow,
		MaxHeaderListSize:     &maxHeader,
	}, grpc.ClientConfig{
		RemoteService: c.h2.Name(),
		OnGoAway:      func(context.Context, grpc.ClientTransport, grpc.GoAwayReason) { o.Retire() },
		OnClose:       func(_ context.Context, _ grpc.ClientTransport, err error) { c.onClose(err) },
	})
	if err != nil {
		_ = c.h2.Close()
		if c.isLost() {
			err = c.lostErr // says why the preface could not be written
		}
		return nil, fmt.Errorf("no HTTP/2 connection: %w", err)
	}
	select {
	case <-c.h2.Settings():
	case <-c.lost:
		return nil, fmt.Errorf("no HTTP/2 connection: %w", c.lostErr)
	case <-c.h2.Crashed():
		c.CloseNow(errCrashed)
		return nil, fmt.Errorf("no HTTP/2 connection: %w", errCrashed)
	case <-dialCtx.Done():
		c.CloseNow(context.Cause(dialCtx))
		return nil, fmt.Errorf("no HTTP/2 SETTINGS in %s", p.ConnectTimeout)
	}
	go c.monitor(h2conn.Keepalive(p.Keepalive)) // until Owner.Ended, which the owner waits for
	return c, nil
}

// tcpKeepAlive detects a peer that is gone from the network, also while there are no calls. It does not count for the limits
// that servers have on HTTP/2 pings.
var tcpKeepAlive = net.KeepAliveConfig{Enable: true, Idle: 30 * time.Second, Interval: 10 * time.Second, Count: 3}

// DialNet is what a Dialer does that has no DialNet of its own.
func DialNet(ctx context.Context, address string) (net.Conn, error) {
	return dial.Endpoint(ctx, &net.Dialer{KeepAliveConfig: tcpKeepAlive}, address)
}
