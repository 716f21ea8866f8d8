package match

import (
	"maps"
	"slices"
	"strings"

	"github.com/framegate/framegate/resolver/spec"
)

// Bounds of an update. For a larger change a new table is built.
const (
	maxUpdates  = 8   // patterns of the candidates that come and go
	maxAffected = 256 // prefixes whose buckets are made anew
	maxChanged  = 512 // prefixes in methods.changed
)

// updated returns the table without the candidates of the entries in without, which are in removed too, and with those in
// added. It returns nil if the change is one for newTable.
func (t *table) updated(without map[any]bool, removed, added []*candidate) *table {
	patterns := map[spec.Pattern]bool{}
	for _, c := range removed {
		patterns[c.pattern] = true
	}
	for _, c := range added {
		patterns[c.pattern] = true
		for _, l := range c.route.Listeners { // a listener that no route named before needs methods of its own
			if t.byListener[l] == nil && t.serves(l) {
				return nil
			}
		}
	}
	slices.SortFunc(added, compareCandidates)
	if len(patterns) > maxUpdates || patterns[spec.Pattern{Kind: spec.KindAny}] {
		return nil
	}
	kept := make([]*candidate, 0, len(t.all)+len(added))
	for _, c := range t.all {
		if !without[c.entry] {
			kept = append(kept, c)
		}
	}
	next := &table{listeners: t.listeners, all: mergeCandidates(kept, added), byListener: make(map[string]*methods, len(t.byListener))}
	if next.others = t.others.updated(next.all, "", patterns); next.others == nil {
		return nil
	}
	for l, m := range t.byListener {
		if next.byListener[l] = m.updated(next.all, l, patterns); next.byListener[l] == nil {
			return nil
		}
	}
	return next
}

// updated returns methods with new buckets, made from all, for the patterns and for all narrower ones. It returns nil if
// those are too many.
func (m *methods) updated(all []*candidate, listener string, patterns map[spec.Pattern]bool) *methods {
	affected := map[spec.Pattern][]*candidate{}
	for p := range patterns {
		affected[p] = nil
	}
	var between pauses
	for _, c := range all {
		between.yield()
		for p := range patterns {
			if strings.HasPrefix(c.pattern.Prefix, p.Prefix) {
				if c.route.Listens(listener) {
					affected[c.pattern] = append(affected[c.pattern], c)
				}
				break
			}
		}
		if len(affected) > maxAffected {
			return nil
		}
	}
	next := *m
	if next.changed = maps.Clone(m.changed); next.changed == nil {
		next.changed = map[string]*bucket{}
	}
	// The broader patterns first, because each bucket looks for its parent.
	for _, p := range slices.SortedFunc(maps.Keys(affected), func(a, b spec.Pattern) int {
		if b.MoreSpecific(a) {
			return -1
		}
		return 1
	}) {
		next.remake(p, affected[p])
	}
	if len(next.changed) > maxChanged {
		return nil
	}
	return &next
}

// remake replaces the bucket of a pattern by one with these candidates, which are sorted, strongest first.
func (m *methods) remake(p spec.Pattern, candidates []*candidate) {
	if len(candidates) == 0 {
		m.changed[p.Prefix] = nil
		if m.base(p.Kind)[p.Prefix] == nil {
			delete(m.changed, p.Prefix)
		}
		return
	}
	b := newBucket()
	for _, c := range candidates {
		b.add(c)
	}
	switch p.Kind {
	case spec.KindExact:
		b.under(m.broader(p.Prefix))
	case spec.KindService:
		b.under(m.packageOf(strings.TrimSuffix(p.Prefix, "/")))
	case spec.KindPackage:
		b.under(m.packageOf(strings.TrimSuffix(p.Prefix, ".")))
		m.longest = max(m.longest, len(p.Prefix))
	}
	b.finish()
	m.changed[p.Prefix] = b
}
