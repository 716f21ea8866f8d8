package spec

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Summary returns in one line which calls a route matches and where they go, for people.
func (r *Route) Summary() string {
	var matches, backends []string
	for _, m := range r.Match {
		matches = append(matches, m.String())
	}
	for _, b := range r.Backends {
		backends = append(backends, b.String())
	}
	return fmt.Sprintf("%s -> %s", strings.Join(matches, ", "), strings.Join(backends, ", "))
}

// String returns the backend on one line, for people: its endpoints or its service, and its weight unless that is 1.
func (b Backend) String() string {
	var parts []string
	if b.Weight != nil && *b.Weight != 1 {
		parts = append(parts, fmt.Sprintf("%d x", *b.Weight))
	}
	if b.Service != "" {
		parts = append(parts, "service "+b.Service)
		for _, k := range slices.Sorted(maps.Keys(b.Tags)) {
			parts = append(parts, k+"="+b.Tags[k])
		}
	}
	for _, e := range b.Endpoints {
		parts = append(parts, e.Address)
	}
	return strings.Join(parts, " ")
}

// String says what the condition wants of the header's value, for people.
func (h HeaderMatch) String() string {
	switch {
	case h.Exact != nil:
		return fmt.Sprintf("exactly %q", *h.Exact)
	case h.Prefix != nil:
		return fmt.Sprintf("something that starts with %q", *h.Prefix)
	case h.Regex != nil:
		return fmt.Sprintf("a match of %q", *h.Regex)
	case h.Present != nil && *h.Present:
		return "any value"
	}
	return "none"
}

// String returns the entry on one line, for people: the method and the other conditions.
func (m Match) String() string {
	var b strings.Builder
	b.WriteString(m.Method)
	if m.Authority != "" {
		b.WriteString(" authority=" + m.Authority)
	}
	for _, h := range m.Headers {
		switch {
		case h.Exact != nil:
			fmt.Fprintf(&b, " %s=%s", h.Name, *h.Exact)
		case h.Prefix != nil:
			fmt.Fprintf(&b, " %s=%s*", h.Name, *h.Prefix)
		case h.Regex != nil:
			fmt.Fprintf(&b, " %s~%s", h.Name, *h.Regex)
		case h.Present != nil && *h.Present:
			b.WriteString(" " + h.Name)
		default:
			b.WriteString(" !" + h.Name)
		}
	}
	return b.String()
}

// String says where the schema comes from, for people.
func (s SchemaRef) String() string {
	switch {
	case s.Name != "":
		return s.Name
	case s.Reflection:
		return "asked from the endpoints"
	}
	return strings.Join(s.Files, ", ")
}

// String returns the rule on one line, for people.
func (r Rule) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s", r.On, r.Action)
	for _, p := range r.Fields.Paths {
		b.WriteString(" " + p)
	}
	for _, values := range []map[string]string{r.Fields.Values, r.Set} {
		for _, k := range slices.Sorted(maps.Keys(values)) {
			fmt.Fprintf(&b, " %s = %s", k, values[k])
		}
	}
	if r.Backend != "" {
		b.WriteString(" to " + r.Backend)
	}
	if r.Status != nil {
		b.WriteString(" with " + r.Status.Code)
	}
	if r.When != "" {
		b.WriteString(" when " + r.When)
	}
	return b.String()
}

// String returns the mirror on one line, for people: its name, what gets the copies, and of which calls and messages.
func (m *Mirror) String() string {
	parts := []string{m.Name + ":"}
	switch {
	case m.Backend != nil:
		parts = append(parts, m.Backend.Backend.String())
	case m.Record != nil:
		parts = append(parts, "files in "+m.Record.Path)
	case m.Kafka != nil:
		parts = append(parts, "topic "+m.Kafka.Topic+" of Kafka")
	case m.Elasticsearch != nil:
		parts = append(parts, "index "+m.Elasticsearch.Index+" of Elasticsearch")
	}
	if m.Percent != nil {
		parts = append(parts, fmt.Sprintf("%v %% of calls", *m.Percent))
	}
	if m.Select != nil {
		verb := "only"
		if !m.Select.Only() {
			verb = "all but"
		}
		var types []string
		for _, t := range m.Select.Types {
			types = append(types, t.String())
		}
		parts = append(parts, verb, strings.Join(types, ", "))
	}
	return strings.Join(parts, " ")
}

// String returns the condition on one line, for people.
func (t MessageType) String() string {
	s := t.When
	if t.Equals != nil {
		s = t.Field + " = " + t.Equals.String()
	}
	if t.Respond {
		s += " (and answers)"
	}
	return s
}

// String returns the fan-out on one line, for people: the mode, and where a call goes.
func (f *Fanout) String() string {
	s := string(f.Joins())
	if f.Targets.From == TargetsFromBackend {
		return s + " of every endpoint"
	}
	s += " of those that the header " + f.Targets.Key + " names, or else of "
	if f.DefaultTargets == DefaultTargetsOne {
		return s + "one"
	}
	return s + "all"
}

// RulesFor returns the rules that are applied to messages of a method, each on one line for people.
func (r *Route) RulesFor(method string) (rules []string) {
	if r.Struct == nil {
		return nil
	}
	for _, rule := range r.Struct.Rules {
		if p, err := ParsePattern(rule.Method); rule.Method == "" || err == nil && p.Match(method) {
			rules = append(rules, rule.String())
		}
	}
	return rules
}
