package match

import (
	"slices"
	"strings"

	"github.com/framegate/framegate/resolver/spec"
)

// coverage tells for a pattern which match entries may get calls of it. It is for people: it looks at many entries.
type coverage struct {
	byPattern map[spec.Pattern][]*candidate // strongest first
}

// newCoverage takes valid routes.
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

// of returns the entries that may get calls of every method of p, strongest first: up to the first that takes whatever
// call is left, and without those that another always takes the calls from, which come second, each with that other.
// Entries of narrower patterns, which get some of the methods, are not looked at.
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

// idleCandidate is a match entry that gets no call, because by, which is stronger, takes all that it would.
type idleCandidate struct {
	*candidate
	by *candidate
}

// includes reports whether every call that meets the conditions of d, other than that on the method, is sure to meet
// those of c. It may miss that, where only several conditions of d together imply one of c.
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

// follows reports whether a call that meets g is sure to meet h.
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
