package match

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/framegate/framegate/resolver/spec"
)

// candidate is one match entry of one route, ready to be compared with calls. It is immutable.
type candidate struct {
	entry     any // the *Entry[T] of the route, in a Table[T]
	route     *spec.Route
	source    string
	index     int // of the match entry in its route
	pattern   spec.Pattern
	method    string // the pattern as it is written
	authority string // in lower case, "" for any; without its "*." if wild
	wild      bool   // any subdomain of authority matches
	port      bool   // authority has a port
	headers   []headerCondition
}

// headerCondition is a condition on a request header.
type headerCondition struct {
	doc   spec.HeaderMatch
	regex *regexp.Regexp // of doc.Regex
}

// newCandidate compiles a valid match entry.
func newCandidate(route *spec.Route, source string, index int) (*candidate, error) {
	m := route.Match[index]
	p, err := spec.ParsePattern(m.Method)
	if err != nil {
		return nil, err
	}
	c := &candidate{route: route, source: source, index: index, pattern: p, method: m.Method}
	c.authority, c.wild = strings.CutPrefix(strings.ToLower(m.Authority), "*.")
	c.port = hostOf(c.authority) != c.authority
	for _, h := range m.Headers {
		cond := headerCondition{doc: h}
		if h.Regex != nil {
			if cond.regex, err = h.Compile(); err != nil {
				return nil, err
			}
		}
		c.headers = append(c.headers, cond)
	}
	return c, nil
}

// candidatesOf returns a candidate with this entry for each match entry of a valid route.
func candidatesOf(route *spec.Route, source string, entry any) (all []*candidate) {
	for i := range route.Match {
		if c, err := newCandidate(route, source, i); err == nil { // routes are valid here; an entry that is not matches nothing
			c.entry = entry
			all = append(all, c)
		}
	}
	return all
}

// conditions returns the number of conditions beside the method and the listener.
func (c *candidate) conditions() int {
	n := len(c.headers)
	if c.authority != "" {
		n++
	}
	return n
}

// compareCandidates orders candidates, the stronger first: by priority, then the more specific pattern, then more conditions,
// then the route's name, then the source, then the order in the document.
func compareCandidates(a, b *candidate) int {
	switch {
	case a.route.Priority != b.route.Priority:
		return cmp.Compare(b.route.Priority, a.route.Priority)
	case a.pattern.MoreSpecific(b.pattern):
		return -1
	case b.pattern.MoreSpecific(a.pattern):
		return 1
	}
	return cmp.Or(
		cmp.Compare(b.conditions(), a.conditions()),
		cmp.Compare(a.route.Name, b.route.Name),
		cmp.Compare(a.source, b.source),
		cmp.Compare(a.index, b.index),
	)
}

// meets reports whether a call, whose method and listener are known to match, meets all other conditions. It does not
// allocate, except in regular expressions.
func (c *candidate) meets(req *spec.Request) bool {
	if c.authority != "" && !c.meetsAuthority(req.Authority) {
		return false
	}
	for i := range c.headers {
		if !c.headers[i].meets(req) {
			return false
		}
	}
	return true
}

func (c *candidate) meetsAuthority(authority string) bool {
	if !c.port {
		authority = hostOf(authority)
	}
	if c.wild { // there must be a label before the dot
		i := len(authority) - len(c.authority)
		return i > 1 && authority[i-1] == '.' && strings.EqualFold(authority[i:], c.authority)
	}
	return strings.EqualFold(authority, c.authority)
}

// hostOf cuts the port off an authority (RFC 3986 §3.2).
func hostOf(authority string) string {
	i := strings.LastIndexByte(authority, ':')
	if i < 0 || strings.IndexByte(authority[i:], ']') >= 0 {
		return authority
	}
	if strings.IndexByte(authority[:i], ':') >= 0 && authority[i-1] != ']' {
		return authority // an IPv6 address without brackets has no port
	}
	return authority[:i]
}

// MaxRegexValue bounds the values that a regular expression is tried on, in bytes, because the client chooses the value and
// the time of a match grows with it.
const MaxRegexValue = 1024

func (h *headerCondition) meets(req *spec.Request) bool {
	values := req.Values(h.doc.Name)
	switch {
	case h.doc.Present != nil:
		return (len(values) > 0) == *h.doc.Present
	case h.doc.Exact != nil:
		return slices.Contains(values, *h.doc.Exact)
	case h.doc.Prefix != nil:
		for _, v := range values {
			if strings.HasPrefix(v, *h.doc.Prefix) {
				return true
			}
		}
	default:
		for _, v := range values {
			if len(v) <= MaxRegexValue && h.regex.MatchString(v) {
				return true
			}
		}
	}
	return false
}

// mismatch says for people which condition a call does not meet, listener and method included; "" if it meets all.
func (c *candidate) mismatch(req *spec.Request) string {
	if r := c.route; !r.Listens(req.Listener) {
		return fmt.Sprintf("listener: %q, want %s", req.Listener, strings.Join(r.Listeners, " or "))
	}
	if !c.pattern.Match(req.Method) {
		return fmt.Sprintf("method: want %s", c.method)
	}
	if c.authority != "" && !c.meetsAuthority(req.Authority) {
		return fmt.Sprintf("authority: %q, want %s", req.Authority, c.route.Match[c.index].Authority)
	}
	for i := range c.headers {
		if h := &c.headers[i]; !h.meets(req) {
			return fmt.Sprintf("header %s: %s, want %s", h.doc.Name, showValues(req.Values(h.doc.Name)), h.doc)
		}
	}
	return ""
}

func showValues(values []string) string {
	if len(values) == 0 {
		return "absent"
	}
	return fmt.Sprintf("%q", values)
}
