package match

import (
	"cmp"

	"github.com/framegate/framegate/resolver/spec"
)

// Considered is a match entry that was compared with a call.
type Considered struct {
	Route    string `json:"route" yaml:"route"`
	Priority int    `json:"priority" yaml:"priority"`
	Match    string `json:"match" yaml:"match"`                       // see Match.String
	Reason   string `json:"reason,omitempty" yaml:"reason,omitempty"` // the first condition that the call does not meet, with what was wanted; empty if it meets all
}

// Reasons says for people why a call gets its route.
type Reasons struct {
	Chosen   *Considered  // nil when no route matches
	Stronger []Considered // entries that match the method but not the call, strongest first; all of them when nothing is chosen
}

func (t *table) explain(req *spec.Request, never string) (chosen *candidate, why Reasons) {
	why.Stronger = []Considered{}
	for _, c := range t.all {
		if !c.pattern.Match(req.Method) {
			continue
		}
		r := c.route
		got := Considered{Route: r.Name, Priority: r.Priority, Match: r.Match[c.index].String(), Reason: cmp.Or(never, c.mismatch(req))}
		if got.Reason == "" {
			why.Chosen = &got
			return c, why
		}
		why.Stronger = append(why.Stronger, got)
	}
	return nil, why
}
