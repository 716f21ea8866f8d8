package cluster

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"sort"

	"github.com/framegate/framegate/pool/policy"
	"github.com/framegate/framegate/resolver/balance"
	"github.com/framegate/framegate/resolver/spec"
)

// Backends has what the calls of a version of a route use: its backends with their clusters, and its limits. A call goes to
// one of the backends that have a usable endpoint, by weight (in turn with round_robin, else at random), and there to the
// endpoint that the route's balancer chooses.
type Backends struct {
	route   *spec.Route
	source  string
	program any
	limits  *routeLimits
	all     []routeBackend           // in the order of spec.Route.EveryBackend
	named   map[string]*routeBackend // by name, those of route.Backends that have one
	mirrors []*routeBackend          // by the place of the mirror in route.Mirrors; nil for one without a backend
	unary   []spec.Pattern           // of methods that answer with one message, as the route says
	drawn   []drawnBackend           // the backends with a weight, among which draw chooses
	total   uint64                   // sum of the weights in drawn
	turns   balance.Picker           // takes the backends in drawn in turn, with round_robin; else nil
}

// drawnBackend is a backend with a weight.
type drawnBackend struct {
	*routeBackend
	weight uint64
	upTo   uint64 // sum of the weights up to and with this one
}

// routeBackend is a backend of a version of a route.
type routeBackend struct {
	key    string // of spec.KeyedBackend
	name   string // may be empty
	picker *picker
	pool   *policy.Policy // of its connections; nil for the gateway's default
	limits *limits
}

// Acquire returns the Backends of a version of a route of a source; program is Target.Program of its calls. Each Acquire has
// one Release. The next version of a route is acquired before the version before it is released, so that what both use
// stays.
func (u *Use) Acquire(route *spec.Route, source string, program any) *Backends {
	s := u.set
	st := s.limits.acquire(route, source)
	every := route.EveryBackend()
	b := &Backends{
		route: route, source: source, program: program, limits: st, unary: unaryOf(route),
		all: make([]routeBackend, len(every)), named: make(map[string]*routeBackend, len(route.Backends)),
	}
	for i, doc := range every {
		at := &b.all[i]
		how := pickerKeyOf(doc.Balancer)
		*at = routeBackend{key: doc.Key, name: doc.Name, picker: s.acquire(route, source, doc).picker(how), pool: s.acquirePolicy(doc.Backend), limits: st.backend(doc.Key)}
		if i >= len(route.Backends) {
			at.name = doc.Key
			continue
		}
		if doc.Name != "" {
			b.named[doc.Name] = at
		}
		if w := spec.WeightOf(doc.Weight); w > 0 {
			b.total += uint64(w)
			b.drawn = append(b.drawn, drawnBackend{at, uint64(w), b.total})
		}
	}
	b.acquireMirrors()
	if pickerKeyOf(route.Balancer).policy.Kind == balance.RoundRobin && len(b.drawn) > 1 {
		b.turns = b.newTurns(st.turns)
		st.turns = b.turns
	}
	return b
}

// Release gives back what Acquire returned. Calls under way go on.
func (u *Use) Release(b *Backends) {
	s := u.set
	for i := range b.all {
		p := b.all[i].picker
		p.cluster.dropPicker(p)
		s.release(p.cluster, userOf(b.route, b.source))
		s.releasePolicy(b.all[i].pool)
	}
	s.limits.release(b.limits)
}

// Aim fills t, the zero Target, for a call of the route; pattern is that of the match entry that the call met. It does not
// allocate.
func (b *Backends) Aim(t *Target, pattern string, req *spec.Request) {
	r := b.route
	t.Route, t.Pattern, t.Mode, t.Authority = r.Name, pattern, r.Mode, r.Authority
	t.Timeout, t.IdleTimeout, t.MaxStreamAge = r.Timeout, r.IdleTimeout, r.MaxStreamAge
	t.Retry, t.Hedge, t.Program = r.Retry, r.Hedge, b.program
	t.backends = b
	if len(r.Mirrors) > 0 {
		t.Copies = copiesOf(r.Mirrors)
	}
	if r.Balancer != nil && r.Balancer.Hash != nil {
		t.key = hashOf(*r.Balancer.Hash, req)
	}
}

