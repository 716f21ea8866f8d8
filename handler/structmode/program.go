package structmode

import (
	"context"
	"crypto/sha256"
	"maps"
	"slices"

	"github.com/framegate/framegate/handler/structmode/rule"
	"github.com/framegate/framegate/resolver"
	"github.com/framegate/framegate/resolver/cluster"
	"github.com/framegate/framegate/resolver/schema"
	"github.com/framegate/framegate/resolver/spec"
)

// program is what a route in struct mode does to messages. It is immutable.
type program struct {
	rules     *rule.Program // nil without a schema, or when that is asked from the endpoints
	reflected *spec.Route   // the route, if the schema is asked from the endpoints
	key       string        // of what is made of their answers: another for another document
	pass      bool          // what cannot be decoded is forwarded as it came
	redacts   bool          // some rule redacts
	headers   []string      // that rules set
}

var _ resolver.Compiler = CompileRoute

// CompileRoute is the resolver.Compiler whose programs Proxy runs. It fails if the rules of a valid route do not fit its
// schema; the error names every rule and field. Without the schema that a route names, it says what can be said of the
// rules alone, and the program is of no use.
func CompileRoute(r *spec.Route, s *schema.Schema) (any, error) {
	p := &program{pass: r.Struct != nil && r.Struct.OnDecodeError == spec.DecodeErrorPass}
	if r.Struct != nil {
		for _, r := range r.Struct.Rules {
			p.redacts = p.redacts || r.Action == spec.ActionRedact
			p.headers = slices.AppendSeq(p.headers, maps.Keys(r.Set))
		}
	}
	switch {
	case r.Schema != nil && r.Schema.Reflection:
		doc, err := r.Encode()
		if err != nil {
			return nil, err
		}
		sum := sha256.Sum256(doc)
		p.reflected, p.key = r, string(sum[:])
		return p, rule.Check(r)
	case r.Schema != nil && s == nil:
		return p, rule.Check(r)
	case s != nil:
		var err error
		if p.rules, err = rule.Compile(r, s.Files()); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// HeadersSet returns the names of the headers that rules of a program set, which clients cannot send.
func HeadersSet(compiled any) []string {
	if p, ok := compiled.(*program); ok {
		return p.headers
	}
	return nil
}

// Redacts reports whether a rule of a program hides something of messages.
func Redacts(compiled any) bool {
	p, ok := compiled.(*program)
	return ok && p.redacts
}

// Rules returns the rules of a program for a call, nil without a schema. A schema that is to be asked from the endpoints of
// the call's backend is waited for.
func (m *Mode) Rules(ctx context.Context, t *cluster.Target, method string) (*rule.Program, error) {
	p, ok := t.Program.(*program)
	if !ok {
		return nil, nil
	}
	rules, e := m.rulesOf(ctx, p, t, method)
	if e != nil {
		return nil, e
	}
	return rules, nil
}
