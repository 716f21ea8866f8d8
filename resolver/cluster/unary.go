package cluster

import "github.com/framegate/framegate/resolver/spec"

// unaryOf returns the patterns of the methods of which a valid route says that they answer with one message.
func unaryOf(route *spec.Route) (patterns []spec.Pattern) {
	if route.Fanout == nil {
		return nil
	}
	for _, text := range route.Fanout.Methods.Unary {
		if p, err := spec.ParsePattern(text); err == nil {
			patterns = append(patterns, p)
		}
	}
	return patterns
}

// Unary reports whether the route's document says that the method answers with one message; see spec.FanoutMethods.
func (t *Target) Unary(method string) bool {
	if t.backends == nil {
		return false
	}
	for _, p := range t.backends.unary {
		if p.Match(method) {
			return true
		}
	}
	return false
}
