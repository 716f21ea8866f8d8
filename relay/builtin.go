package relay

import (
	"strings"

	"github.com/framegate/framegate/relay/h2"
)

// isBuiltin reports whether the Kitex server has the method.
func (p *Plane) isBuiltin(method string) bool {
	return p.builtins != "" && strings.HasPrefix(method, p.builtins)
}

// builtinConn returns the connection to the Kitex server for the calls of a client: a pair of sockets in this process, at whose
// other end is the Kitex data plane. Each client has one of its own, so that what it does to it is nobody else's loss. The
// shard's mu is held.
func (c *clientConn) builtinConn() (*upstreamConn, error) {
	if c.builtin != nil && c.builtin.takesStreams() {
		return c.builtin, nil
	}
	s := c.shard
	ours, theirs, err := socketPair()
	if err != nil {
		return nil, err
	}
	k, err := newSocket(s, ours)
	if err != nil {
		return nil, err
	}
	cfg := h2.Config{}.WithDefaults()
	u := &upstreamConn{socket: k, address: "kitex", pooled: unpooled{}, limits: &cfg.Limits, settled: make(chan *h2.ConnError, 1)}
	k.owner = u
	k.h2 = h2.NewClient(&cfg, u, s.memory, s.fields, s.now)
	s.sockets[k] = struct{}{}
	s.mark(k)
	s.wg.Go(k.serve)
	s.wg.Go(c.plane.cfg.Kitex.Conn(theirs, c.server).Serve)
	c.builtin = u
	return u, nil
}

// unpooled is the transport.Owner of a connection that is in no pool.
type unpooled struct{}

func (unpooled) Streams() int  { return 0 }
func (unpooled) Release()      {}
func (unpooled) LimitChanged() {}
func (unpooled) Retire()       {}
func (unpooled) Ended(error)   {}
