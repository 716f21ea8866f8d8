// Package pool shares HTTP/2 connections to endpoints among calls. It opens streams on them, makes more connections when
// there are more streams, and retires a connection when it gets a GOAWAY, breaks, is too old or is idle for too long. It does
// not know what makes the connections: package transport below it is its contract with that.
//
// Enter at Group.Open in open.go; then waiting.go (a call that must wait, also without blocking), queue.go (the calls that
// wait), endpoint.go (chooses, retires and replaces connections), dialing.go (decides when one is made), conn.go (one
// connection), slot.go (a place on it) and reach.go (reports which endpoints can be connected to). Of the packages below it,
// policy has the keys of a pool, dial connects, kitexconn makes connections with Kitex's transport, and h2conn is the
// connection below that. A process may have several Pools: they share nothing.
package pool

import (
	"context"
	"log/slog"
	"sync"

	"github.com/framegate/framegate/pool/transport"
)

// Pool has the connections to all endpoints, in one Group for each policy. It is safe for concurrent use.
type Pool struct {
	log    *slog.Logger
	own    *Group
	dialer transport.Dialer

	ctx    context.Context // of every connection; ended by Close
	cancel context.CancelFunc
	wg     sync.WaitGroup // the goroutines of the pool and of its connections

	reach reach

	groups sync.Map // Config with its defaults -> *Group

	mu     sync.Mutex // guards closed, and adding and removing of endpoints
	closed bool
}

// New returns a Pool, which the caller closes. Its connections are those of d. Its default Group has the policy cfg, which
// must be valid (Config.Validate). Connections that are made and lost are logged to log at debug level.
func New(cfg Config, d transport.Dialer, log *slog.Logger) *Pool {
	p := &Pool{log: log, dialer: d}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	p.own = p.Group(cfg)
	return p
}

// Default returns the Group with the policy that was passed to New.
func (p *Pool) Default() *Group { return p.own }

// Group returns the Group with the policy cfg, which must be valid. It returns the same Group for the same policy. A Group
// is never removed, but one without endpoints takes little memory.
func (p *Pool) Group(cfg Config) *Group {
	cfg = withDefaults(cfg)
	if g, ok := p.groups.Load(cfg); ok {
		return g.(*Group)
	}
	g, _ := p.groups.LoadOrStore(cfg, &Group{pool: p, cfg: cfg})
	return g.(*Group)
}

// Leave calls Group.Leave in every Group.
func (p *Pool) Leave(addr string) {
	for g := range p.all() {
		g.Leave(addr)
	}
}

// all returns an iterator over the Groups.
func (p *Pool) all() func(yield func(*Group) bool) {
	return func(yield func(*Group) bool) {
		p.groups.Range(func(_, g any) bool { return yield(g.(*Group)) })
	}
}

// Close ends every connection and the streams on them, and waits for the pool's goroutines. It may be called more than
// once.
func (p *Pool) Close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.cancel()
	for g := range p.all() {
		for e := range g.all() {
			e.close()
		}
	}
	p.wg.Wait()
}

// Stats are the counts of a Pool.
type Stats struct {
	Endpoints   int // addresses
	Connections int
	Streams     int
}

// Stats returns the counts of the pool, which are exact only if nothing changes meanwhile.
func (p *Pool) Stats() Stats {
	var s Stats
	for _, e := range p.Endpoints() {
		s.Endpoints++
		s.Connections += e.Connections
		s.Streams += e.Streams
	}
	return s
}

// EndpointStats are the counts of one endpoint, in all Groups together.
type EndpointStats struct {
	Address     string
	Connections int
	Streams     int // on all connections

	// Failure is why the last dial failed; nil if it succeeded, or there was none.
	Failure *DialError
}

// Endpoints returns the counts of each endpoint that the pool knows: one that has connections, or had a call not long ago.
// They are as exact as those of Stats, and in no order.
func (p *Pool) Endpoints() []EndpointStats {
	var list []EndpointStats
	place := map[string]int{} // index in list, by address
	for g := range p.all() {
		for e := range g.all() {
			i, ok := place[e.addr]
			if !ok {
				i = len(list)
				place[e.addr] = i
				list = append(list, EndpointStats{Address: e.addr})
			}
			if f := e.dialFailure(); f != nil {
				list[i].Failure = f
			}
			for _, c := range e.all() {
				list[i].Connections++
				list[i].Streams += c.Streams()
			}
		}
	}
	return list
}
