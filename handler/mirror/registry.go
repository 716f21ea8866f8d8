package mirror

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/framegate/framegate/handler/leg"
	"github.com/framegate/framegate/handler/workers"
	"github.com/framegate/framegate/resolver/cluster"
	"github.com/framegate/framegate/resolver/spec"
)

// Defaults of Config.
const (
	DefaultMaxCalls = 10_000
	DefaultMaxBytes = 256 << 20
)

// Config says what a Registry needs.
type Config struct {
	// Serve takes a copy of a call to its end, at an endpoint of the target.
	Serve func(l *leg.Leg, t *cluster.Target)

	MaxCalls int   // copies of calls under way, of all mirrors together; 0 means no bound
	MaxBytes int64 // of the messages that wait for backends, of all mirrors together; 0 means no bound
	Log      *slog.Logger
}

// Registry has the mirrors of all routes in force. It is safe for concurrent use.
type Registry struct {
	cfg      Config
	maxCalls atomic.Int64
	calls    atomic.Int64    // copies under way at backends
	bytes    atomic.Int64    // that wait for them
	ctx      context.Context // of all copies; ends with Close
	cancel   context.CancelCauseFunc
	work     sync.WaitGroup // goroutines of copies

	sets sync.Map // *Set by *spec.Route

	mu     sync.Mutex // guards the fields below
	closed bool
	states map[key]*state
}

// Set has the mirrors of a version of a route, in the order of the document, and the selection of the route's backends.
type Set struct {
	Mirrors  []*Mirror
	Backends *Selection
	Responds bool // a mirror may answer calls

	// Primary stands for the route's backends when a mirror answers a call in their place: they get a copy. It is no mirror of the
	// route, and nil unless Responds.
	Primary *Mirror
}

// NewRegistry returns a registry without mirrors, which the caller closes.
func NewRegistry(cfg Config) *Registry {
	r := &Registry{cfg: cfg, states: map[key]*state{}}
	r.maxCalls.Store(int64(cfg.MaxCalls))
	r.ctx, r.cancel = context.WithCancelCause(context.Background())
	return r
}

// SetMaxCalls changes Config.MaxCalls for copies that begin from now on.
func (r *Registry) SetMaxCalls(n int) { r.maxCalls.Store(int64(n)) }

// errClosed ends copies that are under way when their Registry is closed.
var errClosed = errors.New("mirror: framegate ends")

// Close ends all copies and waits for them. Calls get no copies any more.
func (r *Registry) Close() {
	r.mu.Lock()
	r.closed = true
	for _, s := range r.states {
		r.closeOutlet(s)
	}
	r.mu.Unlock()
	r.cancel(errClosed)
	r.work.Wait()
}

// spreads reports whether a route needs a Set.
func spreads(route *spec.Route) bool { return len(route.Mirrors) > 0 || route.Select != nil }

// Come makes the mirrors of a version of a source's route, before calls meet it. Each Come has one Gone. What is known of a
// mirror stays if the version that follows comes before the one before has gone.
func (r *Registry) Come(source string, route *spec.Route) {
	if !spreads(route) {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	set := &Set{Backends: NewSelection(route.Select, spec.SelectKey)}
	for i := range route.Mirrors {
		doc := &route.Mirrors[i]
		k := key{source, route.Name, doc.Name}
		s := r.states[k]
		if s == nil {
			s = newState(k)
			r.states[k] = s
		}
		s.refs++
		r.setOutlet(s, route.Name, doc)
		if doc.Compare != nil {
			s.differences.keep(doc.Compare.Kept())
		}
		set.Mirrors = append(set.Mirrors, &Mirror{state: s, doc: doc, selection: NewSelection(doc.Select, spec.MirrorSelectKey(i)), registry: r})
		set.Responds = set.Responds || doc.Responds()
	}
	if set.Responds {
		doc := primaryDocument(route)
		set.Primary = &Mirror{state: newState(key{source: source, route: route.Name}), doc: doc, selection: set.Backends, registry: r}
	}
	r.sets.Store(route, set)
}

// primaryDocument says how the backends of a route get copies of calls that a mirror answers. They are no shadow: what they get of a
// request is whole, or the call ends, and they may be as slow as if they answered.
func primaryDocument(route *spec.Route) *spec.Mirror {
	return &spec.Mirror{
		Backend: &spec.MirrorBackend{}, WhenFull: spec.MirrorEnd, Queue: spec.Queue{Messages: primaryMessages, Bytes: primaryBytes},
		Timeout: cmp.Or(route.Timeout, primaryTimeout),
	}
}

// What may wait for the backends of one such call, and how long they may leave it waiting if the route does not say.
const (
	primaryMessages = 100_000
	primaryBytes    = 64 << 20
	primaryTimeout  = time.Minute
)

// Gone forgets a version of a route. Copies under way go on.
func (r *Registry) Gone(source string, route *spec.Route) {
	if _, ok := r.sets.LoadAndDelete(route); !ok {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range route.Mirrors {
		k := key{source, route.Name, route.Mirrors[i].Name}
		if s := r.states[k]; s != nil {
			if s.refs--; s.refs == 0 {
				delete(r.states, k)
				r.closeOutlet(s)
			}
		}
	}
}

// Of returns the mirrors of a version of a route; nil if it has none.
func (r *Registry) Of(route *spec.Route) *Set {
	if route == nil || !spreads(route) {
		return nil
	}
	if set, ok := r.sets.Load(route); ok {
		return set.(*Set)
	}
	return nil
}

// All returns the mirrors of all routes in force, by name, route and source.
func (r *Registry) All() (all []*Mirror) {
	r.sets.Range(func(_, set any) bool {
		all = append(all, set.(*Set).Mirrors...)
		return true
	})
	slices.SortFunc(all, func(a, b *Mirror) int {
		return cmp.Or(cmp.Compare(a.name, b.name), cmp.Compare(a.route, b.route), cmp.Compare(a.source, b.source))
	})
	return slices.CompactFunc(all, func(a, b *Mirror) bool { return a.state == b.state }) // a change of a route has two versions for a moment
}

// Statuses returns the states of All.
func (r *Registry) Statuses() []Status {
	all := r.All()
	states := make([]Status, len(all))
	for i, m := range all {
		states[i] = m.Status()
	}
	return states
}

// enter counts a copy that is to go to a backend, or reports false if there are as many as there may be.
func (r *Registry) enter() bool {
	if most := r.maxCalls.Load(); r.calls.Add(1) > most && most > 0 {
		r.leave()
		return false
	}
	return true
}

// leave ends what enter has counted.
func (r *Registry) leave() { r.calls.Add(-1) }

// Take implements leg.Room.
func (r *Registry) Take(n int64) bool {
	if most := r.cfg.MaxBytes; r.bytes.Add(n) > most && most > 0 {
		r.Give(n)
		return false
	}
	return true
}

// Give implements leg.Room.
func (r *Registry) Give(n int64) { r.bytes.Add(-n) }

// run runs a copy's goroutine, unless the registry is closed.
func (r *Registry) run(f func()) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return false
	}
	workers.Go(&r.work, f)
	return true
}
