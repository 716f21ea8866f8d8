package spec

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

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
