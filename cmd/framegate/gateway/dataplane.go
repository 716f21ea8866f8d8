package gateway

import (
	"cmp"

	"github.com/framegate/framegate/conf"
	"github.com/framegate/framegate/handler/acceptor"
	"github.com/framegate/framegate/handler/kitexstream"
	"github.com/framegate/framegate/handler/transserver"
	"github.com/framegate/framegate/relay"
	"github.com/framegate/framegate/relay/h2"
)

// maxHeaderBlock is how much of a header block over max_header_bytes is read, because the connection goes on behind it.
const maxHeaderBlock = 1 << 20

// dataPlane returns what serves the connections of a listener. builtin is the protobuf package of the services that Kitex's
// server has; empty for none.
func (ls *listeners) dataPlane(l conf.Listener, builtin string) acceptor.DataPlane {
	writeTimeout := l.Keepalive.Time + l.Keepalive.Timeout
	limits := l.PeerLimits.Limits
	limits.HeaderBlockBytes = cmp.Or(limits.HeaderBlockBytes, max(maxHeaderBlock, 4*int(l.MaxHeaderBytes)))
	limits.WriteTimeout = cmp.Or(limits.WriteTimeout, writeTimeout)
	kitex := transserver.New(transserver.Config{
		WriteTimeout: writeTimeout, Gate: kitexstream.GateOf(ls.proxy.Gate(l.Name, builtin)), Refuse: ls.proxy.Refuse(l.Name),
	})
	if l.DataPlane == conf.DataPlaneKitex {
		return kitex
	}
	return relay.New(relay.Config{
		Listener: l.Name, Shards: ls.shards, Calls: ls.proxy.Relayed(l.Name), Builtin: builtin, Kitex: kitex,
		HTTP2: h2.Config{
			MaxConcurrentStreams: l.MaxConcurrentStreams, StreamWindow: l.StreamWindow, ConnWindow: l.ConnectionWindow, MaxHeaderList: l.MaxHeaderBytes,
			MinPing: l.Keepalive.MinPingInterval, RefusedStreams: l.PeerLimits.RefusedStreams, Limits: limits,
		},
		Keepalive: relay.Keepalive{Time: l.Keepalive.Time, Timeout: l.Keepalive.Timeout},
	})
}
