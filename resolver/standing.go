package resolver

import (
	"fmt"
	"maps"
	"sync/atomic"

	"github.com/framegate/framegate/resolver/balance"
	"github.com/framegate/framegate/resolver/limit"
)

// standing is what counts the calls of a route against its limits. It stays while the route's document changes. The lock
// of the Resolver guards refs, backends and turns; calls use the rest.
type standing struct {
	key      string
	refs     int
	route    limits
	budget   atomic.Pointer[budget] // of further attempts; nil without Retry and Hedge
	backends map[string]*limits     // by Backend.key
	turns    balance.Picker         // of backends, of the newest version with round_robin; nil if there was none
}

// limits is Limits at work.
type limits struct {
	concurrent limit.Concurrency
	pending    limit.Concurrency
	rate       atomic.Pointer[rate] // nil without a rate
}

// rate is the token bucket of Limits, or the buckets.
type rate struct {
	doc     limit.Rate
	per     CallKey // of buckets
	whole   *limit.Bucket
	buckets *limit.Buckets
}

// budget is RetryBudget at work.
type budget struct {
	*limit.Budget
	doc RetryBudget
}

// maxBuckets bounds the token buckets of one route.
const maxBuckets = 10_000

// configure puts limits in force; nil is none. What is under way counts on.
func (l *limits) configure(doc *Limits) {
	if doc == nil {
		doc = &Limits{}
	}
	l.concurrent.SetMax(doc.Concurrent)
	l.pending.SetMax(doc.Pending)
	if doc.CallsPerSecond == 0 {
		l.rate.Store(nil)
		return
	}
	next := &rate{doc: doc.rate()}
	if doc.Per != nil {
		next.per = *doc.Per
	}
	if now := l.rate.Load(); now != nil && now.doc == next.doc && now.per == next.per {
		return
	}
	if doc.Per != nil {
		next.buckets = limit.NewBuckets(next.doc, maxBuckets)
	} else {
		next.whole = limit.NewBucket(next.doc)
	}
	l.rate.Store(next)
}

// standings are those of the routes in force, by source and name.
type standings map[string]*standing

// acquire returns the standing of a route, with the limits of its document in force. Each acquire has one release.
func (s standings) acquire(r *Route, source string) *standing {
	key := userOf(r, source)
	st := s[key]
	if st == nil {
		st = &standing{key: key, backends: map[string]*limits{}}
		s[key] = st
	}
	st.refs++
	st.route.configure(r.Limits)
	st.configureBudget(r)
	named := map[string]bool{}
	for i := range r.Backends {
		named[r.Backends[i].key(i)] = true
		st.backend(r, i).configure(r.Backends[i].Limits)
	}
	maps.DeleteFunc(st.backends, func(name string, _ *limits) bool { return !named[name] })
	return st
}

func (st *standing) configureBudget(r *Route) {
	var doc RetryBudget
	switch {
	case r.Retry != nil:
		doc = r.Retry.Budget
	case r.Hedge != nil:
		doc = r.Hedge.Budget
	default:
		st.budget.Store(nil)
		return
	}
	if now := st.budget.Load(); now == nil || now.doc != doc {
		st.budget.Store(&budget{limit.NewBudget(doc.Percent, doc.Min), doc})
	}
}

// backend returns the limits of the i-th backend of a version of the route.
func (st *standing) backend(r *Route, i int) *limits {
	name := r.Backends[i].key(i)
	l := st.backends[name]
	if l == nil {
		l = &limits{}
		st.backends[name] = l
	}
	return l
}

// key tells a backend, the i-th of its route, from the others.
func (b *Backend) key(i int) string {
	if b.Name != "" {
		return b.Name
	}
	return fmt.Sprintf("#%d", i)
}

func (s standings) release(st *standing) {
	if st.refs--; st.refs == 0 {
		delete(s, st.key)
	}
}
