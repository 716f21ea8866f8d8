package resolver

// newEntry returns the entry of a valid route.
func newEntry(use *Use, route *BoundRoute, source string) *entry {
	e := &entry{route: route.Route, source: source, backends: use.Acquire(route.Route, source, route.Program)}
	for i := range route.Match {
		if c, err := newCandidate(e, i); err == nil { // routes are valid here; what is not matches nothing
			e.candidates = append(e.candidates, c)
		}
	}
	return e
}
