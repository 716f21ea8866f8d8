package cluster

import (
	"maps"
	"sync/atomic"

	"github.com/framegate/framegate/resolver/balance"
	"github.com/framegate/framegate/resolver/limit"
	"github.com/framegate/framegate/resolver/spec"
)

// RouteLoad counts the calls of a route that are under way, as its limits and its retry budget do. The numbers are read one
// after the other, so they may not add up while calls come and go.
type RouteLoad struct {
	Source, Route string
	Calls         int  // admitted
	Pending       int  // of these, calls that wait for a connection or a stream, if limits.pending is set somewhere
	Budget        bool // the route has a retry budget
	Budgeted      int  // calls that the budget counts
	Retries       int  // further attempts, of retry or hedge, that wait for their answers
	Backends      []BackendLoad
}

// BackendLoad is the part of a RouteLoad at one backend.
type BackendLoad struct {
	Backend        string // its name, or #0 and so on by its place in the route
	Calls, Pending int
}

// routeLimits counts the calls of a route against its limits. It stays when the route's document changes. The set's mu
// guards refs, backends and turns; calls use the rest.
type routeLimits struct {
	key      string
	refs     int
	route    limits
	budget   atomic.Pointer[budget] // of further attempts; nil without Retry and Hedge
	backends map[string]*limits     // by the key of spec.KeyedBackend
	turns    balance.Picker         // Backends.turns of the newest version with round_robin; nil if there was none
}

// limits counts calls against a spec.Limits.
type limits struct {
	concurrent limit.Concurrency
	pending    limit.Concurrency
	rate       atomic.Pointer[rate] // nil without a rate
}

// rate is the token bucket of a spec.Limits: one for all calls, or one for each value of a key.
type rate struct {
	doc     limit.Rate
	per     spec.CallKey   // the key of buckets
	whole   *limit.Bucket  // nil beside buckets
	buckets *limit.Buckets // nil beside whole
}

// budget counts calls and attempts against a spec.RetryBudget.
type budget struct {
	*limit.Budget
	doc spec.RetryBudget
}

// maxBuckets bounds the token buckets of one route.
const maxBuckets = 10_000

// configure changes the limits; nil means none. The calls under way stay counted.
func (l *limits) configure(doc *spec.Limits) {
	if doc == nil {
		doc = &spec.Limits{}
	}
	l.concurrent.SetMax(doc.Concurrent)
	l.pending.SetMax(doc.Pending)
	if doc.CallsPerSecond == 0 {
		l.rate.Store(nil)
		return
	}
	next := &rate{doc: doc.Rate()}
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

// allLimits has the limits of the routes in force, by userOf.
type allLimits map[string]*routeLimits

// acquire returns the limits of a route, configured as its document says. Each acquire has one release.
func (s allLimits) acquire(r *spec.Route, source string) *routeLimits {
	key := userOf(r, source)
	st := s[key]
	if st == nil {
		st = &routeLimits{key: key, backends: map[string]*limits{}}
		s[key] = st
	}
	st.refs++
	st.route.configure(r.Limits)
	st.configureBudget(r)
	named := map[string]bool{}
	for _, b := range r.EveryBackend() {
		named[b.Key] = true
		st.backend(b.Key).configure(b.Limits)
	}
	maps.DeleteFunc(st.backends, func(name string, _ *limits) bool { return !named[name] })
	return st
}

func (st *routeLimits) configureBudget(r *spec.Route) {
	var doc spec.RetryBudget
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

// backend returns the limits of a backend of the route, by the key of spec.KeyedBackend.
func (st *routeLimits) backend(key string) *limits {
	l := st.backends[key]
	if l == nil {
		l = &limits{}
		st.backends[key] = l
	}
	return l
}

func (s allLimits) release(st *routeLimits) {
	if st.refs--; st.refs == 0 {
		delete(s, st.key)
	}
}
