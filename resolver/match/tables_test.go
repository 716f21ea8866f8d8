package match

import (
	"github.com/framegate/framegate/resolver/spec"
)

// tables is a table that changes with the routes of some sources.
type tables struct {
	sources map[string]map[*spec.Route]*Entry[string]
	current Table[string]
}

func newTables() *tables {
	return &tables{sources: map[string]map[*spec.Route]*Entry[string]{}, current: NewTable[string](nil, nil)}
}

// Apply replaces the routes of a source.
func (t *tables) Apply(source string, routes []*spec.Route) {
	t.sources[source] = map[*spec.Route]*Entry[string]{}
	for _, r := range routes {
		t.sources[source][r] = NewEntry(r, source, r.Name)
	}
	t.rebuild()
}

// Update takes routes of a source away and adds others.
func (t *tables) Update(source string, gone, added []*spec.Route) {
	var without, come []*Entry[string]
	for _, r := range gone {
		without = append(without, t.sources[source][r])
		delete(t.sources[source], r)
	}
	for _, r := range added {
		e := NewEntry(r, source, r.Name)
		t.sources[source][r] = e
		come = append(come, e)
	}
	next, ok := t.current.Updated(without, come)
	if !ok {
		t.rebuild()
		return
	}
	t.current = next
}

func (t *tables) rebuild() {
	var all []*Entry[string]
	for _, entries := range t.sources {
		for _, e := range entries {
			all = append(all, e)
		}
	}
	t.current = NewTable(all, nil)
}
