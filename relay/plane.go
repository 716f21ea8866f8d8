package relay

import (
	"log/slog"
	"net"
	"sync/atomic"
	"time"

	"github.com/framegate/framegate/handler"
	"github.com/framegate/framegate/handler/acceptor"
	"github.com/framegate/framegate/handler/local"
	"github.com/framegate/framegate/handler/stream"
	"github.com/framegate/framegate/pool"
	"github.com/framegate/framegate/pool/policy"
	"github.com/framegate/framegate/pool/transport"
	"github.com/framegate/framegate/relay/h2"
	"github.com/framegate/framegate/resolver/cluster"
	"github.com/framegate/framegate/resolver/spec"
)

// Calls decides about calls.
type Calls interface {
	Enter(conn any, crowded bool) bool
	Room() int
	Refused()
	Leave()
	Resolve(t *cluster.Target, req spec.Request) bool
	Plain(t *cluster.Target, method string) bool
	CheckHops(via []string) *local.Error
	AddsVia() bool
	Serve(down stream.Downstream, b *handler.Begun)
	Observe(o *handler.Observation) bool
	MaxMessageBytes() int64
}

// Shards are the parts of the relay of a process.
type Shards struct {
	all      []*shard
	offences *acceptor.Offences // of endpoints
	over     chan struct{}      // closed by Close
}

// Groups has the connections of a shard to endpoints.
type Groups interface {
	// Of returns the connections for backends with a policy; nil is the default policy. It returns nil if the shard has none of
	// the connections that the policy allows: then the calls use those of another shard.
	Of(p *policy.Policy) *pool.Group
}

// ShardsConfig configures Shards.
type ShardsConfig struct {
	Shards      int       // how many there are
	MaxBuffered int64     // bytes of DATA that wait in all of them
	Endpoints   h2.Limits // of connections to endpoints
	Log         *slog.Logger

	// Groups is called for each shard, with its number, and returns the Groups of a pool whose connections d makes; at least one
	// shard must have connections of each policy.
	Groups func(i int, d transport.Dialer) Groups
}

// NewShards returns Shards. The caller closes the pools of the Groups before it calls Close.
func NewShards(cfg ShardsConfig) *Shards {
	budget := h2.NewBudget(cfg.MaxBuffered)
	s := &Shards{offences: acceptor.NewOffences("endpoint", h2.OffenceNames(), cfg.Log), over: make(chan struct{})}
	for i := range cfg.Shards {
		one := newShard(budget)
		one.alone = cfg.Shards == 1
		one.groups = cfg.Groups(i, dialer{shard: one, limits: cfg.Endpoints, offences: s.offences})
		one.beside = append(one.beside, s.all...)
		s.all = append(s.all, one)
		one.wg.Go(func() { one.watch(s.over) })
	}
	return s
}

// Close ends all connections to endpoints, and waits for what runs. The Planes have ended before. It is called once.
func (s *Shards) Close() {
	close(s.over)
	for _, one := range s.all {
		one.close()
	}
}

// SentAway returns how many connections to endpoints were ended for what the endpoint did, by reason, since the start.
func (s *Shards) SentAway() map[string]int64 { return s.offences.Counts() }

// EndCalls ends every relayed call under way with UNAVAILABLE "draining".
func (s *Shards) EndCalls() {
	for _, one := range s.all {
		one.endCalls(local.ErrDraining, func(*call) bool { return true })
	}
}

// EndCallsAt ends every relayed call under way at the endpoint with that address with UNAVAILABLE "draining".
func (s *Shards) EndCallsAt(address string) {
	for _, one := range s.all {
		one.endCalls(local.ErrEndpointLeft, func(c *call) bool { return c.picked && c.attempt.Address == address })
	}
}

// Config configures a Plane.
type Config struct {
	Listener string
	Shards   *Shards
	Calls    Calls
	HTTP2    h2.Config

	Keepalive Keepalive

	Builtin string             // protobuf package of the services that the Kitex server has; empty for none
	Kitex   acceptor.DataPlane // serves them
}

// Keepalive says how clients that say nothing are probed with PING.
type Keepalive struct {
	Time    time.Duration // without a word from the client; 0 means never
	Timeout time.Duration // for the answer
}

// Plane is the relay of one listener: an acceptor.DataPlane.
type Plane struct {
	cfg  Config
	next atomic.Uint32

	builtins string // prefix of the methods of the Kitex server, such as /grpc.health.v1.; empty for none
}

// New returns a Plane.
func New(cfg Config) *Plane {
	cfg.HTTP2 = cfg.HTTP2.WithDefaults()
	prefix := ""
	if cfg.Builtin != "" {
		prefix = "/" + cfg.Builtin + "."
	}
	return &Plane{cfg: cfg, builtins: prefix}
}

// Offences implements acceptor.DataPlane.
func (p *Plane) Offences() []string { return h2.OffenceNames() }

// Conn implements acceptor.DataPlane.
func (p *Plane) Conn(nc net.Conn, server *acceptor.Server) acceptor.Conn {
	s := p.cfg.Shards.all[int(p.next.Add(1))%len(p.cfg.Shards.all)]
	k, err := newSocket(s, nc)
	if err != nil {
		panic(err)
	}
	c := &clientConn{socket: k, plane: p, server: server, peer: nc.RemoteAddr()}
	k.owner, k.greeting = c, greet
	s.lock()
	defer s.unlock()
	k.h2 = h2.NewServer(&p.cfg.HTTP2, c, s.memory, s.fields, s.now)
	s.sockets[k] = struct{}{}
	k.h2.Flushed() // nothing is sent before the greeting
	return c
}
