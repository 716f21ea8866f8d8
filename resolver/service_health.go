package resolver

import "slices"

// ServiceHealth is what becomes of the calls of a service, as far as the health of endpoints goes.
type ServiceHealth struct {
	table   *table
	entries []*entry // that take calls of the service
}

// ServiceHealth returns the health of the service whose calls would be like req, which has the listener, the authority and
// the headers, and not the method. It looks at the route that takes calls of the service as a whole, whether it names the
// service, a package or all; if there is none, at those that take single methods of it. before is what was returned
// for the same question earlier, or the zero value: it is returned if the routes are as they were.
func (r *Resolver) ServiceHealth(service string, req Request, before ServiceHealth) ServiceHealth {
	t := r.current.Load()
	if t == before.table {
		return before
	}
	now := ServiceHealth{table: t}
	all := Pattern{Kind: KindService, Prefix: "/" + service + "/"}
	req.Method = all.String() // which no pattern of a single method matches
	if !ValidMethod(all.Prefix + "x") {
		return now
	}
	if c := t.lookup(&req); c != nil {
		now.entries = []*entry{c.entry}
		return now
	}
	for _, c := range t.all {
		if c.pattern.Kind == KindExact && slices.Contains(c.pattern.enclosing(), all) && c.entry.route.listens(req.Listener) && c.meets(&req) && !slices.Contains(now.entries, c.entry) {
			now.entries = append(now.entries, c.entry)
		}
	}
	return now
}

// Known reports whether any route takes calls of the service.
func (h ServiceHealth) Known() bool { return len(h.entries) > 0 }

// Serving reports whether each of the routes has an endpoint that is usable now. It may be called again and again.
func (h ServiceHealth) Serving() bool {
	for _, e := range h.entries {
		if !e.backends.Serving() {
			return false
		}
	}
	return h.Known()
}

// Unreachable calls do for each endpoint that is not usable only because no connection could be made to it the last time,
// with the policy of its connections: somebody has to try again, as calls do.
func (h ServiceHealth) Unreachable(do func(pool *PoolPolicy, address string)) {
	for _, e := range h.entries {
		e.backends.Unreachable(do)
	}
}
