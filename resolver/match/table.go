package match

import (
	"slices"

	"github.com/framegate/framegate/resolver/spec"
)

// Entry is a valid route of a source, with a value of its owner's, which the Table does not look at. It is immutable.
type Entry[T any] struct {
	Route  *spec.Route
	Source string
	With   T

	candidates []*candidate
}

// NewEntry returns the entry of a valid route, which must not be changed afterwards.
func NewEntry[T any](route *spec.Route, source string, with T) *Entry[T] {
	e := &Entry[T]{Route: route, Source: source, With: with}
	e.candidates = candidatesOf(route, source, e)
	return e
}

// Table has the entries of routes, and tells which of them a call gets. It is immutable.
type Table[T any] struct{ *table }

// NewTable builds a table for calls of those listeners, or of every listener that a route names if there are none.
func NewTable[T any](entries []*Entry[T], listeners []string) Table[T] {
	all := make([][]*candidate, len(entries))
	for i, e := range entries {
		all[i] = e.candidates
	}
	return Table[T]{newTable(all, listeners)}
}

// Updated returns the table without the entries in gone and with those in come. It returns false if the change is so large
// that NewTable is cheaper, or cannot be made this way.
func (t Table[T]) Updated(gone, come []*Entry[T]) (Table[T], bool) {
	without := map[any]bool{}
	var removed, added []*candidate
	for _, e := range gone {
		without[e] = true
		removed = append(removed, e.candidates...)
	}
	for _, e := range come {
		added = append(added, e.candidates...)
	}
	next := t.updated(without, removed, added)
	return Table[T]{next}, next != nil
}

// Lookup returns the entry that a call gets, and the pattern of the match entry that the call met; nil if no route matches.
// It does not allocate, except in regular expressions.
func (t Table[T]) Lookup(req *spec.Request) (e *Entry[T], pattern string) {
	if c := t.lookup(req); c != nil {
		return c.entry.(*Entry[T]), c.method
	}
	return nil, ""
}

// OfService returns the entries that calls of a service go to, for calls like req, of which Method is not used. It is the
// entry that takes all calls of the service, whether that names the service, a package or all; if there is none, the entries
// that take single methods of it.
func (t Table[T]) OfService(service string, req spec.Request) (all []*Entry[T]) {
	for _, c := range t.ofService(service, req) {
		if e := c.entry.(*Entry[T]); !slices.Contains(all, e) {
			all = append(all, e)
		}
	}
	return all
}

// Explain returns the entry that a call gets, nil for none, and why stronger match entries do not take it. never, unless it
// is empty, is the reason why no entry does. Explain looks at every match entry, so it is for people, not for calls.
func (t Table[T]) Explain(req *spec.Request, never string) (e *Entry[T], why Reasons) {
	c, why := t.explain(req, never)
	if c != nil {
		e = c.entry.(*Entry[T])
	}
	return e, why
}
