// Package handler decides what happens to a call. It sees the client's and the endpoint's side of a call through the interfaces
// of package stream, whatever the transport.
//
// Enter at Proxy.Serve; then entrance.go (counts the calls of a listener), call.go (a call: its two directions and its end),
// upload.go (the request direction, and what is kept of it for further attempts), attempt.go (attempts at endpoints) and
// finish.go (the result): a plain call needs no other file. retry.go makes further attempts one after the other, hedge.go makes
// two at a time, and room.go waits for an endpoint that refuses the stream. timeouts.go ends calls that take too long.
// decide.go begins struct mode, in which the first message of a call may decide where the call goes. entrance.go also answers
// requests that are not gRPC. status.go has the local errors, observer.go and record.go report calls to observers, and
// tapsession.go shows messages.
//
// Packages below it: stream (the two sides of a call), kitexstream (a Kitex server's side of it), header (which metadata is
// forwarded), frame (copies frames), buffer (keeps a request for further attempts), local (the statuses that framegate makes), structmode
// (decodes messages and applies rules), budget (bounds the memory of messages) and tap (copies messages for framegate tap). accesslog and
// tracing are observers. acceptor accepts connections, and transserver serves them with Kitex.
package handler

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/codes"

	"github.com/framegate/framegate/handler/budget"
	"github.com/framegate/framegate/handler/header"
	"github.com/framegate/framegate/handler/leg"
	"github.com/framegate/framegate/handler/local"
	"github.com/framegate/framegate/handler/mirror"
	"github.com/framegate/framegate/handler/stream"
	"github.com/framegate/framegate/handler/structmode"
	"github.com/framegate/framegate/handler/tap"
	"github.com/framegate/framegate/pool"
	"github.com/framegate/framegate/pool/policy"
	"github.com/framegate/framegate/pool/transport"
	"github.com/framegate/framegate/resolver/cluster"
	"github.com/framegate/framegate/resolver/health"
	"github.com/framegate/framegate/resolver/spec"
)

// Router chooses where a call goes.
type Router interface {
	// Resolve sets t, which is zero, to where a call goes. It answers from memory: it does not block. It returns false if no route
	// matches.
	Resolve(t *cluster.Target, req spec.Request) bool
}

// DefaultMaxMessageBytes is the default bound of one message's payload.
const DefaultMaxMessageBytes = 64 << 20

// DefaultMaxHops is the default of Config.MaxHops.
const DefaultMaxHops = 8

// Config says what a Proxy needs.
type Config struct {
	Router          Router
	Ready           func() bool // reports whether Router has its first routes; until then a call without a route ends with not_ready; nil means yes
	Pool            stream.Opener
	PoolOf          func(*policy.Policy) stream.Opener // returns the pool of backends with a policy of their own; nil means that Pool serves them too
	OwnPoolOf       func(*policy.Policy) stream.Opener // returns the pool of streams of framegate's own, such as those that ask for a schema; nil means Pool and PoolOf
	Log             *slog.Logger
	MaxMessageBytes int64                     // of one message's payload, in struct mode also after decompression; 0 means no limit
	MaxHops         int                       // framegates that a call may have passed; 0 sends no via header and counts none
	MaxDecodedBytes int64                     // of all messages together that are decoded or held whole; 0 means no bound
	MaxCalls        map[string]int            // calls under way, by listener; 0 or no entry means no bound
	MaxMirrorCalls  int                       // copies of calls for mirrors under way; 0 means no bound
	Observers       []Observer                // are told of every call; at most 4
	Taps            *tap.Hub                  // the taps that messages are copied to; nil means that tapping is off
	Filters         []structmode.MethodFilter // for routes in struct mode; of several filters for one method the last counts
}

// Proxy forwards calls. It is safe for concurrent use.
type Proxy struct {
	router          Router
	ready           func() bool
	wasReady        atomic.Bool // ready was true once
	pool            stream.Opener
	poolOf          func(*policy.Policy) stream.Opener
	ownPoolOf       func(*policy.Policy) stream.Opener
	log             *slog.Logger
	maxMessageBytes atomic.Int64
	maxHops         int
	observers       atomic.Pointer[[]Observer]
	taps            *tap.Hub
	structMode      *structmode.Mode
	budget          *budget.Budget // nil for no bound
	mirrors         *mirror.Registry
	calls           calls

	entrancesMu sync.Mutex // guards the fields below
	maxCalls    map[string]int
	entrances   map[string]*entrance
}

// New returns a Proxy, which the caller closes after the last call. It panics if there are more observers than Config allows.
func New(cfg Config) *Proxy {
	p := &Proxy{
		router: cfg.Router, pool: cfg.Pool, poolOf: cfg.PoolOf, ownPoolOf: cfg.OwnPoolOf, log: cfg.Log, maxHops: cfg.MaxHops, taps: cfg.Taps,
		ready: cfg.Ready, maxCalls: cfg.MaxCalls, entrances: map[string]*entrance{},
	}
	p.wasReady.Store(cfg.Ready == nil)
	if cfg.MaxDecodedBytes > 0 {
		p.budget = budget.New(cfg.MaxDecodedBytes)
	}
	p.structMode = structmode.New(structmode.Config{Filters: cfg.Filters, Budget: p.budget, MaxBytes: p.maxMessageBytes.Load, Log: cfg.Log, Open: p.openOf})
	p.mirrors = mirror.NewRegistry(mirror.Config{Serve: p.serveCopy, MaxCalls: cfg.MaxMirrorCalls, MaxBytes: mirror.DefaultMaxBytes, Log: cfg.Log})
	p.SetObservers(cfg.Observers)
	p.SetMaxMessageBytes(cfg.MaxMessageBytes)
	return p
}

