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

// program is the compiled rules and schema of a route. It is immutable.
type program struct {
	rules     *rule.Compiled // nil without a schema, or if endpoints are asked for it
	reflected *spec.Route    // the route, if endpoints are asked for the schema; else nil
	key       string         // key in Mode.reflections: a hash of the route's document
	pass      bool           // on_decode_error: pass: messages that cannot be decoded are forwarded as they came
	redacts   bool           // the route has a redact rule
	headers   []string       // names that header rules set
}

var _ resolver.Compiler = CompileRoute

// CompileRoute compiles the rules of a valid route for its schema. It is the resolver.Compiler of the gateway, and the
// result is the Target.Program that Mode.Begin needs. It fails if the rules do not fit the schema; the error names every
// rule and field. If s is nil although the route names a schema, CompileRoute only checks what does not depend on the
// schema, and the program cannot run.
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

// HeadersSet returns the names of the headers that rules of a program set. What clients send under these names is not
// forwarded.
func HeadersSet(compiled any) []string {
	if p, ok := compiled.(*program); ok {
		return p.headers
	}
	return nil
}

// Redacts reports whether a program has a redact rule.
func Redacts(compiled any) bool {
	p, ok := compiled.(*program)
	return ok && p.redacts
}

// Rules returns the compiled rules and schema of a call's route, or nil if the route has no schema. It may block, while an
// endpoint is asked for the schema, until ctx ends.
func (m *Mode) Rules(ctx context.Context, t *cluster.Target, method string) (*rule.Compiled, error) {
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
