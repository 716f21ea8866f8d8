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

// Change is what somebody wants to do with routes.
type Change struct {
	Put    []*spec.Route // valid, no two of one name
	Delete []string      // names, none of which is put
}

// Plan says what a Change would do. Everything in it is for people to read.
type Plan struct {
	Routes    []PlannedRoute `json:"routes" yaml:"routes"`       // in the order of the change
	Calls     []PlannedCalls `json:"calls" yaml:"calls"`         // by method
	Unreached []Unreached    `json:"unreached" yaml:"unreached"` // match entries that would take no call
	Bypasses  []Bypass       `json:"bypasses" yaml:"bypasses"`   // that the routes put would be part of

	// UnreachableHealth are match entries of the routes put that get no health checks.
	UnreachableHealth []Unreachable `json:"unreachable_health" yaml:"unreachable_health"`
}

// PlannedRoute says what would become of one route.
type PlannedRoute struct {
	Name     string   `json:"name" yaml:"name"`
	Outcome  Outcome  `json:"outcome" yaml:"outcome"`
	Revision int64    `json:"revision,omitempty" yaml:"revision,omitempty"` // as it is now; 0 if unknown or if it does not exist
	Keys     []string `json:"keys,omitempty" yaml:"keys,omitempty"`         // of an update: those of the document that would change, by name
}

// PlannedCalls says who takes the calls of some methods, now and after the change: of the methods of every match entry
// that comes, goes or belongs to a route that changes, and of every narrower pattern whose calls get other routes by it.
type PlannedCalls struct {
	Method string  `json:"method" yaml:"method"` // a pattern, see ParsePattern; methods that a narrower pattern matches have a line of their own if they change
	Now    []Taker `json:"now" yaml:"now"`       // strongest first, up to the first that takes all calls left
	Then   []Taker `json:"then" yaml:"then"`
}

// Taker is a match entry that takes calls.
type Taker struct {
	Route      string   `json:"route" yaml:"route"`
	Method     string   `json:"method" yaml:"method"`                             // the pattern by which it gets the call
	Conditions string   `json:"conditions,omitempty" yaml:"conditions,omitempty"` // that a call must meet beside; empty if none
	Backends   []string `json:"backends" yaml:"backends"`                         // see Backend.String
}

// Unreached is a match entry that takes no call, since a stronger one takes every call that it would.
type Unreached struct {
	Route string `json:"route" yaml:"route"`
	Match string `json:"match" yaml:"match"` // see Match.String
	By    Taker  `json:"by" yaml:"by"`
}

// NewPlan says what change would do to the routes as they are now, all of which are valid.
func NewPlan(now []*spec.Route, change Change) *Plan {
	p := &Plan{Routes: []PlannedRoute{}, Calls: []PlannedCalls{}, Unreached: []Unreached{}, Bypasses: []Bypass{}}
	then := make(map[string]*spec.Route, len(now))
	for _, r := range now {
		then[r.Name] = r
	}
	var changed []*spec.Route // versions that come or go
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

// ChangedKeys returns the keys at the top of the documents of two routes whose values differ.
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

func topLevel(r *spec.Route) map[string]any {
	var m map[string]any
	if doc, err := r.Encode(); err == nil { // valid routes have a document
		_ = yaml.Unmarshal(doc, &m)
	}
	return m
}

func patternsOf(routes []*spec.Route) map[spec.Pattern]bool {
	set := map[spec.Pattern]bool{}
	for p := range newCoverage(routes).byPattern {
		set[p] = true
	}
	return set
}

// compare fills Calls and Unreached. The patterns of changed versions are looked at whatever comes of it, those of the
// routes put for entries that are out of reach.
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

// concerned returns the patterns to look at, by text: those given, and those in use that are narrower than a changed one.
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

func describe(list []*candidate) []Taker {
	out := make([]Taker, len(list))
	for i, c := range list {
		out[i] = c.describe()
	}
	return out
}

func (c *candidate) describe() Taker {
	t := Taker{Route: c.route.Name, Method: c.method, Conditions: c.conditionText(), Backends: []string{}}
	for _, b := range c.route.Backends {
		t.Backends = append(t.Backends, b.String())
	}
	return t
}

// conditionText says what a call must meet beside the method, or "" if nothing.
func (c *candidate) conditionText() string {
	m := c.route.Match[c.index]
	m.Method = ""
	text := m.String()
	if l := c.route.Listeners; len(l) > 0 {
		text += " listener=" + strings.Join(l, "|")
	}
	return strings.TrimPrefix(text, " ")
}

// String is the taker on one line: its route, conditions and backends.
func (t Taker) String() string {
	s := t.Route
	if t.Conditions != "" {
		s += " [" + t.Conditions + "]"
	}
	return fmt.Sprintf("%s (%s)", s, strings.Join(t.Backends, ", "))
}