// SetObservers replaces Config.Observers for the calls that begin from now on. It may be called at any time. It panics if
// there are more observers than Config allows.
func (p *Proxy) SetObservers(all []Observer) {
	if len(all) > maxObservers {
		panic(fmt.Sprintf("handler: %d observers, want at most %d", len(all), maxObservers))
	}
	p.observers.Store(&all)
}

// SetMaxMessageBytes changes Config.MaxMessageBytes for the calls that begin from now on. It may be called at any time.
func (p *Proxy) SetMaxMessageBytes(n int64) { p.maxMessageBytes.Store(n) }

// Serve returns the function that takes a call of the listener from its first header to its end. It sends every call its
// result itself. Call Serve once a listener, not once a call.
func (p *Proxy) Serve(listener string) func(stream.Downstream) {
	e := p.entrance(listener)
	return func(down stream.Downstream) { serve(p, e, down, nil) }
}

// AuthorityFor returns the :authority of a call to the endpoint of its target: that of the route, or else the client's, or else
// the endpoint's own.
func AuthorityFor(t *cluster.Target, clients string) string {
	return cmp.Or(t.Authority, clients, t.Name, health.AuthorityOf(t.Address))
}

// checkHops returns the local error of a call that has passed too many framegates, because their routes lead to each other or
// the route of one leads to itself: they would hand the call on for ever.
func (p *Proxy) checkHops(via []string) *local.Error {
	n := header.Hops(via)
	if p.maxHops == 0 || n <= p.maxHops {
		return nil
	}
	e := local.Errorf(codes.Internal, local.ReasonLoopDetected, "the call has passed %d framegates, more than max_hops %d: their routes lead to each other", n, p.maxHops)
	e.Pushback = local.NoRetry // else each framegate that the call came through would send it round again
	return e
}

// openerOf returns the pool of the target's backend.
func (p *Proxy) openerOf(t *cluster.Target) stream.Opener {
	if policy := t.Pool(); policy != nil && p.poolOf != nil {
		return p.poolOf(policy)
	}
	return p.pool
}

// openOf opens a stream of framegate's own, such as one that asks for a schema, to an endpoint of a call's backend.
func (p *Proxy) openOf(ctx context.Context, t *cluster.Target, address string, hdr *transport.Header) (stream.Upstream, error) {
	own := p.ownPoolOf
	if own == nil {
		return p.openerOf(t).Open(ctx, address, hdr, pool.OpenOptions{})
	}
	return own(t.Pool()).Open(ctx, address, hdr, pool.OpenOptions{})
}

// Decoding returns how much of Config.MaxDecodedBytes is in use; the zero Stats if there is no bound.
func (p *Proxy) Decoding() budget.Stats {
	if p.budget == nil {
		return budget.Stats{}
	}
	return p.budget.Stats()
}

// serveCopy takes the copy of a call for a mirror to its end.
func (p *Proxy) serveCopy(l *leg.Leg, t *cluster.Target) { servePart(p, l, t) }

// Mirrors returns the mirrors of the routes in force, which the caller tells of routes that come and go.
func (p *Proxy) Mirrors() *mirror.Registry { return p.mirrors }

// Close ends copies of calls, and the goroutines that ask endpoints for schemas. Calls of routes with schema.reflection fail from
// now on.
func (p *Proxy) Close() {
	p.mirrors.Close()
	p.structMode.Close()
}

// wholeLimit returns how many bytes a message may have that is held whole.
func (p *Proxy) wholeLimit() int64 { return cmp.Or(p.maxMessageBytes.Load(), DefaultMaxMessageBytes) }

// EndCalls ends every call under way with UNAVAILABLE "draining". The caller has stopped accepting calls before.
func (p *Proxy) EndCalls() { p.calls.each(func(c *call) { c.abort(local.ErrDraining) }) }

// EndCallsAt ends every call under way at the endpoint with that address with UNAVAILABLE "draining".
func (p *Proxy) EndCallsAt(address string) {
	p.calls.each(func(c *call) {
		if c.attempts.goesTo(address) {
			c.abort(local.ErrEndpointLeft)
		}
	})
}

// calls is the list of the calls under way, linked through the calls themselves.
type calls struct {
	mu    sync.Mutex // guards first, and the prev and next of every call
	first *call
}

func (l *calls) add(c *call) {
	l.mu.Lock()
	c.next = l.first
	if l.first != nil {
		l.first.prev = c
	}
	l.first = c
	l.mu.Unlock()
}

func (l *calls) remove(c *call) {
	l.mu.Lock()
	if c.prev != nil {
		c.prev.next = c.next
	} else {
		l.first = c.next
	}
	if c.next != nil {
		c.next.prev = c.prev
	}
	l.mu.Unlock()
}

func (l *calls) each(f func(*call)) {
	l.mu.Lock()
	var all []*call
	for c := l.first; c != nil; c = c.next {
		all = append(all, c)
	}
	l.mu.Unlock()
	for _, c := range all {
		f(c)
	}
}
