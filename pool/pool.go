// Package pool shares HTTP/2 connections to endpoints among calls: it opens streams on them, makes more connections
// as streams grow, and retires them when they are told to go away, break or idle.
//
// Enter at Pool.Open; then endpoint.go (which connection), conn.go (one connection), stream.go (one stream). Package
// h2conn is what lies below Kitex's transport.
package pool

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/grpc"
)

// Pool holds the connections to every endpoint. It is safe for concurrent use.
type Pool struct {
	cfg Config
	log *slog.Logger

	ctx    context.Context // of every connection; ended by Close
	cancel context.CancelFunc
	wg     sync.WaitGroup // dials, watches and the sweeper

	endpoints sync.Map // address -> *endpoint

	mu     sync.Mutex // guards closed, and the making and removing of endpoints
	closed bool
}

// New returns a Pool. cfg must be valid (Config.Validate); log gets connections made and lost at debug level.
func New(cfg Config, log *slog.Logger) *Pool {
	p := &Pool{cfg: cfg.withDefaults(), log: log}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	if p.cfg.IdleTimeout > 0 {
		p.wg.Go(p.sweepIdle)
	}
	return p
}

// Open opens a stream to the endpoint at addr (host:port or unix:/path) on a connection with room, and makes one if
// there is none. ctx is the call's: it bounds the stream's life, and its deadline and outgoing metadata (Kitex
// metadata.NewOutgoingContext) are sent. Open returns within ConnectTimeout or when ctx ends. Errors: a *DialError, a
// *HeaderError, ErrClosed or ctx's own. The caller closes the Stream exactly once.
func (p *Pool) Open(ctx context.Context, addr string, hdr *grpc.CallHdr) (*Stream, error) {
	return p.open(ctx, addr, hdr, nil)
}

// Reopen is Open for a call that the endpoint certainly did not process (Stream.Unprocessed): on another connection
// than the failed stream's unless there is none and can be none. The caller still closes the failed stream.
func (p *Pool) Reopen(ctx context.Context, failed *Stream, hdr *grpc.CallHdr) (*Stream, error) {
	return p.open(ctx, failed.Address(), hdr, failed.conn)
}

func (p *Pool) open(ctx context.Context, addr string, hdr *grpc.CallHdr, avoid *conn) (*Stream, error) {
	for {
		e, err := p.endpoint(addr)
		if err != nil {
			return nil, err
		}
		s, err := e.open(ctx, hdr, avoid)
		if err != errEndpointGone {
			return s, err
		}
	}
}

// endpoint returns the endpoint of an address and makes it if need be.
func (p *Pool) endpoint(addr string) (*endpoint, error) {
	if e, ok := p.endpoints.Load(addr); ok {
		return e.(*endpoint), nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, ErrClosed
	}
	e, _ := p.endpoints.LoadOrStore(addr, newEndpoint(p, addr))
	return e.(*endpoint), nil
}

// Close ends every connection and the streams on them, and waits for the pool's goroutines. It may be called more than
// once.
func (p *Pool) Close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.cancel()
	p.endpoints.Range(func(_, e any) bool {
		e.(*endpoint).close()
		return true
	})
	p.wg.Wait()
}

// sweepIdle closes connections that have had no stream for IdleTimeout and forgets endpoints that have none left.
func (p *Pool) sweepIdle() {
	tick := time.NewTicker(max(p.cfg.IdleTimeout/4, 10*time.Millisecond))
	defer tick.Stop()
	for {
		select {
		case <-p.ctx.Done():
			return
		case now := <-tick.C:
			p.endpoints.Range(func(addr, v any) bool {
				if e := v.(*endpoint); e.sweep(now.Add(-p.cfg.IdleTimeout)) {
					p.mu.Lock()
					p.endpoints.CompareAndDelete(addr, e)
					p.mu.Unlock()
				}
				return true
			})
		}
	}
}

// Stats counts what the pool holds.
type Stats struct {
	Endpoints   int
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

// EndpointStats counts what the pool holds of one endpoint.
type EndpointStats struct {
	Address     string
	Connections int
	Streams     int // on all of them
}

// Endpoints returns a count for each endpoint that had a call not long ago, as exact as that of Stats, in no order.
func (p *Pool) Endpoints() []EndpointStats {
	var all []EndpointStats
	p.endpoints.Range(func(addr, v any) bool {
		e := EndpointStats{Address: addr.(string)}
		for _, c := range v.(*endpoint).all() {
			e.Connections++
			e.Streams += c.streams()
		}
		all = append(all, e)
		return true
	})
	return all
}
