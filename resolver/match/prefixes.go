package match

import (
	"math"
	"runtime"
	"slices"
	"strings"

	"github.com/framegate/framegate/resolver/spec"
)

// table has the candidates of all routes, by listener and by the prefix of their pattern. It is immutable. A look-up costs
// one map access for an exact method, else one for the service and one for each dot of the service's name, however many
// routes there are. Within one prefix, an index finds candidates by authority or by the value of a header.
type table struct {
	listeners  []string            // the listeners whose calls are looked up; empty for all that routes name
	all        []*candidate        // strongest first
	byListener map[string]*methods // by listener, for those that some route names
	others     *methods            // for all other listeners
}

// methods has the buckets of one listener by their prefixes (see Pattern).
type methods struct {
	exact    map[string]*bucket
	services map[string]*bucket
	packages map[string]*bucket
	longest  int                // length of the longest prefix in packages
	changed  map[string]*bucket // buckets that changed since the three maps were made, and count instead; nil for one that is gone
	any      *bucket            // of the pattern *; nil if there is none
}

// newTable builds a table from the candidates of valid routes, for those listeners, or for every listener that a route
// names if there are none.
func newTable(candidates [][]*candidate, listeners []string) *table {
	t := &table{listeners: listeners, byListener: map[string]*methods{}}
	var between pauses
	for _, of := range candidates {
		between.yield()
		t.all = append(t.all, of...)
		for _, c := range of[:min(len(of), 1)] {
			for _, l := range c.route.Listeners {
				if t.serves(l) {
					t.byListener[l] = nil
				}
			}
		}
	}
	slices.SortFunc(t.all, compareCandidates)
	t.others = newMethods(t.all, "")
	for l := range t.byListener {
		t.byListener[l] = newMethods(t.all, l)
	}
	return t
}

// serves reports whether calls of a listener are looked up in the table.
func (t *table) serves(listener string) bool {
	return len(t.listeners) == 0 || slices.Contains(t.listeners, listener)
}

// mergeCandidates merges two sorted lists.
func mergeCandidates(a, b []*candidate) []*candidate {
	if len(a) == 0 {
		return b
	}
	all := make([]*candidate, 0, len(a)+len(b))
	for _, c := range b {
		i, _ := slices.BinarySearchFunc(a, c, compareCandidates)
		all = append(append(all, a[:i]...), c)
		a = a[i:]
	}
	return append(all, a...)
}

// pauses lets other goroutines run while a large table is built. A build of ten thousand routes takes milliseconds, for which
// calls on the same processor would wait otherwise.
type pauses struct{ n int }

const yieldEvery = 128

// yield is called once for each route or bucket, and yields the processor at some of the calls.
func (p *pauses) yield() {
	if p.n++; p.n%yieldEvery == 0 {
		runtime.Gosched()
	}
}

// newMethods puts those candidates whose routes take calls of a listener into buckets. all is sorted, strongest first.
func newMethods(all []*candidate, listener string) *methods {
	m := &methods{exact: map[string]*bucket{}, services: map[string]*bucket{}, packages: map[string]*bucket{}}
	var between pauses
	for _, c := range all {
		between.yield()
		if c.route.Listens(listener) {
			m.make(c.pattern).add(c)
		}
	}
	for method, b := range m.exact {
		between.yield()
		b.under(m.broader(method))
	}
	for prefix, b := range m.services {
		b.under(m.packageOf(strings.TrimSuffix(prefix, "/")))
	}
	for prefix, b := range m.packages {
		b.under(m.packageOf(strings.TrimSuffix(prefix, ".")))
	}
	for _, byPrefix := range []map[string]*bucket{m.exact, m.services, m.packages} {
		for _, b := range byPrefix {
			between.yield()
			b.finish()
		}
	}
	if m.any != nil {
		m.any.finish()
	}
	return m
}

// make returns the bucket of a pattern, which it makes if there is none.
func (m *methods) make(p spec.Pattern) *bucket {
	byPrefix := m.base(p.Kind)
	if byPrefix == nil {
		if m.any == nil {
			m.any = newBucket()
		}
		return m.any
	}
	if p.Kind == spec.KindPackage {
		m.longest = max(m.longest, len(p.Prefix))
	}
	b := byPrefix[p.Prefix]
	if b == nil {
		b = newBucket()
		byPrefix[p.Prefix] = b
	}
	return b
}

// base returns the map of buckets for patterns of one kind; nil for KindAny, which has none.
func (m *methods) base(k spec.Kind) map[string]*bucket {
	switch k {
	case spec.KindExact:
		return m.exact
	case spec.KindService:
		return m.services
	case spec.KindPackage:
		return m.packages
	}
	return nil
}

// lookup returns the candidate that a call gets, or nil. It does not allocate, except in regular expressions.
func (t *table) lookup(req *spec.Request) *candidate {
	m := t.others
	if len(t.byListener) > 0 {
		if listeners, ok := t.byListener[req.Listener]; ok {
			m = listeners
		}
	}
	b := m.get(m.exact, req.Method)
	if b == nil {
		b = m.broader(req.Method)
	}
	var best *candidate
	floor := math.MinInt // priority of best: a candidate of a broader bucket needs a higher one to win
	for ; b != nil && b.above > floor; b = b.parent {
		if c := b.find(req, floor); c != nil {
			best, floor = c, c.route.Priority
		}
	}
	return best
}

// get returns the bucket of a prefix, or nil. base is the map of the prefix's kind.
func (m *methods) get(base map[string]*bucket, prefix string) *bucket {
	if len(m.changed) > 0 {
		if b, ok := m.changed[prefix]; ok {
			return b
		}
	}
	if len(base) == 0 {
		return nil
	}
	return base[prefix]
}

// broader returns the bucket of the narrowest pattern that encloses a full method name, beside its listeners: that of its service,
// else of its longest package, else of *. It returns nil if there is none.
func (m *methods) broader(method string) *bucket {
	name := method
	if len(method) > 0 {
		if slash := strings.IndexByte(method[1:], '/') + 1; slash > 0 {
			if b := m.get(m.services, method[:slash+1]); b != nil {
				return b
			}
			name = method[:slash]
		}
	}
	return m.packageOf(name)
}

// packageOf returns the bucket of the longest package that encloses name, such as "/a.b.Service", or else of *.
func (m *methods) packageOf(name string) *bucket {
	name = name[:min(len(name), m.longest)]
	for m.longest > 0 {
		dot := strings.LastIndexByte(name, '.')
		if dot < 0 {
			break
		}
		if b := m.get(m.packages, name[:dot+1]); b != nil {
			return b
		}
		name = name[:dot]
	}
	return m.any
}

// Routes returns the routes of the table, sorted by their first match entries, the strongest first.
func (t *table) Routes() (all []*spec.Route) {
	for _, c := range t.all {
		if c.index == 0 {
			all = append(all, c.route)
		}
	}
	return all
}

// ofService returns the candidates that Table.OfService returns the entries of.
func (t *table) ofService(service string, req spec.Request) (all []*candidate) {
	whole := spec.Pattern{Kind: spec.KindService, Prefix: "/" + service + "/"}
	req.Method = whole.String() // no pattern of a single method matches "/service/*"
	if !spec.ValidMethod(whole.Prefix + "x") {
		return nil
	}
	if c := t.lookup(&req); c != nil {
		return []*candidate{c}
	}
	for _, c := range t.all {
		if c.pattern.Kind == spec.KindExact && slices.Contains(c.pattern.Enclosing(), whole) && c.route.Listens(req.Listener) && c.meets(&req) {
			all = append(all, c)
		}
	}
	return all
}
