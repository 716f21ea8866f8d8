// Package handler decides what happens to a call: it is the Kitex handler of unknown methods.
//
// Enter at Proxy.Handler; then call.go (a call: its two directions and its end), upload.go (its request), attempt.go (its
// attempts at endpoints) and finish.go (the end): a plain call meets no more. A further attempt is in retry.go, two at a time in
// hedge.go, waiting for an endpoint that is full in room.go; timeouts.go ends calls by themselves; decide.go lets the first
// message of a call in struct mode decide where it goes. entrance.go counts the calls of a listener, refuse.go answers requests
// that are none, own.go calls of framegate's own services; status.go has the local errors, observer.go and record.go tell
// others what happened, watch.go shows messages.
//
// Below it: downstream (the client's stream), header (what becomes of metadata), frame (the copying of frames), buffer (what is
// kept of a request), local (the statuses that framegate makes), structmode (messages decoded and ruled), budget (what messages
// take of the memory) and tap (copies of messages for those who watch). Beside it, accesslog and tracing observe, and
// transserver takes connections before Kitex does.
package handler

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/codes"
	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/grpc"
	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/metadata"
	"github.com/cloudwego/kitex/pkg/streaming"

	"github.com/framegate/framegate/handler/budget"
	"github.com/framegate/framegate/handler/downstream"
	"github.com/framegate/framegate/handler/header"
	"github.com/framegate/framegate/handler/local"
	"github.com/framegate/framegate/handler/structmode"
	"github.com/framegate/framegate/handler/tap"
	"github.com/framegate/framegate/pool"
	"github.com/framegate/framegate/pool/policy"
	"github.com/framegate/framegate/resolver/cluster"
	"github.com/framegate/framegate/resolver/health"
	"github.com/framegate/framegate/resolver/spec"
)

// Router chooses where a call goes. It neither blocks nor fails.
type Router interface {
	Resolve(req spec.Request) (cluster.Target, bool)
}

// Opener opens streams to endpoints; see pool.Group.
type Opener interface {
	Open(ctx context.Context, addr string, hdr *grpc.CallHdr, opts pool.OpenOptions) (*pool.Stream, error)

	// Patience is how long a call without a deadline waits for a stream; 0 if calls do not wait for one.
	Patience() time.Duration
}

// DefaultMaxMessageBytes is the default bound of one message's payload.
const DefaultMaxMessageBytes = 64 << 20

// DefaultMaxHops is the default of Config.MaxHops.
const DefaultMaxHops = 8

// Config says what a Proxy needs.
type Config struct {
	Router          Router
	Ready           func() bool // reports whether Router has its first routes, and so whether a call that it has none for is final; nil means yes
	Pool            Opener
	PoolOf          func(*policy.Policy) Opener // of backends with a policy of their own; nil means that Pool serves them too
	Log             *slog.Logger
	MaxMessageBytes int64                     // of one message's payload, in struct mode also of the decoded one; 0 means no limit
	MaxHops         int                       // framegates that a call may have passed; 0 sends no via and counts none
	MaxDecodedBytes int64                     // of all messages that are decoded or held whole; 0 means no bound
	MaxCalls        map[string]int            // under way, by listener; 0 or no entry means no bound
	Observers       []Observer                // hear of every call; at most 4
	Taps            *tap.Hub                  // who watches messages; nil for nobody
	Filters         []structmode.MethodFilter // of methods on routes in struct mode; of several for one method the last counts
}

// Proxy forwards calls. It is safe for concurrent use.
type Proxy struct {
	router          Router
	ready           func() bool
	wasReady        atomic.Bool // ready was true once
	pool            Opener
	poolOf          func(*policy.Policy) Opener
	log             *slog.Logger
	maxMessageBytes atomic.Int64
	maxHops         int
	observers       atomic.Pointer[[]Observer]
	taps            *tap.Hub
	structs         *structmode.Mode
	budget          *budget.Budget // nil for no bound
	calls           calls

	entrancesMu sync.Mutex // guards what follows
	maxCalls    map[string]int
	entrances   map[string]*entrance
}

