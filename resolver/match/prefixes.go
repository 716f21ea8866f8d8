package match

import (
	"math"
	"runtime"
	"slices"
	"strings"

	"github.com/framegate/framegate/resolver/spec"
)

// table is the immutable answer to every call: for each listener, for each prefix that some pattern has, the match
// entries in the order in which they win. A look-up costs one map access for an exact method, else one for the service
// and one for each dot of the service's name, however many routes there are; entries of one prefix that differ by
// authority or by the value of a header are found by those.
type table struct {
	own       []string            // listeners that it is asked about; none for whatever routes name
	all       []*candidate        // strongest first
	Listeners map[string]*methods // of the listeners that some route names
	others    *methods            // of every other listener
}

// methods maps prefixes (see Pattern) to buckets.
type methods struct {
	exact    map[string]*bucket
	services map[string]*bucket
	packages map[string]*bucket
	longest  int                // of the prefixes in packages
	changed  map[string]*bucket // by prefix, instead of those above: what changed since they were made; nil is gone
	any      *bucket
}

// newTable builds a table from the candidates of valid routes, for the listeners that own has, or every one that a route
// names if own is empty.
func newTable(candidates [][]*candidate, own []string) *table {
	t := &table{own: own, Listeners: map[string]*methods{}}
	var between pauses
	for _, of := range candidates {
		between.yield()
		t.all = append(t.all, of...)
		for _, c := range of[:min(len(of), 1)] {
			for _, l := range c.route.Listeners {
				if t.isOwn(l) {
					t.Listeners[l] = nil
				}
			}
		}
	}
	slices.SortFunc(t.all, compareCandidates)
	t.others = newMethods(t.all, "")
	for l := range t.Listeners {
		t.Listeners[l] = newMethods(t.all, l)
	}
	return t
}

// isOwn reports whether the table is asked about a listener that routes name.
func (t *table) isOwn(listener string) bool {
	return len(t.own) == 0 || slices.Contains(t.own, listener)
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

// pauses lets calls run while a large table is built: a build of ten thousand routes takes milliseconds, in which the
// scheduler would else not turn to another goroutine of the same processor.
type pauses struct{ n int }

const yieldEvery = 128

func (p *pauses) yield() {
	if p.n++; p.n%yieldEvery == 0 {
		runtime.Gosched()
	}
}

// newMethods puts the candidates that listen on listener, strongest first, into buckets.
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

// make returns the pattern's bucket, which it makes if there is none.
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

// base returns the map of the prefixes of one kind; nil for KindAny, which has none.
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

// lookup returns the candidate that a call gets, or nil. It does not allocate.
func (t *table) lookup(req *spec.Request) *candidate {
	m := t.others
	if len(t.Listeners) > 0 {
		if own, ok := t.Listeners[req.Listener]; ok {
			m = own
		}
	}
	b := m.get(m.exact, req.Method)
	if b == nil {
		b = m.broader(req.Method)
	}
	var best *candidate
	floor := math.MinInt // only a higher priority beats what a narrower bucket has
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

// broader returns the narrowest bucket of a full method name that is not its own: of its service, its packages, any.
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

// packageOf returns the bucket of the longest package that encloses name, such as "/a.b.Service", then any.
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

// Routes returns the routes of the table, one after the other as their first match entries win.
func (t *table) Routes() (all []*spec.Route) {
	for _, c := range t.all {
		if c.index == 0 {
			all = append(all, c.route)
		}
	}
	return all
}

func (t *table) ofService(service string, req spec.Request) (all []*candidate) {
	whole := spec.Pattern{Kind: spec.KindService, Prefix: "/" + service + "/"}
	req.Method = whole.String() // which no pattern of a single method matches
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
