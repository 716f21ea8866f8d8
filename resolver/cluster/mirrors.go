package cluster

import (
	"math/rand/v2"

	"github.com/framegate/framegate/resolver/balance"
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

// Aside returns the Target of a copy of the call that goes where the call would go, while the call goes elsewhere. The copy does
// not count against the limits of the route, which the call itself does.
func (t *Target) Aside() Target {
	part := *t
	part.aside = true
	part.admitted, part.charged, part.Copies = false, false, 0
	part.tried, part.attempts = [maxTried]*balance.Host{}, 0
	part.Timeout, part.IdleTimeout, part.MaxStreamAge = 0, 0, 0
	return part
}

// Spreads reports whether the call may go to more than one place, or only in parts: its route has a mirror that gets a copy of it, a
// selection or a fan-out.
func (t *Target) Spreads() bool {
	return t.Copies != 0 || t.backends != nil && (t.backends.route.Select != nil || t.backends.route.Fanout != nil)
}

// GoTo sends the call to where m goes, which Mirror returned, in place of a backend of the route. The limits of the route go on to
// count the call. It must be called before the first Pick.
func (t *Target) GoTo(m Target) {
	m.admitted, m.budget, m.Copies = t.admitted, t.budget, t.Copies
	m.Timeout, m.IdleTimeout, m.MaxStreamAge, m.Program = t.Timeout, t.IdleTimeout, t.MaxStreamAge, t.Program
	*t = m
}
