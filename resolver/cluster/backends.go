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

// Backends are the backends of a version of a route at work, with its limits: a call goes to one by weight among those that
// have an endpoint that may be used, in turn with round_robin and else at random, and there to the endpoint that the
// route's policy chooses.
type Backends struct {
	route   *spec.Route
	source  string
	program any
	limits  *routeLimits
	all     []routeBackend
	named   map[string]*routeBackend // of all that have a name
	drawn   []drawnBackend           // those with a weight
	total   uint64                   // of the weights in drawn
	turns   balance.Picker           // of the backends in drawn, with round_robin; nil without
}

type drawnBackend struct {
	*routeBackend
	weight uint64
	upTo   uint64 // sum of the weights up to and with this one
}

// routeBackend is a backend at work for a version of a route.
type routeBackend struct {
	name   string
	picker *picker
	pool   *policy.Policy // nil for that of the gateway
	limits *limits
}

// Acquire returns the backends of a version of a route of a source, at work; program is Target.Program of its calls. Each
// Acquire has one Release, before which the next version is acquired: what both use stays.
func (u *Use) Acquire(route *spec.Route, source string, program any) *Backends {
	s := u.set
	st := s.limits.acquire(route, source)
	b := &Backends{
		route: route, source: source, program: program, limits: st,
		all: make([]routeBackend, len(route.Backends)), named: make(map[string]*routeBackend, len(route.Backends)),
	}
	how := pickerKeyOf(route.Balancer)
	for i := range route.Backends {
		doc := &route.Backends[i]
		at := &b.all[i]
		*at = routeBackend{name: doc.Name, picker: s.acquire(route, source, i).picker(how), pool: s.acquirePolicy(doc), limits: st.backend(route, i)}
		if doc.Name != "" {
			b.named[doc.Name] = at
		}
		if w := spec.WeightOf(doc.Weight); w > 0 {
			b.total += uint64(w)
			b.drawn = append(b.drawn, drawnBackend{at, uint64(w), b.total})
		}
	}
	if how.policy.Kind == balance.RoundRobin && len(b.drawn) > 1 {
		b.turns = b.newTurns(st.turns)
		st.turns = b.turns
	}
	return b
}

// Release gives back what Acquire took. Calls under way go on.
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

// Aim makes t, which is new, the target of a call of the route; pattern is that of the match entry that the call met. It does
// not allocate.
func (b *Backends) Aim(t *Target, pattern string, req *spec.Request) {
	r := b.route
	t.Route, t.Pattern, t.Mode, t.Authority = r.Name, pattern, r.Mode, r.Authority
	t.Timeout, t.IdleTimeout, t.MaxStreamAge = r.Timeout, r.IdleTimeout, r.MaxStreamAge
	t.Retry, t.Hedge, t.Program = r.Retry, r.Hedge, b.program
	t.backends = b
	if r.Balancer != nil && r.Balancer.Hash != nil {
		t.key = hashOf(*r.Balancer.Hash, req)
	}
}

// newTurns returns what takes the backends in turn, in the place of before, which may be nil.
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

// draw returns the backend that a call goes to, and nil if no backend has a weight. One with too few usable endpoints is
// drawn only if all are so, and one with none at all only if none has any. It does not allocate.
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

// drawOther draws among the backends that are well, or else those that are usable. It returns at if there are none.
func (b *Backends) drawOther(at *drawnBackend) *drawnBackend {
	for _, wanted := range []func(*routeBackend) bool{(*routeBackend).well, (*routeBackend).usable} {
		var total uint64
		for i := range b.drawn {
			if d := &b.drawn[i]; wanted(d.routeBackend) {
				// Each replaces the choice so far with the share that it has of the weights seen: one pass, no list.
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

// well reports whether the backend has endpoints that may be used, and not too few.
func (b *routeBackend) well() bool {
	c := b.picker.current.Load()
	return c.usable && !c.panic
}

// usable reports whether the backend has an endpoint that may be used.
func (b *routeBackend) usable() bool { return b.picker.current.Load().usable }

// Clusters returns the clusters of endpoints that the backends have, each once.
func (b *Backends) Clusters() (all []*Cluster) {
	for i := range b.all {
		if c := b.all[i].picker.cluster; !slices.Contains(all, c) {
			all = append(all, c)
		}
	}
	return all
}

// Explain says what names among the endpoints stand for, and which endpoints get no calls, for people.
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

// Unreachable calls do for each endpoint of a backend with a weight that is not usable only because no connection could be
// made to it the last time, with the policy of its connections.
func (b *Backends) Unreachable(do func(pool *policy.Policy, address string)) {
	for _, d := range b.drawn {
		for _, address := range d.picker.cluster.unreachable() {
			do(d.pool, address)
		}
	}
}

// Load is what is under way of the calls of the route.
func (b *Backends) Load() RouteLoad { return b.limits.load(b.route, b.source) }
