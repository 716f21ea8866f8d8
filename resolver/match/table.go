package match

import (
	"slices"

	"github.com/framegate/framegate/resolver/spec"
)

// Entry is a valid route of a source in tables, with what whoever made it keeps of it.
type Entry[T any] struct {
	Route  *spec.Route
	Source string
	With   T

	candidates []*candidate
}

// NewEntry returns the entry of a valid route. It is not changed afterwards.
func NewEntry[T any](route *spec.Route, source string, with T) *Entry[T] {
	e := &Entry[T]{Route: route, Source: source, With: with}
	e.candidates = candidatesOf(route, source, e)
	return e
}

// Table has the entries of routes, and tells which of them a call gets. It is immutable.
type Table[T any] struct{ *table }

// NewTable builds a table for the listeners that own has, or every one that a route names if own is empty.
func NewTable[T any](entries []*Entry[T], own []string) Table[T] {
	all := make([][]*candidate, len(entries))
	for i, e := range entries {
		all[i] = e.candidates
	}
	return Table[T]{newTable(all, own)}
}

// Updated returns the table without some entries and with others; false if that is a change for NewTable.
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

// Lookup returns the entry that a call gets, nil for none, and the pattern of its match entry that the call met. It does not
// allocate, except in regular expressions.
func (t Table[T]) Lookup(req *spec.Request) (e *Entry[T], pattern string) {
	if c := t.lookup(req); c != nil {
		return c.entry.(*Entry[T]), c.method
	}
	return nil, ""
}

// OfService returns the entries that calls of a service like req, which has no method, go to: that which takes calls of the
// service as a whole, whether it names the service, a package or all; if there is none, those that take single methods of it.
func (t Table[T]) OfService(service string, req spec.Request) (all []*Entry[T]) {
	for _, c := range t.ofService(service, req) {
		if e := c.entry.(*Entry[T]); !slices.Contains(all, e) {
			all = append(all, e)
		}
	}
	return all
}

// Explain says which entry a call gets, nil for none, and why those that would have come first do not take it. never, if it
// is not empty, is the reason why none does. It looks at every match entry: it is for people, not for calls.
func (t Table[T]) Explain(req *spec.Request, never string) (e *Entry[T], why Reasons) {
	c, why := t.explain(req, never)
	if c != nil {
		e = c.entry.(*Entry[T])
	}
	return e, why
}
