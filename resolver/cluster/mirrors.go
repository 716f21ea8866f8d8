package cluster

import (
	"math/rand/v2"

	"github.com/framegate/framegate/resolver/spec"
)

// acquireMirrors sets b.mirrors, when b.all is set.
func (b *Backends) acquireMirrors() {
	if len(b.route.Mirrors) == 0 {
		return
	}
	b.mirrors = make([]*routeBackend, len(b.route.Mirrors))
	next := len(b.route.Backends)
	for i := range b.route.Mirrors {
		if b.route.Mirrors[i].Backend != nil {
			b.mirrors[i] = &b.all[next]
			next++
		}
	}
}

// copiesOf returns, for a call that begins, which of a route's mirrors get a copy of it: a bit for each, by its place.
func copiesOf(mirrors []spec.Mirror) (copies uint16) {
	for i := range mirrors {
		if share := mirrors[i].Share(); share == 1 || rand.Float64() < share {
			copies |= 1 << i
		}
	}
	return copies
}

// Document returns the route's document, which must not be changed; nil for a Target that Aim did not fill.
func (t *Target) Document() *spec.Route {
	if t.backends == nil {
		return nil
	}
	return t.backends.route
}

// Mirror returns the Target of a copy of the call, which goes to the backend of the route's i-th mirror. The copy does not
// count against the limits of the route, and has none of its times and retries.
func (t *Target) Mirror(i int, req *spec.Request) Target {
	m := Target{Route: t.Route, Pattern: t.Pattern, Mode: spec.ModeFrame, Authority: t.Authority, backends: t.backends, aside: true}
	m.choose(t.backends.mirrors[i])
	if b := t.backends.route.Mirrors[i].Backend.Balancer; b != nil && b.Hash != nil {
		m.key = hashOf(*b.Hash, req)
	}
	return m
}
