package resolver

import (
	"github.com/framegate/framegate/pool/policy"
	"github.com/framegate/framegate/resolver/cluster"
	"github.com/framegate/framegate/resolver/match"
	"github.com/framegate/framegate/resolver/spec"
)

// ServiceHealth is what becomes of the calls of a service, as far as the health of endpoints goes.
type ServiceHealth struct {
	table   match.Table[*cluster.Backends]
	entries []*match.Entry[*cluster.Backends] // that take calls of the service
}

// ServiceHealth returns the health of the service whose calls would be like req, which has the listener, the authority and
// the headers, and not the method. It looks at the route that takes calls of the service as a whole, whether it names the
// service, a package or all; if there is none, at those that take single methods of it. before is what was returned
// for the same question earlier, or the zero value: it is returned if the routes are as they were.
func (r *Resolver) ServiceHealth(service string, req spec.Request, before ServiceHealth) ServiceHealth {
	t := *r.current.Load()
	if t == before.table {
		return before
	}
	return ServiceHealth{t, t.OfService(service, req)}
}

// Known reports whether any route takes calls of the service.
func (h ServiceHealth) Known() bool { return len(h.entries) > 0 }

// Serving reports whether each of the routes has an endpoint that is usable now. It may be called again and again.
func (h ServiceHealth) Serving() bool {
	for _, e := range h.entries {
		if !e.With.Serving() {
			return false
		}
	}
	return h.Known()
}

// Unreachable calls do for each endpoint that is not usable only because no connection could be made to it the last time,
// with the policy of its connections: somebody has to try again, as calls do.
func (h ServiceHealth) Unreachable(do func(pool *policy.Policy, address string)) {
	for _, e := range h.entries {
		e.With.Unreachable(do)
	}
}