// newTurns returns a Picker that takes the backends in drawn in turn. It goes on where before stands, which may be nil.
func (b *Backends) newTurns(before balance.Picker) balance.Picker {
	members := make([]balance.Member, len(b.drawn))
	for i := range b.drawn {
		members[i] = balance.Member{Host: balance.NewHost(""), Weight: float64(b.drawn[i].weight)}
		members[i].Host.Owner = &b.drawn[i]
	}
	return balance.New(balance.Policy{Kind: balance.RoundRobin}, members, before)
}

func pickerKeyOf(doc *spec.Balancer) pickerKey {
	if doc == nil {
		doc = &spec.Balancer{}
	}
	return pickerKey{
		policy:    balance.Policy{Kind: balance.Kind(cmp.Or(doc.Policy, spec.WeightedRandom)), Decay: doc.Decay, BoundPercent: doc.BoundPercent},
		slowStart: doc.SlowStart,
	}
}

// draw returns the backend that a call goes to, nil if no backend has a weight. It returns a backend in panic only if no
// backend is well, and one without a usable endpoint only if no backend has one. It does not allocate.
func (b *Backends) draw() *routeBackend {
	if len(b.drawn) == 0 {
		return nil
	}
	at := &b.drawn[0]
	if len(b.drawn) > 1 {
		if b.turns != nil {
			at = b.turns.Pick(0, nil).Owner.(*drawnBackend)
		} else {
			n := rand.Uint64N(b.total)
			at = &b.drawn[sort.Search(len(b.drawn), func(i int) bool { return n < b.drawn[i].upTo })]
		}
		if !at.well() {
			at = b.drawOther(at)
		}
	}
	return at.routeBackend
}

// drawOther draws among the backends that are well, or else among those that are usable. It returns at if none is.
func (b *Backends) drawOther(at *drawnBackend) *drawnBackend {
	for _, wanted := range []func(*routeBackend) bool{(*routeBackend).well, (*routeBackend).usable} {
		var total uint64
		for i := range b.drawn {
			if d := &b.drawn[i]; wanted(d.routeBackend) {
				// Each backend replaces the choice so far with the probability that its weight is of the weights so far. So one
				// pass draws by weight, without a list.
				if total += d.weight; rand.Uint64N(total) < d.weight {
					at = d
				}
			}
		}
		if total > 0 {
			break
		}
	}
	return at
}

// well reports whether the backend has usable endpoints, and not so few that it is in panic.
func (b *routeBackend) well() bool {
	c := b.picker.current.Load()
	return c.usable && !c.panic
}

// usable reports whether the backend has an endpoint that calls may go to, in panic or not.
func (b *routeBackend) usable() bool { return b.picker.current.Load().usable }

// Clusters returns the clusters of the backends, each once.
func (b *Backends) Clusters() (all []*Cluster) {
	for i := range b.all {
		if c := b.all[i].picker.cluster; !slices.Contains(all, c) {
			all = append(all, c)
		}
	}
	return all
}

// Explain returns lines for people: which addresses the host names among the endpoints have, and which endpoints get no
// calls.
func (b *Backends) Explain() (lines []string) {
	for i := range b.all {
		lines = append(lines, b.all[i].picker.cluster.explain()...)
	}
	return lines
}

// Serving reports whether a backend with a weight has an endpoint that is usable now.
func (b *Backends) Serving() bool {
	return slices.ContainsFunc(b.drawn, func(d drawnBackend) bool { return d.picker.cluster.State().Usable > 0 })
}

// Unreachable calls do, with the policy of its connections, for each endpoint of a backend with a weight that would be usable
// if the last connection to it could have been made.
func (b *Backends) Unreachable(do func(pool *policy.Policy, address string)) {
	for _, d := range b.drawn {
		for _, address := range d.picker.cluster.unreachable() {
			do(d.pool, address)
		}
	}
}

// Load returns how many calls of the route are under way.
func (b *Backends) Load() RouteLoad {
	st := b.limits
	load := RouteLoad{Source: b.source, Route: b.route.Name, Calls: st.route.concurrent.Active(), Pending: st.route.pending.Active()}
	if budget := st.budget.Load(); budget != nil {
		load.Budget = true
		load.Budgeted, load.Retries = budget.Active()
	}
	for i := range b.all {
		l := b.all[i].limits
		load.Backends = append(load.Backends, BackendLoad{b.all[i].key, l.concurrent.Active(), l.pending.Active()})
	}
	return load
}
