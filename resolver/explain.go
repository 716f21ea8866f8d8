package resolver

// Considered is one match entry of one route beside a call.
type Considered struct {
	Route    string `json:"route" yaml:"route"`
	Priority int    `json:"priority" yaml:"priority"`
	Match    string `json:"match" yaml:"match"`                       // see Match.String
	Reason   string `json:"reason,omitempty" yaml:"reason,omitempty"` // the first thing that does not fit, with what was wanted; empty if everything does
}
