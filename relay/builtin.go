package relay

import (
	"strings"

	"github.com/framegate/framegate/relay/h2"
)

// builtins are the connections to the services that are registered on the Kitex server itself: pairs of sockets in this
// process, one for each shard that needs one. At the other end is the Kitex data plane.
type builtins struct {
	prefix string // of the methods, such as /grpc.health.v1.; empty for none
	conns  map[*shard]*upstreamConn
}

// isBuiltin reports whether the Kitex server has the method.
func (p *Plane) isBuiltin(method string) bool {
	return p.builtin.prefix != "" && strings.HasPrefix(method, p.builtin.prefix)
}

// builtinConn returns the connection of a shard to the Kitex server. The shard's mu is held.
func (p *Plane) builtinConn(s *shard) (*upstreamConn, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if u := p.builtin.conns[s]; u != nil {
		return u, nil
	}
	ours, theirs, err := socketPair()
	if err != nil {
		return nil, err
	}
	k, err := newSocket(s, ours)
	if err != nil {
		return nil, err
	}
	u := &upstreamConn{socket: k, address: "kitex", pooled: unpooled{}, settled: make(chan *h2.ConnError, 1)}
	k.owner = u
	cfg := h2.Config{}.WithDefaults()
	k.h2 = h2.NewClient(&cfg, u, s.memory, s.fields, s.now)
	s.sockets[k] = struct{}{}
	s.mark(k)
	s.wg.Go(k.serve)
	conn := p.cfg.Kitex.Conn(theirs, p.server)
	s.wg.Go(conn.Serve)
	p.builtin.conns[s] = u
	return u, nil
}

// unpooled is the transport.Owner of a connection that is in no pool.
type unpooled struct{}

func (unpooled) Streams() int  { return 0 }
func (unpooled) Release()      {}
func (unpooled) LimitChanged() {}
func (unpooled) Retire()       {}
func (unpooled) Ended(error)   {}
