package resolver

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Explanation says which route a call gets and why those that would have come first do not take it.
type Explanation struct {
	Chosen   *Considered  `json:"chosen" yaml:"chosen"`     // nil when no route matches
	Stronger []Considered `json:"stronger" yaml:"stronger"` // that match the method but not the call, strongest first; all of them when nothing is chosen
	Backends []string     `json:"backends" yaml:"backends"` // of the chosen route, for people (see Backend.String)

	// What names among the endpoints of the chosen route stand for, and which endpoints get no calls, for people.
	Endpoints []string `json:"endpoints,omitempty" yaml:"endpoints,omitempty"`

	// Own says that no route gets the call, or may not, since the listener answers it itself; empty for any other call.
	Own string `json:"own,omitempty" yaml:"own,omitempty"`

	// Of a chosen route in struct mode or with a schema.
	Mode   Mode     `json:"mode,omitempty" yaml:"mode,omitempty"`
	Schema string   `json:"schema,omitempty" yaml:"schema,omitempty"` // where it comes from, see SchemaRef.String
	Rules  []string `json:"rules,omitempty" yaml:"rules,omitempty"`   // that messages of the method meet, in order, see Rule.String

	Bypasses []Bypass `json:"bypasses,omitempty" yaml:"bypasses,omitempty"` // that the chosen route is part of
}

// Considered is one match entry of one route beside a call.
type Considered struct {
	Route    string `json:"route" yaml:"route"`
	Priority int    `json:"priority" yaml:"priority"`
	Match    string `json:"match" yaml:"match"`                       // see Match.String
	Reason   string `json:"reason,omitempty" yaml:"reason,omitempty"` // the first thing that does not fit, with what was wanted; empty if everything does
}

// Explain says why Resolve chooses as it does. It looks at every match entry: it is for people, not for calls.
func (r *Resolver) Explain(req Request) Explanation {
	x := Explanation{Stronger: []Considered{}, Backends: []string{}, Own: r.ownReason(&req)}
	for _, c := range r.current.Load().all {
		if !c.pattern.Match(req.Method) {
			continue
		}
		route := c.entry.route
		got := Considered{Route: route.Name, Priority: route.Priority, Match: route.Match[c.index].String(), Reason: cmp.Or(x.Own, c.mismatch(&req))}
		if got.Reason == "" {
			x.Chosen = &got
			for _, b := range route.Backends {
				x.Backends = append(x.Backends, b.String())
			}
			for i := range c.entry.balancer.all {
				x.Endpoints = append(x.Endpoints, c.entry.balancer.all[i].picker.group.explain()...)
			}
			if route.Mode == ModeStruct || route.Schema != nil {
				x.Mode, x.Rules = route.Mode, route.rulesFor(req.Method)
			}
			x.Bypasses = r.Bypasses(route)
			if route.Schema != nil {
				x.Schema = route.Schema.String()
			}
			break
		}
		x.Stronger = append(x.Stronger, got)
	}
	return x
}

// mostExplained is how many addresses of a name are listed, and mostLines how many names, and endpoints that get no calls.
const (
	mostExplained = 10
	mostLines     = 50
)

// explain says what names among the endpoints stand for, and which endpoints get no calls.
func (g *group) explain() (lines []string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	of := map[string][]string{}
	for _, m := range g.members {
		if m.name != "" {
			of[m.name] = append(of[m.name], m.host.Address())
		}
	}
	names := slices.Sorted(maps.Keys(of))
	for _, name := range names[:min(len(names), mostLines)] {
		all := of[name]
		line := name + " = " + strings.Join(all[:min(len(all), mostExplained)], ", ")
		if more := len(all) - mostExplained; more > 0 {
			line += fmt.Sprintf(" and %d more", more)
		}
		lines = append(lines, line)
	}
	if more := len(names) - mostLines; more > 0 {
		lines = append(lines, fmt.Sprintf("%d more names", more))
	}
	for _, b := range g.barred[:min(len(g.barred), mostLines)] {
		lines = append(lines, fmt.Sprintf("%s %s: %s", b.address, b.bar, b.why()))
	}
	if more := len(g.barred) - mostLines; more > 0 {
		lines = append(lines, fmt.Sprintf("%d more that get no calls", more))
	}
	return lines
}
