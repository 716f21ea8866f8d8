package match

import (
	"slices"
	"strings"

	"github.com/framegate/framegate/resolver/spec"
)

// coverage tells which match entries may take calls of a pattern's methods. It looks at many entries, so it is for people.
type coverage struct {
	byPattern map[spec.Pattern][]*candidate // strongest first
}

// newCoverage returns the coverage of valid routes.
func newCoverage(routes []*spec.Route) *coverage {
	t := &coverage{byPattern: map[spec.Pattern][]*candidate{}}
	for _, r := range routes {
		for _, c := range candidatesOf(r, "", nil) {
			t.byPattern[c.pattern] = append(t.byPattern[c.pattern], c)
		}
	}
	for _, list := range t.byPattern {
		slices.SortFunc(list, compareCandidates)
	}
	return t
}

// of returns the entries that match every method of p, strongest first. Those in taking may take calls. Those in idle have
// the pattern p itself and take no call, because a stronger entry meets every call that they do. Entries of narrower
// patterns, which match some of the methods, are left out.
func (t *coverage) of(p spec.Pattern) (taking []*candidate, idle []idleCandidate) {
	var all []*candidate
	for _, q := range p.Enclosing() {
		all = append(all, t.byPattern[q]...)
	}
	slices.SortFunc(all, compareCandidates)
	for _, c := range all {
		i := slices.IndexFunc(taking, func(s *candidate) bool { return s.includes(c) })
		if i < 0 {
			taking = append(taking, c)
		} else if c.pattern == p {
			idle = append(idle, idleCandidate{candidate: c, by: taking[i]})
		}
	}
	return taking, idle
}

// idleCandidate is a match entry that takes no call.
type idleCandidate struct {
	*candidate
	by *candidate // the stronger entry that takes them all
}

// includes reports whether every call that meets the conditions of d, leaving out the method, is sure to meet those of c. It
// returns false although that is so if it takes several conditions of d together to imply one of c.
func (c *candidate) includes(d *candidate) bool {
	if want := c.route.Listeners; len(want) > 0 {
		got := d.route.Listeners
		if len(got) == 0 || slices.ContainsFunc(got, func(l string) bool { return !slices.Contains(want, l) }) {
			return false
		}
	}
	if !c.includesAuthority(d) {
		return false
	}
	for i := range c.headers {
		if !slices.ContainsFunc(d.headers, c.headers[i].follows) {
			return false
		}
	}
	return true
}

// includesAuthority reports whether every authority that meets d's condition is sure to meet that of c.
func (c *candidate) includesAuthority(d *candidate) bool {
	switch {
	case c.authority == "":
		return true
	case d.authority == "" || d.wild && !c.wild:
		return false
	case !d.wild:
		return c.meetsAuthority(d.authority)
	}
	domain := d.authority
	if !c.port {
		domain = hostOf(domain)
	}
	return domain == c.authority || strings.HasSuffix(domain, "."+c.authority)
}

// follows reports whether every call that meets g is sure to meet h.
func (h *headerCondition) follows(g headerCondition) bool {
	if h.doc.Name != g.doc.Name {
		return false
	}
	absent := g.doc.Present != nil && !*g.doc.Present
	switch {
	case h.doc.Present != nil:
		return *h.doc.Present != absent
	case h.doc.Exact != nil:
		return g.doc.Exact != nil && *g.doc.Exact == *h.doc.Exact
	case h.doc.Prefix != nil:
		return g.doc.Exact != nil && strings.HasPrefix(*g.doc.Exact, *h.doc.Prefix) ||
			g.doc.Prefix != nil && strings.HasPrefix(*g.doc.Prefix, *h.doc.Prefix)
	}
	return g.doc.Exact != nil && h.regex.MatchString(*g.doc.Exact) ||
		g.doc.Regex != nil && *g.doc.Regex == *h.doc.Regex
}
