package match

import (
	"cmp"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/framegate/framegate/resolver/spec"
)

// Change is a change of routes.
type Change struct {
	Put    []*spec.Route // valid, no two of one name
	Delete []string      // names of routes, none of which is in Put
}

// Plan says what a Change would do. All of it is for people.
type Plan struct {
	Routes    []PlannedRoute `json:"routes" yaml:"routes"`       // in the order of the change
	Calls     []PlannedCalls `json:"calls" yaml:"calls"`         // by method
	Unreached []Unreached    `json:"unreached" yaml:"unreached"` // match entries that would take no call
	Bypasses  []Bypass       `json:"bypasses" yaml:"bypasses"`   // that would come with the routes in Change.Put

	// UnreachableHealth are the match entries of the routes in Change.Put that get no health checks.
	UnreachableHealth []Unreachable `json:"unreachable_health" yaml:"unreachable_health"`
}

// PlannedRoute says what would become of one route.
type PlannedRoute struct {
	Name     string   `json:"name" yaml:"name"`
	Outcome  Outcome  `json:"outcome" yaml:"outcome"`
	Revision int64    `json:"revision,omitempty" yaml:"revision,omitempty"` // of the route as it is now; 0 if unknown or if it does not exist
	Keys     []string `json:"keys,omitempty" yaml:"keys,omitempty"`         // of an update: the keys of the document that would change, sorted
}

// PlannedCalls says which match entries take the calls of a pattern's methods, now and after the change. A Plan has one for
// each pattern of a match entry that comes, goes or belongs to a route that changes, and for each narrower pattern whose
// calls would go to other routes.
type PlannedCalls struct {
	Method string         `json:"method" yaml:"method"` // a pattern, see ParsePattern; without the methods of narrower patterns, which have PlannedCalls of their own if they change
	Now    []EntrySummary `json:"now" yaml:"now"`       // strongest first, up to the first that takes all other calls
	Then   []EntrySummary `json:"then" yaml:"then"`
}

// EntrySummary is a match entry that takes calls.
type EntrySummary struct {
	Route      string   `json:"route" yaml:"route"`
	Method     string   `json:"method" yaml:"method"`                             // the pattern of the entry
	Conditions string   `json:"conditions,omitempty" yaml:"conditions,omitempty"` // the other conditions that a call must meet; empty if there are none
	Backends   []string `json:"backends" yaml:"backends"`                         // see Backend.String
}

// Unreached is a match entry that takes no call, since a stronger one takes every call that it would.
type Unreached struct {
	Route string       `json:"route" yaml:"route"`
	Match string       `json:"match" yaml:"match"` // see Match.String
	By    EntrySummary `json:"by" yaml:"by"`
}

// NewPlan returns what change would do to the routes as they are now, all of which are valid.
func NewPlan(now []*spec.Route, change Change) *Plan {
	p := &Plan{Routes: []PlannedRoute{}, Calls: []PlannedCalls{}, Unreached: []Unreached{}, Bypasses: []Bypass{}}
	then := make(map[string]*spec.Route, len(now))
	for _, r := range now {
		then[r.Name] = r
	}
	var changed []*spec.Route // the versions of routes that come or go
	for _, r := range change.Put {
		before := then[r.Name]
		planned := PlannedRoute{Name: r.Name, Outcome: Created}
		if before != nil {
			planned.Outcome = Updated
			if planned.Keys = ChangedKeys(before, r); len(planned.Keys) == 0 {
				planned.Outcome = Unchanged
			}
		}
		if planned.Outcome != Unchanged {
			changed = append(changed, r)
			if before != nil {
				changed = append(changed, before)
			}
		}
		then[r.Name] = r
		p.Routes = append(p.Routes, planned)
	}
	for _, name := range change.Delete {
		planned := PlannedRoute{Name: name, Outcome: NotFound}
		if before := then[name]; before != nil {
			planned.Outcome = Deleted
			changed = append(changed, before)
			delete(then, name)
		}
		p.Routes = append(p.Routes, planned)
	}
	p.UnreachableHealth = UnreachableHealth(change.Put)
	p.Bypasses = Bypasses(slices.Collect(maps.Values(then)), change.Put)
	p.compare(newCoverage(now), newCoverage(slices.Collect(maps.Values(then))), patternsOf(changed), patternsOf(change.Put))
	return p
}

