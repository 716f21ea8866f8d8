package etcdsource

import (
	"sync"
	"time"

	"github.com/framegate/framegate/resolver"
	"github.com/framegate/framegate/resolver/cluster"
	"github.com/framegate/framegate/resolver/dns"
	"github.com/framegate/framegate/resolver/spec"
)

// waitingRoutes holds back routes whose endpoints have host names that were not looked up yet. A route comes into force once
// its names were looked up, so that its first calls find endpoints, or after maxWait without that. Until then the version
// of it that is in force stays, and no other route waits for it.
type waitingRoutes struct {
	// set once
	resolver *resolver.Resolver
	apply    func(docs map[string]version[spec.Route]) // puts routes in force
	maxWait  time.Duration                             // of a route
	news     chan struct{}                             // has room for one; filled by wake: a name was looked up, or a route waits

	mu  sync.Mutex // also held while routes come into force, so that none takes the place of a newer version
	all map[string]*waitingRoute
}

// waitingRoute is a version of a route that waits.
type waitingRoute struct {
	doc   version[spec.Route]
	hosts []string  // to be looked up
	until time.Time // when it comes into force at the latest
	stops []func()  // end the subscriptions to hosts
}

func newWaitingRoutes(r *resolver.Resolver, apply func(docs map[string]version[spec.Route])) *waitingRoutes {
	return &waitingRoutes{resolver: r, apply: apply, maxWait: cluster.NamesWait, news: make(chan struct{}, 1), all: map[string]*waitingRoute{}}
}

// put puts those routes in force that need not wait, and has the others wait. The zero version stands for a route that was
// deleted.
func (w *waitingRoutes) put(docs map[string]version[spec.Route]) {
	w.mu.Lock()
	defer w.mu.Unlock()
	ready := make(map[string]version[spec.Route], len(docs))
	for name, doc := range docs {
		before := w.all[name]
		delete(w.all, name)
		if at := w.waiting(doc); at != nil {
			w.all[name] = at
			w.wake()
		} else {
			ready[name] = doc
		}
		before.stop()
	}
	if len(ready) > 0 {
		w.apply(ready)
	}
}

// waiting subscribes to the host names that a route has to wait for. It returns nil if there are none.
func (w *waitingRoutes) waiting(doc version[spec.Route]) *waitingRoute {
	if doc.value == nil {
		return nil
	}
	names, hosts := w.resolver.Names(spec.ListedAddresses(doc.value))
	at := &waitingRoute{doc: doc, until: time.Now().Add(w.maxWait)}
	for _, host := range hosts {
		if !names.Known(host).Asked {
			at.hosts = append(at.hosts, host)
		}
	}
	if len(at.hosts) == 0 {
		return nil
	}
	for _, host := range at.hosts {
		at.stops = append(at.stops, names.Subscribe(host, dns.DefaultRefresh, w.wake))
	}
	return at
}

// stop ends the subscriptions. at may be nil.
func (at *waitingRoute) stop() {
	if at == nil {
		return
	}
	for _, stop := range at.stops {
		stop()
	}
}

func (w *waitingRoutes) wake() {
	select {
	case w.news <- struct{}{}:
	default:
	}
}

// run puts waiting routes in force when they have waited long enough. When ended is closed it puts all that are left in
// force, and returns.
func (w *waitingRoutes) run(ended <-chan struct{}) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		select {
		case <-w.news:
		case <-timer.C:
		case <-ended:
			w.putDue(func(*waitingRoute) bool { return true })
			return
		}
		if next := w.putReady(time.Now()); !next.IsZero() {
			timer.Reset(time.Until(next))
		}
	}
}

// putReady puts the routes in force whose names were all looked up or that have waited for maxWait. It returns when the
// first of the others will have waited for maxWait; zero if no other is left.
func (w *waitingRoutes) putReady(now time.Time) (next time.Time) {
	names, _ := w.resolver.Names(nil)
	w.putDue(func(at *waitingRoute) bool {
		if !now.Before(at.until) {
			return true
		}
		for _, host := range at.hosts {
			if !names.Known(host).Asked {
				if next.IsZero() || at.until.Before(next) {
					next = at.until
				}
				return false
			}
		}
		return true
	})
	return next
}

// putDue puts the waiting routes in force for which isDue is true.
func (w *waitingRoutes) putDue(isDue func(*waitingRoute) bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	due, docs := map[string]*waitingRoute{}, map[string]version[spec.Route]{}
	for name, at := range w.all {
		if isDue(at) {
			due[name], docs[name] = at, at.doc
		}
	}
	if len(due) == 0 {
		return
	}
	w.apply(docs)
	for name, at := range due { // after apply has subscribed: the answers for a name are forgotten with its last subscriber
		at.stop()
		delete(w.all, name)
	}
}

// before returns the highest revision, up to the one given, as of which no route is still waiting.
func (w *waitingRoutes) before(revision int64) int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, at := range w.all {
		revision = min(revision, at.doc.revision-1)
	}
	return revision
}
