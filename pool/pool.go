// Package pool shares HTTP/2 connections to endpoints among calls: it opens streams on them, makes more connections
// as streams grow, and retires them when they are told to go away, break, age or idle.
//
// Enter at Group.Open in group.go; then open.go (a call that must wait), endpoint.go (which connection), dialing.go
// (when one is made), conn.go (one connection), stream.go (one stream). Package h2conn is what lies below Kitex's
// transport.
package pool

import (
	"context"
	"log/slog"
	"net"
	"sync"
)

// Pool holds the connections to every endpoint, in Groups of one policy each. It is safe for concurrent use.
type Pool struct {
	log     *slog.Logger
	own     *Group
	dialNet func(ctx context.Context, addr string) (net.Conn, error)

	ctx    context.Context // of every connection; ended by Close
	cancel context.CancelFunc
	wg     sync.WaitGroup // dials, watches and sweepers

	reach reach

	groups sync.Map // Config with its defaults -> *Group

	mu     sync.Mutex // guards closed, and the making and removing of endpoints
	closed bool
}

// New returns a Pool whose default Group has the policy cfg, which must be valid (Config.Validate). log gets
// connections made and lost at debug level.
func New(cfg Config, log *slog.Logger) *Pool {
	p := &Pool{log: log, dialNet: dialNet}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	p.own = p.Group(cfg)
	return p
}

// Default returns the Group with the policy that was given to New.
func (p *Pool) Default() *Group { return p.own }

// Group returns the Group with the policy cfg, which must be valid: the same one each time. A Group without endpoints
// costs next to nothing and is kept.
func (p *Pool) Group(cfg Config) *Group {
	cfg = withDefaults(cfg)
	if g, ok := p.groups.Load(cfg); ok {
		return g.(*Group)
	}
	g, _ := p.groups.LoadOrStore(cfg, &Group{pool: p, cfg: cfg})
	return g.(*Group)
}

// Leave is Group.Leave in every Group.
func (p *Pool) Leave(addr string) {
	for g := range p.all() {
		g.Leave(addr)
	}
}

// all visits every Group.
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

// Stats counts what the pool holds.
type Stats struct {
	Endpoints   int // addresses
	Connections int
	Streams     int
}

// Stats returns a count that is exact only when nothing changes meanwhile.
func (p *Pool) Stats() Stats {
	var s Stats
	for _, e := range p.Endpoints() {
		s.Endpoints++
		s.Connections += e.Connections
		s.Streams += e.Streams
	}
	return s
}

// EndpointStats counts what the pool holds of one endpoint, in all Groups.
type EndpointStats struct {
	Address     string
	Connections int
	Streams     int // on all of them

	// Failure is why no connection could be made the last time; nil if there is one, or none was wanted since.
	Failure *DialError
}

// Endpoints returns a count for each endpoint that had a call not long ago, as exact as that of Stats, in no order.
func (p *Pool) Endpoints() []EndpointStats {
	var list []EndpointStats
	place := map[string]int{} // of an address in list
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
				list[i].Streams += c.streams()
			}
		}
	}
	return list
}