// ChangedKeys returns the top-level keys whose values differ between the documents of two routes, sorted.
func ChangedKeys(a, b *spec.Route) []string {
	before, after := topLevel(a), topLevel(b)
	var keys []string
	for _, docs := range [][2]map[string]any{{before, after}, {after, before}} {
		for k, v := range docs[0] {
			if !reflect.DeepEqual(v, docs[1][k]) && !slices.Contains(keys, k) {
				keys = append(keys, k)
			}
		}
	}
	slices.Sort(keys)
	return keys
}

// topLevel returns the document of a route by its top-level keys.
func topLevel(r *spec.Route) map[string]any {
	var m map[string]any
	if doc, err := r.Encode(); err == nil { // valid routes have a document
		_ = yaml.Unmarshal(doc, &m)
	}
	return m
}

// patternsOf returns the patterns of all match entries of valid routes.
func patternsOf(routes []*spec.Route) map[spec.Pattern]bool {
	set := map[spec.Pattern]bool{}
	for p := range newCoverage(routes).byPattern {
		set[p] = true
	}
	return set
}

// compare fills Calls and Unreached. changed has the patterns of the versions that come or go, each of which gets
// PlannedCalls; put has those of the routes in Change.Put, which are checked for entries that take no call.
func (p *Plan) compare(now, then *coverage, changed, put map[spec.Pattern]bool) {
	for _, pattern := range concerned(now, then, changed, put) {
		takeNow, _ := now.of(pattern)
		takeThen, idle := then.of(pattern)
		if changed[pattern] || !slices.EqualFunc(takeNow, takeThen, sameEntry) {
			p.Calls = append(p.Calls, PlannedCalls{Method: pattern.String(), Now: describe(takeNow), Then: describe(takeThen)})
		}
		for _, c := range idle {
			isPut := slices.ContainsFunc(p.Routes, func(r PlannedRoute) bool { return r.Name == c.route.Name })
			tookCalls := slices.ContainsFunc(takeNow, func(d *candidate) bool { return sameEntry(d, c.candidate) })
			if isPut || tookCalls {
				p.Unreached = append(p.Unreached, Unreached{
					Route: c.route.Name, Match: c.route.Match[c.index].String(), By: c.by.describe(),
				})
			}
		}
	}
}

// concerned returns the patterns that a change may concern, sorted by text: those in changed and put, and all patterns in use
// that are narrower than one in changed.
func concerned(now, then *coverage, changed, put map[spec.Pattern]bool) []spec.Pattern {
	set := map[spec.Pattern]bool{}
	for _, patterns := range []map[spec.Pattern]bool{changed, put} {
		maps.Copy(set, patterns)
	}
	for _, t := range []*coverage{now, then} {
		for pattern := range t.byPattern {
			if slices.ContainsFunc(pattern.Enclosing(), func(q spec.Pattern) bool { return changed[q] }) {
				set[pattern] = true
			}
		}
	}
	return slices.SortedFunc(maps.Keys(set), func(a, b spec.Pattern) int { return cmp.Compare(a.String(), b.String()) })
}

// sameEntry reports whether two match entries, maybe of two versions of a route, take the same calls to the same route.
func sameEntry(a, b *candidate) bool {
	return a.route.Name == b.route.Name && a.pattern == b.pattern && a.conditionText() == b.conditionText()
}

// describe returns the candidates as EntrySummaries.
func describe(list []*candidate) []EntrySummary {
	out := make([]EntrySummary, len(list))
	for i, c := range list {
		out[i] = c.describe()
	}
	return out
}

func (c *candidate) describe() EntrySummary {
	t := EntrySummary{Route: c.route.Name, Method: c.method, Conditions: c.conditionText(), Backends: []string{}}
	for _, b := range c.route.Backends {
		t.Backends = append(t.Backends, b.String())
	}
	return t
}

// conditionText returns the conditions beside the method, for people; "" if there are none.
func (c *candidate) conditionText() string {
	m := c.route.Match[c.index]
	m.Method = ""
	text := m.String()
	if l := c.route.Listeners; len(l) > 0 {
		text += " listener=" + strings.Join(l, "|")
	}
	return strings.TrimPrefix(text, " ")
}

// String returns the match entry on one line: its route, conditions and backends.
func (t EntrySummary) String() string {
	s := t.Route
	if t.Conditions != "" {
		s += " [" + t.Conditions + "]"
	}
	return fmt.Sprintf("%s (%s)", s, strings.Join(t.Backends, ", "))
}