// New returns a Proxy, which the caller closes after the last call. It panics if there are more observers than Config allows.
func New(cfg Config) *Proxy {
	p := &Proxy{
		router: cfg.Router, pool: cfg.Pool, poolOf: cfg.PoolOf, log: cfg.Log, maxHops: cfg.MaxHops, taps: cfg.Taps,
		ready: cfg.Ready, maxCalls: cfg.MaxCalls, entrances: map[string]*entrance{},
	}
	p.wasReady.Store(cfg.Ready == nil)
	if cfg.MaxDecodedBytes > 0 {
		p.budget = budget.New(cfg.MaxDecodedBytes)
	}
	p.structs = structmode.New(structmode.Config{Filters: cfg.Filters, Budget: p.budget, MaxBytes: p.maxMessageBytes.Load, Log: cfg.Log, Open: p.openOf})
	p.SetObservers(cfg.Observers)
	p.SetMaxMessageBytes(cfg.MaxMessageBytes)
	return p
}

// SetObservers says who hears of the calls that begin from now on; see Config.Observers. It may be called at any time.
func (p *Proxy) SetObservers(all []Observer) {
	if len(all) > maxObservers {
		panic(fmt.Sprintf("handler: %d observers, want at most %d", len(all), maxObservers))
	}
	p.observers.Store(&all)
}

// SetMaxMessageBytes changes Config.MaxMessageBytes for the calls that begin from now on. It may be called at any time.
func (p *Proxy) SetMaxMessageBytes(n int64) { p.maxMessageBytes.Store(n) }

// Handler returns the handler for server.WithGRPCUnknownServiceHandler of the listener's Kitex server. It ends every
// call itself, and so returns an error only for a stream that is not Kitex's.
func (p *Proxy) Handler(listener string) func(context.Context, string, streaming.Stream) error {
	e := p.entrance(listener)
	return func(_ context.Context, _ string, st streaming.Stream) error {
		down, err := downstream.New(st)
		if err != nil {
			return err
		}
		p.serve(e, down)
		return nil
	}
}

// serve takes one call from its first header to its end.
func (p *Proxy) serve(e *entrance, down downstream.Stream) {
	md, _ := metadata.FromIncomingContext(down.Stream.Context())
	authority := header.Authority(md)
	c := p.newCall(down)
	valid := spec.ValidMethod(down.Stream.Method()) // else it is not counted
	if valid && (e.gated(down.Stream.Method()) || e.enter()) {
		c.entrance = e
	}
	defer c.leave()
	if c.observation != nil {
		c.observation.record.start(e.listener, down, md, authority)
		defer c.observeEnd()
	}
	defer c.recoverPanic()
	if !valid {
		c.giveUp(errBadPath(down.Stream.Method()))
		return
	}
	if c.entrance == nil {
		c.ending.limit = errOverloaded.Limit
		c.end(errOverloaded.Code, errOverloaded.Reason, func() { endOverloaded(down) })
		return
	}
	defer c.attempts.endAll() // run does so before, unless it is not come to
	req := spec.Request{Listener: e.listener, Method: down.Stream.Method(), Authority: authority, Header: md, Peer: down.Transport.RemoteAddr()}
	if e := p.route(c, req); e != nil {
		c.giveUp(e)
		return
	}
	target := &c.target
	if c.observation != nil {
		c.observation.record.resolved(target)
	}
	if e := p.checkHops(md); e != nil {
		c.giveUp(e)
		return
	}
	if err := target.Admit(&req); err != nil {
		c.giveUp(targetError(target, err))
		return
	}
	c.ctx = down.Stream.Context()
	if hasTimes(target) {
		defer limitTime(c)()
	}
	p.calls.add(c)
	defer p.calls.remove(c)
	if target.Mode == spec.ModeStruct {
		defer func() { c.struc.Close() }()
		if md == nil {
			md = metadata.MD{}
		}
		var e *local.Error
		if md, e = c.structured(md); e != nil {
			c.giveUp(e)
			return
		}
	} else {
		c.upload.ready()
	}
	unpicked := c.attempts.pick(&c.attempts.first)
	if c.observation != nil {
		c.observation.record.resolved(target)
		c.observation.start()
	}
	if unpicked != nil {
		c.giveUp(unpicked)
		return
	}
	c.attempts.current = &c.attempts.first
	if md == nil {
		md = metadata.MD{}
	}
	c.ctx, c.hdr = header.ForUpstream(c.ctx, down, md, cmp.Or(target.Authority, authority, target.Name, health.AuthorityOf(target.Address)))
	if p.maxHops > 0 {
		header.AddVia(md)
	}
	c.upload.keep()
	if c.struc != nil {
		c.struc.AcceptKnown(md)
	}
	if c.tapping.taps = p.taps.Watch(down.Stream.Method()); c.tapping.taps != nil {
		c.tapping.call = &tap.Call{
			Target: *target, Method: down.Stream.Method(), Peer: peerOf(down.Transport), Subtype: down.Stream.ContentSubtype(), Metadata: structmode.MetadataOf(md),
		}
	}
	c.run()
}

