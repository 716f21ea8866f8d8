package resolver

import (
	"cmp"
	"slices"
	"strings"
)

// table is the immutable answer to every call: for each listener, the winner for each pattern, with broader patterns
// of higher priority already taken into account. A look-up costs at most one map access for the exact method, one for
// the service and one for each dot of the service's name, however many routes there are.
type table struct {
	listeners map[string]*methods // of the listeners that some route names
	others    *methods            // of every other listener
}

// methods maps prefixes (see Pattern) to winners.
type methods struct {
	exact    map[string]*entry
	services map[string]*entry
	packages map[string]*entry
	any      *entry
}

// entry is a route that is ready to take calls.
type entry struct {
	route    *Route
	balancer *balancer
}

// candidate is one match entry of one route.
type candidate struct {
	pattern Pattern
	entry   *entry
}

// newTable builds a table from valid routes.
func newTable(routes []*Route) *table {
	var all []candidate
	listeners := map[string]bool{}
	for _, r := range routes {
		e := &entry{route: r, balancer: newBalancer(r.Backends)}
		for _, m := range r.Match {
			p, err := ParsePattern(m.Method)
			if err != nil {
				continue // routes are valid here; a bad pattern matches nothing
			}
			all = append(all, candidate{pattern: p, entry: e})
		}
		for _, l := range r.Listeners {
			listeners[l] = true
		}
	}
	slices.SortStableFunc(all, compareCandidates)
	t := &table{listeners: make(map[string]*methods, len(listeners)), others: newMethods(all, "")}
	for l := range listeners {
		t.listeners[l] = newMethods(all, l)
	}
	return t
}

// compareCandidates puts the stronger first: priority, then the more specific pattern, then the name.
func compareCandidates(a, b candidate) int {
	switch {
	case a.entry.route.Priority != b.entry.route.Priority:
		return cmp.Compare(b.entry.route.Priority, a.entry.route.Priority)
	case a.pattern.moreSpecific(b.pattern):
		return -1
	case b.pattern.moreSpecific(a.pattern):
		return 1
	}
	return cmp.Compare(a.entry.route.Name, b.entry.route.Name)
}

// newMethods keeps, for each prefix, the strongest of the candidates whose pattern covers it. all is sorted, strongest
// first.
func newMethods(all []candidate, listener string) *methods {
	m := &methods{exact: map[string]*entry{}, services: map[string]*entry{}, packages: map[string]*entry{}}
	for _, c := range all {
		if !listens(c.entry.route, listener) {
			continue
		}
		switch dst := m.mapOf(c.pattern.Kind); {
		case dst == nil && m.any == nil:
			m.any = c.entry
		case dst != nil && dst[c.pattern.Prefix] == nil:
			dst[c.pattern.Prefix] = c.entry
		}
	}
	// Broader winners of higher priority displace narrower ones: broadest first, so that each step sees final winners.
	for _, prefix := range slices.SortedFunc(mapKeys(m.packages), byLength) {
		m.packages[prefix] = stronger(m.packages[prefix], m.packageOf(strings.TrimSuffix(prefix, ".")))
	}
	for prefix, e := range m.services {
		m.services[prefix] = stronger(e, m.packageOf(prefix))
	}
	for method, e := range m.exact {
		m.exact[method] = stronger(e, m.broader(method))
	}
	return m
}

func (m *methods) mapOf(k Kind) map[string]*entry {
	switch k {
	case KindExact:
		return m.exact
	case KindService:
		return m.services
	case KindPackage:
		return m.packages
	}
	return nil
}

func mapKeys(m map[string]*entry) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

func byLength(a, b string) int { return cmp.Compare(len(a), len(b)) }

// stronger returns the narrower entry unless the broader one has a higher priority.
func stronger(narrow, broad *entry) *entry {
	if broad != nil && broad.route.Priority > narrow.route.Priority {
		return broad
	}
	return narrow
}

func listens(r *Route, listener string) bool {
	return len(r.Listeners) == 0 || slices.Contains(r.Listeners, listener)
}

// lookup returns the route of a full method name, or nil. It does not allocate.
func (t *table) lookup(listener, method string) *entry {
	m := t.others
	if len(t.listeners) > 0 {
		if own, ok := t.listeners[listener]; ok {
			m = own
		}
	}
	if e, ok := m.exact[method]; ok {
		return e
	}
	return m.broader(method)
}

// broader looks a full method name up by its service, then its packages, then any.
func (m *methods) broader(method string) *entry {
	slash := strings.LastIndexByte(method, '/')
	if slash <= 0 {
		return m.any
	}
	if len(m.services) > 0 {
		if e, ok := m.services[method[:slash+1]]; ok {
			return e
		}
	}
	return m.packageOf(method[:slash])
}

// packageOf looks up the longest package that encloses name, such as "/a.b.Service", then any.
func (m *methods) packageOf(name string) *entry {
	for len(m.packages) > 0 {
		dot := strings.LastIndexByte(name, '.')
		if dot < 0 {
			break
		}
		if e, ok := m.packages[name[:dot+1]]; ok {
			return e
		}
		name = name[:dot]
	}
	return m.any
}
