package resolver

import (
	"github.com/framegate/framegate/pool/policy"
	"github.com/framegate/framegate/resolver/cluster"
	"github.com/framegate/framegate/resolver/match"
	"github.com/framegate/framegate/resolver/spec"
)

// ServiceHealth tells whether calls of a service would find a usable endpoint.
type ServiceHealth struct {
	table   match.Table[*cluster.Backends]
	entries []*match.Entry[*cluster.Backends] // that take calls of the service
}

// ServiceHealth returns the health of a service for calls like req, of which Method is not used. It looks at the route that
// takes all calls of the service, whether that names the service, a package or all; if there is none, at the routes that
// take single methods of it. before is an earlier result for the same service and req, or the zero value; it is returned
// again if no route has changed since.
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

// Unreachable calls do, with the policy of its connections, for each endpoint that would be usable if the last connection to
// it could have been made. Without calls, somebody else has to try to connect again.
func (h ServiceHealth) Unreachable(do func(pool *policy.Policy, address string)) {
	for _, e := range h.entries {
		e.With.Unreachable(do)
	}
}