// hasTimes reports whether a route says how long its calls may take.
func hasTimes(t *cluster.Target) bool { return t.Timeout|t.IdleTimeout|t.MaxStreamAge != 0 }

// checkHops returns the local error of a call that has passed too many framegates: their routes lead to each other, or that
// of one to itself, and would hand it on for ever.
func (p *Proxy) checkHops(md metadata.MD) *local.Error {
	n := header.Hops(md)
	if p.maxHops == 0 || n <= p.maxHops {
		return nil
	}
	e := local.Errorf(codes.Internal, local.ReasonLoopDetected, "the call has passed %d framegates, more than max_hops %d: their routes lead to each other", n, p.maxHops)
	e.Pushback = local.NoRetry // by the framegates that it came through: each would send it round again
	return e
}

// route finds the call's target, or the reason why there is none.
func (p *Proxy) route(c *call, req spec.Request) *local.Error {
	ready := p.wasReady.Load() // before Resolve, which then knows all
	var ok bool
	if c.target, ok = p.router.Resolve(req); ok {
		return nil
	}
	if !ready {
		if !p.ready() {
			return errNotReady
		}
		p.wasReady.Store(true)
		if c.target, ok = p.router.Resolve(req); ok { // the routes came meanwhile
			return nil
		}
	}
	return local.Errorf(codes.Unimplemented, local.ReasonNoRoute, "no route matches %s", local.Printable(req.Method))
}

// openerOf returns what opens streams to the endpoints of a call.
func (p *Proxy) openerOf(t *cluster.Target) Opener {
	if policy := t.Pool(); policy != nil && p.poolOf != nil {
		return p.poolOf(policy)
	}
	return p.pool
}

// openOf opens a stream to an endpoint of a call's backend for something else than the call.
func (p *Proxy) openOf(ctx context.Context, t *cluster.Target, address string, hdr *grpc.CallHdr) (*pool.Stream, error) {
	return p.openerOf(t).Open(ctx, address, hdr, pool.OpenOptions{})
}

// Decoding returns what messages take of Config.MaxDecodedBytes; nothing without a bound.
func (p *Proxy) Decoding() budget.Stats {
	if p.budget == nil {
		return budget.Stats{}
	}
	return p.budget.Stats()
}

// Close ends what the proxy does beside calls. Calls of routes whose schema is asked from endpoints fail from now on.
func (p *Proxy) Close() { p.structs.Close() }

// EndCalls ends every call under way with UNAVAILABLE "draining". Whoever accepts calls has stopped to do so.
func (p *Proxy) EndCalls() { p.calls.each(func(c *call) { c.abort(errDraining) }) }

// EndCallsAt ends every call under way whose endpoint has that address with UNAVAILABLE "draining".
func (p *Proxy) EndCallsAt(address string) {
	p.calls.each(func(c *call) {
		if c.attempts.goesTo(address) {
			c.abort(errEndpointLeft)
		}
	})
}

// calls lists the calls under way.
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
