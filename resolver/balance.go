package resolver

import (
	"cmp"
	"math/rand/v2"
	"sort"

	"github.com/framegate/framegate/resolver/balance"
)

// balancer has the backends of a version of a route: a call goes to one by weight among those that have an endpoint that
// may be used, in turn with round_robin and else at random, and there to the endpoint that the route's policy chooses.
type balancer struct {
	all   []routeBackend
	user  string                   // see userOf
	named map[string]*routeBackend // of all that have a name
	drawn []drawnBackend           // those with a weight
	total uint64                   // of the weights in drawn
	turns balance.Picker           // of the backends in drawn, with round_robin; nil without
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
	pool   *PoolPolicy // nil for that of the gateway
	limits *limits
}

// newBalancer acquires what it uses; release gives it back.
func newBalancer(r *Route, source string, s *groups, st *standing) *balancer {
	b := &balancer{user: userOf(r, source), all: make([]routeBackend, len(r.Backends)), named: make(map[string]*routeBackend, len(r.Backends))}
	how := pickerKeyOf(r.Balancer)
	for i := range r.Backends {
		doc := &r.Backends[i]
		at := &b.all[i]
		*at = routeBackend{name: doc.Name, picker: s.acquire(r, source, i).picker(how), pool: s.acquirePolicy(doc), limits: st.backend(r, i)}
		if doc.Name != "" {
			b.named[doc.Name] = at
		}
		if w := weightOf(doc.Weight); w > 0 {
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

// newTurns returns what takes the backends in turn, in the place of before, which may be nil.
func (b *balancer) newTurns(before balance.Picker) balance.Picker {
	members := make([]balance.Member, len(b.drawn))
	for i := range b.drawn {
		members[i] = balance.Member{Host: balance.NewHost(""), Weight: float64(b.drawn[i].weight)}
		members[i].Host.Owner = &b.drawn[i]
	}
	return balance.New(balance.Policy{Kind: balance.RoundRobin}, members, before)
}

func (b *balancer) release(s *groups) {
	for i := range b.all {
		p := b.all[i].picker
		p.group.dropPicker(p)
		s.release(p.group, b.user)
		s.releasePolicy(b.all[i].pool)
	}
}

func pickerKeyOf(doc *Balancer) pickerKey {
	if doc == nil {
		doc = &Balancer{}
	}
	return pickerKey{
		policy:    balance.Policy{Kind: balance.Kind(cmp.Or(doc.Policy, WeightedRandom)), Decay: doc.Decay, BoundPercent: doc.BoundPercent},
		slowStart: doc.SlowStart,
	}
}

// draw returns the backend that a call goes to, and nil if no backend has a weight. One with too few usable endpoints is
// drawn only if all are so, and one with none at all only if none has any. It does not allocate.
func (b *balancer) draw() *routeBackend {
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
func (b *balancer) drawOther(at *drawnBackend) *drawnBackend {
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
